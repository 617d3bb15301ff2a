#include "server/text/stop_matcher.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

#include "server/text/utf8.h"

namespace latentd {

Result<StopMatcher> StopMatcher::create(const std::vector<std::string>& stops,
                                        bool include_stop_str_in_output) {
  if (stops.size() > kMaxStops) {
    return invalid_argument(
        "stop", fmt::format("at most {} stop strings, got {}", kMaxStops, stops.size()));
  }
  StopMatcher matcher;
  matcher.include_stop_ = include_stop_str_in_output;
  for (const std::string& stop : stops) {
    if (stop.empty()) return invalid_argument("stop", "a stop string must not be empty");
    if (stop.size() > kMaxStopBytes) {
      return invalid_argument("stop", fmt::format("a stop string has at most {} bytes, got {}",
                                                  kMaxStopBytes, stop.size()));
    }
    if (!utf8::valid(stop)) return invalid_argument("stop", "a stop string must be valid UTF-8");
    matcher.add(stop, static_cast<int>(matcher.stop_bytes_.size()));
    matcher.stop_bytes_.push_back(stop.size());
  }
  matcher.link();
  return matcher;
}

void StopMatcher::add(std::string_view stop, int index) {
  std::uint16_t node = 0;
  for (const char c : stop) {
    const auto byte = static_cast<unsigned char>(c);
    std::uint16_t to = child(node, byte);
    if (to == 0) {
      to = static_cast<std::uint16_t>(nodes_.size());
      const auto depth = static_cast<std::uint16_t>(nodes_[node].depth + 1);
      nodes_[node].children.emplace_back(byte, to);
      nodes_.push_back({.children = {}, .fail = 0, .depth = depth, .stop = -1});
    }
    node = to;
  }
  if (nodes_[node].stop < 0) nodes_[node].stop = static_cast<std::int16_t>(index);
}

void StopMatcher::link() {
  // Breadth first: a node's suffix is shorter than the node, so its links are there already.
  std::vector<std::uint16_t> order;
  for (const auto& [byte, node] : nodes_[0].children) order.push_back(node);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint16_t node = order[i];
    if (nodes_[node].stop < 0) nodes_[node].stop = nodes_[nodes_[node].fail].stop;
    for (const auto& [byte, to] : nodes_[node].children) {
      nodes_[to].fail = next(nodes_[node].fail, byte);
      order.push_back(to);
    }
  }
}

std::uint16_t StopMatcher::child(std::uint16_t node, unsigned char byte) const {
  for (const auto& [edge, to] : nodes_[node].children) {
    if (edge == byte) return to;
  }
  return 0;
}

std::uint16_t StopMatcher::next(std::uint16_t node, unsigned char byte) const {
  for (;;) {
    const std::uint16_t to = child(node, byte);
    if (to != 0 || node == 0) return to;
    node = nodes_[node].fail;
  }
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped()) return {};
  if (nodes_.size() == 1) return std::string(text);
  held_.append(text);
  for (std::size_t i = 0; i < text.size(); ++i) {
    state_ = next(state_, static_cast<unsigned char>(text[i]));
    if (nodes_[state_].stop < 0) continue;
    matched_ = nodes_[state_].stop;
    held_.resize(held_.size() - (text.size() - i - 1));
    if (!include_stop_)
      held_.resize(held_.size() - stop_bytes_[static_cast<std::size_t>(matched_)]);
    return std::exchange(held_, {});
  }
  std::string out = held_.substr(0, held_.size() - nodes_[state_].depth);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::finish() {
  state_ = 0;
  return std::exchange(held_, {});
}

}  // namespace latentd
