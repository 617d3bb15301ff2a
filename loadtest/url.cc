#include "loadtest/url.h"

#include <charconv>

namespace latentd::loadtest {

Result<Url> parse_url(std::string_view text, int default_port) {
  const std::string whole(text);
  if (text.starts_with("https://")) return invalid_argument("url", "https is not supported");
  if (text.starts_with("http://")) text.remove_prefix(7);
  Url url;
  const std::size_t slash = text.find('/');
  if (slash != text.npos) {
    url.path = text.substr(slash);
    while (url.path.ends_with('/')) url.path.pop_back();
    text = text.substr(0, slash);
  }
  url.port = default_port;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == text.npos) return invalid_argument("url", "no ] in " + whole);
    url.host = text.substr(1, end - 1);
    port = text.substr(end + 1);
  } else {
    const std::size_t colon = text.find(':');
    url.host = text.substr(0, colon);
    port = colon == text.npos ? std::string_view() : text.substr(colon);
  }
  if (port.starts_with(':')) {
    port.remove_prefix(1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || end != port.data() + port.size()) url.port = 0;
  } else if (!port.empty()) {
    url.port = 0;
  }
  if (url.host.empty() || url.port < 1 || url.port > 65535) {
    return invalid_argument("url", "must look like http://host:port, got '" + whole + "'");
  }
  return url;
}

}  // namespace latentd::loadtest
