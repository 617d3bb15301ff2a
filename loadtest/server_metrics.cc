#include "loadtest/server_metrics.h"

#include <boost/asio/ip/tcp.hpp>
#include <charconv>
#include <cstdlib>

#include "base/clock.h"
#include "loadtest/stream_reader.h"
#include "loadtest/url.h"

namespace latentd::loadtest {
namespace {

using boost::asio::ip::tcp;

// The body of GET `url`, or nothing.
std::string fetch(const std::string& url, const std::string& api_key) {
  const auto parsed = parse_url(url, 80);
  if (!parsed.ok()) return "";
  const std::string request =
      "GET " + (parsed->path.empty() ? "/" : parsed->path) + " HTTP/1.0\r\nHost: " + parsed->host +
      (api_key.empty() ? "" : "\r\nAuthorization: Bearer " + api_key) + "\r\n\r\n";
  std::string answer;
  try {
    tcp::iostream stream;
    stream.expires_after(std::chrono::seconds(1));
    stream.connect(parsed->host, std::to_string(parsed->port));
    stream << request << std::flush;
    answer.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  } catch (const std::exception&) {
    return "";
  }
  const std::size_t body = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.") || answer.compare(8, 5, " 200 ") != 0 || body == answer.npos) {
    return "";
  }
  return answer.substr(body + 4);
}

double value_of(const std::map<std::string, double, std::less<>>& values, std::string_view name) {
  const auto found = values.find(name);
  return found == values.end() ? 0.0 : found->second;
}

}  // namespace

std::map<std::string, double, std::less<>> parse_metrics(std::string_view text) {
  std::map<std::string, double, std::less<>> values;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    const std::size_t name_end = line.find_first_of("{ ");
    const std::size_t labels_end = line.rfind('}');
    std::size_t number = labels_end == line.npos ? name_end : labels_end + 1;
    if (name_end == line.npos || number >= line.size()) continue;
    number = line.find_first_not_of(' ', number);
    if (number == line.npos) continue;
    double value = 0.0;
    const auto parsed = std::from_chars(line.data() + number, line.data() + line.size(), value);
    if (parsed.ec == std::errc()) values[std::string(line.substr(0, name_end))] += value;
  }
  return values;
}

void ServerMetrics::begin(const std::string& url, const std::string& api_key) {
  url_ = url;
  api_key_ = api_key;
  before_ = parse_metrics(fetch(url_, api_key_));
  available_ = before_.contains("vllm:num_requests_running");
}

void ServerMetrics::sample(double at_seconds) {
  if (!available_) return;
  const auto values = parse_metrics(fetch(url_, api_key_));
  if (values.empty()) return;
  samples_.push_back({at_seconds, value_of(values, "vllm:num_requests_running"),
                      value_of(values, "vllm:num_requests_waiting"),
                      value_of(values, "vllm:kv_cache_usage_perc")});
}

void ServerMetrics::end() {
  if (available_) after_ = parse_metrics(fetch(url_, api_key_));
}

double ServerMetrics::growth(std::string_view name) const {
  return value_of(after_, name) - value_of(before_, name);
}

double ServerMetrics::mean_ms(const std::string& name) const {
  const double count = growth(name + "_count");
  return count > 0.0 ? growth(name + "_sum") / count * 1e3 : -1.0;
}

}  // namespace latentd::loadtest
