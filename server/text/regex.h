// Regex: a pre-tokenizer's pattern and where it matches, in time linear in the text.
//
// Patterns come with a model, texts come from clients: neither may cost more than its size.
// Leftmost, first-alternative matching (Perl's and Oniguruma's) by backtracking. Once a text has
// cost more steps than kStepsPerByte a byte, every (branch, position) that was tried is remembered
// and never tried again, in this text: what follows a branch depends on the position alone, for
// there are no captures, back references or lookbehind. So the steps are at most branches x bytes.
// (The idea is that of packrat parsing, Ford 2002, and of RE2's bit-state matcher.)
//
// Contract: immutable after compile; thread-safe with a Scratch for each thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/text/char_set.h"
#include "server/text/regex_parser.h"

namespace latentd {

class Regex final {
 public:
  static constexpr std::size_t kStepsPerByte = 32;
  static constexpr std::size_t kMaxBranches = 64;  // of the outermost alternation

  struct Match {
    std::size_t begin;
    std::size_t end;
    friend bool operator==(const Match&, const Match&) = default;
  };

  // Working memory of find_all, reused between calls.
  struct Scratch {
    struct Frame {
      std::uint32_t pc;
      std::size_t position;
      std::uint64_t rest;  // kFork: branches not tried yet; kRun: the lowest position to back up to
    };
    std::vector<Frame> stack;
    std::vector<std::uint64_t> tried;  // bit of position * memo_slots + slot
    bool remembering = false;
    std::size_t steps_left = 0;
  };

  // Refuses what parse_regex refuses, a pattern that can match the empty string (kUnimplemented)
  // and one too large.
  static Result<Regex> compile(std::string_view pattern);

  // Replaces `matches` by all matches, left to right, none empty, none overlapping.
  // REQUIRES: `text` is valid UTF-8.
  void find_all(std::string_view text, Scratch& scratch, std::vector<Match>& matches) const;

 private:
  enum class Op : std::uint8_t {
    kSet,            // one character of the class
    kRun,            // any number of them, most first
    kRunPossessive,  // all of them
    kSplit,          // `next`, or else `other`
    kJump,           // to `other`
    kLook,           // a character of the class follows
    kLookNot,        // none does
    kMatch,
  };
  struct Instruction {
    Op op;
    std::uint16_t char_class = 0;
    std::uint16_t slot = 0;  // of the memory of tried branches, for kRun*, kSplit
    std::uint32_t next = 0;
    std::uint32_t other = 0;
  };
  class Compiler;
  class Matcher;

  Regex() = default;

  std::vector<Instruction> code_;
  std::vector<CharClass> classes_;
  std::vector<std::uint32_t> branches_;  // where each alternative of the outermost one starts
  // The branches that a match beginning with this byte can take: bit of each.
  std::array<std::uint64_t, 256> branches_of_byte_{};
  std::uint16_t memo_slots_ = 0;
};

}  // namespace latentd
