#include "server/text/json_extent.h"

#include <nlohmann/json.hpp>

namespace latentd {

std::size_t JsonExtent::take(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
        done_ = depth_ == 0;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if ((c == '}' || c == ']') && depth_ > 0) {
      done_ = --depth_ == 0;
    } else if (scalar_ && std::string_view(",}] \t\r\n<").find(c) != std::string_view::npos) {
      done_ = true;
      return i;
    } else if (!started_) {
      scalar_ = true;
    }
    started_ = true;
    if (done_) return i + 1;
  }
  return text.size();
}

std::string decode_json_string(std::string_view text) {
  const auto value = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  return value.is_string() ? value.get<std::string>() : std::string(text);
}

std::string encode_json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool is_json(std::string_view text) { return nlohmann::json::accept(text.begin(), text.end()); }

}  // namespace latentd
