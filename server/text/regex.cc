#include "server/text/regex.h"

#include <bit>

#include "server/text/utf8.h"

namespace latentd {

// One find_all.
class Regex::Matcher {
 public:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  Matcher(const Regex& regex, std::string_view text, Scratch& scratch)
      : regex_(regex), text_(text), scratch_(scratch) {
    scratch_.remembering = false;
    scratch_.steps_left = kStepsPerByte * text.size() + 1024;
  }

  // The end of the match that begins at `begin`, or kNone.
  std::size_t match(std::size_t begin) {
    const std::uint64_t branches = regex_.branches_of_byte_[byte_at(begin)];
    if (branches == 0) return kNone;
    if (!scratch_.remembering) {
      const std::size_t end = attempt<false>(begin, branches);
      if (end != kGivenUp) return end;
      scratch_.remembering = true;
      scratch_.tried.assign((regex_.memo_slots_ * (text_.size() + 1) + 63) / 64, 0);
    }
    return attempt<true>(begin, branches);
  }

 private:
  static constexpr std::size_t kGivenUp = static_cast<std::size_t>(-2);
  static constexpr std::uint32_t kForkPc = static_cast<std::uint32_t>(-1);

  unsigned char byte_at(std::size_t position) const {
    return static_cast<unsigned char>(text_[position]);
  }

  // The size of the character at `position` if it is one of `char_class`, else 0.
  std::size_t accept(const CharClass& char_class, std::size_t position) const {
    if (position >= text_.size()) return 0;
    const unsigned char byte = byte_at(position);
    if (byte < 0x80) return char_class.contains_ascii(byte) ? 1 : 0;
    std::size_t size = 0;
    const char32_t c = utf8::decode_valid(text_.data() + position, size);
    return char_class.contains(c) ? size : 0;
  }

  std::size_t run_end(const CharClass& char_class, std::size_t position) const {
    while (const std::size_t size = accept(char_class, position)) position += size;
    return position;
  }

  // Marks the branch at (instruction, position). False when it was tried before: no match follows.
  bool first_visit(const Instruction& instruction, std::size_t position) {
    const std::size_t bit = position * regex_.memo_slots_ + instruction.slot;
    std::uint64_t& word = scratch_.tried[bit / 64];
    const std::uint64_t mask = 1ULL << (bit % 64);
    if ((word & mask) != 0) return false;
    word |= mask;
    return true;
  }

  bool spend(std::size_t steps) {
    if (scratch_.steps_left < steps) return false;
    scratch_.steps_left -= steps;
    return true;
  }

  // Takes the newest branch that is left: sets pc and position. False when there is none.
  bool backtrack(std::uint32_t& pc, std::size_t& position) {
    auto& stack = scratch_.stack;
    if (stack.empty()) return false;
    Scratch::Frame& frame = stack.back();
    if (frame.pc == kForkPc) {
      const int branch = std::countr_zero(frame.rest);
      pc = regex_.branches_[static_cast<std::size_t>(branch)];
      position = frame.position;
      frame.rest &= frame.rest - 1;
      if (frame.rest == 0) stack.pop_back();
      return true;
    }
    pc = frame.pc;
    position = frame.position;
    if (position == frame.rest) {
      stack.pop_back();
    } else {
      // One character less of a run.
      do {
        --frame.position;
      } while ((byte_at(frame.position) & 0xC0) == 0x80);
    }
    return true;
  }

  template <bool kRemember>
  std::size_t attempt(std::size_t begin, std::uint64_t branches) {
    scratch_.stack.clear();
    scratch_.stack.push_back({kForkPc, begin, branches});
    std::uint32_t pc = 0;
    std::size_t position = 0;
    while (backtrack(pc, position)) {
      if (!kRemember && !spend(1)) return kGivenUp;
      bool alive = true;
      while (alive) {
        const Instruction& instruction = regex_.code_[pc];
        if (instruction.op == Op::kMatch) return position;
        if constexpr (kRemember) {
          alive = step_remembering(instruction, pc, position);
        } else {
          const std::size_t before = position;
          alive = step(instruction, pc, position);
          if (!spend(position - before + 1)) return kGivenUp;
        }
      }
    }
    return kNone;
  }

  // One instruction; false when it fails. What may be tried instead is on the stack.
  bool step(const Instruction& instruction, std::uint32_t& pc, std::size_t& position) {
    switch (instruction.op) {
      case Op::kRun: {
        const std::size_t low = position;
        position = run_end(regex_.classes_[instruction.char_class], position);
        if (position > low) {
          scratch_.stack.push_back({instruction.next, position, low});
          std::size_t& retry = scratch_.stack.back().position;
          do {
            --retry;
          } while ((byte_at(retry) & 0xC0) == 0x80);
        }
        break;
      }
      case Op::kRunPossessive:
        position = run_end(regex_.classes_[instruction.char_class], position);
        break;
      default:
        return step_plain(instruction, pc, position);
    }
    pc = instruction.next;
    return true;
  }

  // The same, with a run as what it stands for: at each character, go on or leave.
  bool step_remembering(const Instruction& instruction, std::uint32_t& pc, std::size_t& position) {
    const bool run = instruction.op == Op::kRun || instruction.op == Op::kRunPossessive;
    if (run || instruction.op == Op::kSplit) {
      if (!first_visit(instruction, position)) return false;
    }
    if (!run) return step_plain(instruction, pc, position);
    const std::size_t size = accept(regex_.classes_[instruction.char_class], position);
    if (size == 0) {
      pc = instruction.next;
    } else {
      if (instruction.op == Op::kRun) push(instruction.next, position);
      position += size;
    }
    return true;
  }

  bool step_plain(const Instruction& instruction, std::uint32_t& pc, std::size_t& position) {
    pc = instruction.next;
    switch (instruction.op) {
      case Op::kSet: {
        const std::size_t size = accept(regex_.classes_[instruction.char_class], position);
        position += size;
        return size != 0;
      }
      case Op::kLook:
        return accept(regex_.classes_[instruction.char_class], position) != 0;
      case Op::kLookNot:
        return accept(regex_.classes_[instruction.char_class], position) == 0;
      case Op::kSplit:
        push(instruction.other, position);
        return true;
      case Op::kJump:
        pc = instruction.other;
        return true;
      default:
        return false;  // runs and kMatch are the callers'
    }
  }

  void push(std::uint32_t pc, std::size_t position) {
    scratch_.stack.push_back({pc, position, position});
  }

  const Regex& regex_;
  std::string_view text_;
  Scratch& scratch_;
};

void Regex::find_all(std::string_view text, Scratch& scratch, std::vector<Match>& matches) const {
  matches.clear();
  Matcher matcher(*this, text, scratch);
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = matcher.match(begin);
    if (end != Matcher::kNone) {
      matches.push_back({begin, end});
      begin = end;
      continue;
    }
    do {
      ++begin;
    } while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80);
  }
}

}  // namespace latentd
