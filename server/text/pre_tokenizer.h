// PreTokenizer: cuts text into the pieces that byte-pair merges never cross.
//
// A list of steps; each step cuts every piece of the step before on its own, as if it were a whole
// text.
//
// Contract: immutable once built; thread-safe with a Scratch for each thread.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/regex.h"

namespace latentd {

// The pattern of ByteLevel with use_regex (Radford et al., GPT-2, 2019).
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class PreTokenizer final {
 public:
  struct Step {
    std::optional<Regex> regex;     // cut before and after every match
    bool drop_matches = false;      // Split with behavior Removed
    bool drop_others = false;       // the same, inverted
    bool add_prefix_space = false;  // first, before pieces that do not begin with a space
  };

  struct Scratch {
    Regex::Scratch regex;
    std::vector<Regex::Match> matches;
    std::vector<std::string_view> before;
    std::deque<std::string> prefixed;  // pieces that are not part of the text
  };

  void add(Step step) { steps_.push_back(std::move(step)); }

  // Replaces `pieces` by those of `text`, none empty. They live as long as `text` and until the
  // next call with `scratch`. REQUIRES: valid UTF-8.
  void split(std::string_view text, Scratch& scratch, std::vector<std::string_view>& pieces) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace latentd
