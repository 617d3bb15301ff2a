// StopMatcher: ends a text stream at the first of its stop strings, wherever chunks begin and end.
//
// The match that is complete first wins; of those that end at one byte, the longest. So the result
// does not depend on the chunks. Only text that may still become a stop string is held back: the
// longest suffix that is the start of one. Linear time (Aho and Corasick, 1975).
//
// Contract: one stream, one thread. Chunks of whole characters give outputs of whole characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace latentd {

class StopMatcher final {
 public:
  static constexpr std::size_t kMaxStops = 16;
  static constexpr std::size_t kMaxStopBytes = 256;

  // kInvalidArgument with field "stop": too many, empty, too long, not UTF-8. No stops at all: all
  // text passes.
  static Result<StopMatcher> create(const std::vector<std::string>& stops,
                                    bool include_stop_str_in_output);

  // The text that may be shown now. Once stopped() all further text is dropped.
  std::string push(std::string_view text);

  // What was held back, when the stream ended for another reason. Nothing once stopped().
  std::string finish();

  bool stopped() const { return matched_ >= 0; }
  // Which of `stops` matched: its index. REQUIRES: stopped().
  int matched() const { return matched_; }

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint16_t>> children;
    std::uint16_t fail = 0;
    std::uint16_t depth = 0;  // bytes from the root: what is held back in this state
    std::int16_t stop = -1;   // the longest stop that ends here
  };

  StopMatcher() : nodes_(1) {}
  void add(std::string_view stop, int index);
  void link();
  std::uint16_t child(std::uint16_t node, unsigned char byte) const;  // 0: none
  std::uint16_t next(std::uint16_t node, unsigned char byte) const;

  std::vector<Node> nodes_;  // 0 is the root
  std::vector<std::size_t> stop_bytes_;
  bool include_stop_ = false;
  std::uint16_t state_ = 0;
  std::string held_;  // the bytes of `state_`
  int matched_ = -1;
};

}  // namespace latentd
