#include "server/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

namespace latentd {
namespace {

// Marks a payload that is already the inside of a JSON object.
constexpr char kStructured = '\x01';

std::atomic<bool> json_format{false};

template <typename Buffer>
void append_escaped(Buffer& out, std::string_view text) {
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20 || c == '\x7f') {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out.push_back(c);
    }
  }
}

class JsonPayload final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/,
              spdlog::memory_buf_t& out) override {
    const std::string_view payload(message.payload.data(), message.payload.size());
    if (!payload.empty() && payload.front() == kStructured) {
      out.append(payload.data() + 1, payload.data() + payload.size());
      return;
    }
    constexpr std::string_view kKey = "\"message\":\"";
    out.append(kKey.data(), kKey.data() + kKey.size());
    append_escaped(out, payload);
    out.push_back('"');
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonPayload>();
  }
};

bool needs_quotes(std::string_view value) {
  return value.empty() || value.find_first_of(" \"\\=") != std::string_view::npos ||
         std::ranges::any_of(value, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

}  // namespace

void configure_logging(const std::string& level, LogFormat format) {
  auto logger = std::make_shared<spdlog::logger>("latentd",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  json_format = format == LogFormat::kJson;
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  if (format == LogFormat::kJson) {
    formatter->add_flag<JsonPayload>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l",%*})");
  } else {
    formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v");
  }
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

void log_event(std::string_view event, const LogFields& fields) {
  std::string line;
  if (json_format) {
    line = kStructured;
    line += "\"event\":\"";
    append_escaped(line, event);
    line += '"';
    for (const auto& [key, value] : fields) {
      line += ",\"" + key + "\":\"";
      append_escaped(line, value);
      line += '"';
    }
  } else {
    line = event;
    for (const auto& [key, value] : fields) {
      line += " " + key + "=";
      const bool quotes = needs_quotes(value);
      if (quotes) line += '"';
      append_escaped(line, value);
      if (quotes) line += '"';
    }
  }
  spdlog::info(std::string_view(line));
}

}  // namespace latentd
