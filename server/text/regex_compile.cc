// Regex::compile: the tree as instructions.

#include <spdlog/fmt/fmt.h>

#include <bitset>
#include <utility>

#include "server/text/regex.h"

namespace latentd {

namespace {

using Kind = RegexNode::Kind;
using Greed = RegexNode::Greed;

constexpr std::size_t kMaxInstructions = 16384;
constexpr std::size_t kMaxClasses = 1024;

bool can_be_empty(const RegexNode& node) {
  switch (node.kind) {
    case Kind::kSet:
      return false;
    case Kind::kLookahead:
      return true;
    case Kind::kRepeat:
      return node.min == 0 || can_be_empty(node.children[0]);
    case Kind::kConcat:
      for (const RegexNode& child : node.children) {
        if (!can_be_empty(child)) return false;
      }
      return true;
    case Kind::kAlternate:
      for (const RegexNode& child : node.children) {
        if (can_be_empty(child)) return true;
      }
      return false;
  }
  return true;
}

// The bytes that a match can begin with (perhaps too many). REQUIRES: it cannot be empty, or what
// follows is asked too.
std::bitset<256> first_bytes(const RegexNode& node) {
  std::bitset<256> bytes;
  switch (node.kind) {
    case Kind::kSet:
      return node.set.lead_bytes();
    case Kind::kLookahead:
      return bytes;
    case Kind::kRepeat:
      return first_bytes(node.children[0]);
    case Kind::kConcat:
      for (const RegexNode& child : node.children) {
        bytes |= first_bytes(child);
        if (!can_be_empty(child)) break;
      }
      return bytes;
    case Kind::kAlternate:
      for (const RegexNode& child : node.children) bytes |= first_bytes(child);
      return bytes;
  }
  return bytes;
}

Status unsupported(std::string_view what) {
  return {StatusCode::kUnimplemented, fmt::format("regex: {}", what)};
}

}  // namespace

// Every instruction continues at `next`: instructions are emitted in order, so that `next` is the
// one emitted after, except for splits and jumps.
class Regex::Compiler {
 public:
  Status run(const RegexNode& root) {
    if (can_be_empty(root)) return unsupported("a pattern that can match the empty string");
    const bool many = root.kind == Kind::kAlternate;
    const std::size_t count = many ? root.children.size() : 1;
    if (count > kMaxBranches) {
      return unsupported(fmt::format("more than {} alternatives", kMaxBranches));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const RegexNode& branch = many ? root.children[i] : root;
      regex_.branches_.push_back(here());
      LATENTD_RETURN_IF_ERROR(emit(branch));
      LATENTD_RETURN_IF_ERROR(add({.op = Op::kMatch}));
      const std::bitset<256> bytes = first_bytes(branch);
      for (std::size_t byte = 0; byte < 256; ++byte) {
        if (bytes[byte]) regex_.branches_of_byte_[byte] |= 1ULL << i;
      }
    }
    return ok_status();
  }

  Regex take() { return std::move(regex_); }

 private:
  std::uint32_t here() const { return static_cast<std::uint32_t>(regex_.code_.size()); }

  Status add(Instruction instruction) {
    if (regex_.code_.size() >= kMaxInstructions) return unsupported("a pattern so large");
    const Op op = instruction.op;
    if (op == Op::kRun || op == Op::kRunPossessive || op == Op::kSplit) {
      instruction.slot = regex_.memo_slots_++;
    }
    instruction.next = here() + 1;
    regex_.code_.push_back(instruction);
    return ok_status();
  }

  Status add_with_class(Op op, const CharSet& set) {
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      if (sets_[i].ranges() == set.ranges()) {
        return add({.op = op, .char_class = static_cast<std::uint16_t>(i)});
      }
    }
    if (sets_.size() >= kMaxClasses) return unsupported("so many classes");
    sets_.push_back(set);
    regex_.classes_.emplace_back(set);
    return add({.op = op, .char_class = static_cast<std::uint16_t>(sets_.size() - 1)});
  }

  Status emit(const RegexNode& node) {
    switch (node.kind) {
      case Kind::kSet:
        return add_with_class(Op::kSet, node.set);
      case Kind::kLookahead:
        return add_with_class(node.negative ? Op::kLookNot : Op::kLook, node.set);
      case Kind::kConcat:
        for (const RegexNode& child : node.children) LATENTD_RETURN_IF_ERROR(emit(child));
        return ok_status();
      case Kind::kAlternate:
        return emit_alternate(node);
      case Kind::kRepeat:
        return emit_repeat(node);
    }
    return ok_status();
  }

  Status emit_alternate(const RegexNode& node) {
    std::vector<std::uint32_t> jumps;
    for (std::size_t i = 0; i + 1 < node.children.size(); ++i) {
      const std::uint32_t split = here();
      LATENTD_RETURN_IF_ERROR(add({.op = Op::kSplit}));
      LATENTD_RETURN_IF_ERROR(emit(node.children[i]));
      jumps.push_back(here());
      LATENTD_RETURN_IF_ERROR(add({.op = Op::kJump}));
      regex_.code_[split].other = here();
    }
    LATENTD_RETURN_IF_ERROR(emit(node.children.back()));
    for (const std::uint32_t jump : jumps) regex_.code_[jump].other = here();
    return ok_status();
  }

  Status emit_repeat(const RegexNode& node) {
    const RegexNode& child = node.children[0];
    if (can_be_empty(child)) return unsupported("a repetition of what can be empty");
    const bool possessive = node.greed == Greed::kPossessive;
    if (possessive && child.kind != Kind::kSet) {
      return unsupported("a possessive repetition of more than one character");
    }
    for (int i = 0; i < node.min; ++i) LATENTD_RETURN_IF_ERROR(emit(child));
    if (node.max < 0) return emit_any_number(node, child);
    if (possessive && node.max > node.min) return emit_possessive_optional(child);

    std::vector<std::uint32_t> splits;
    for (int i = node.min; i < node.max; ++i) {
      splits.push_back(here());
      LATENTD_RETURN_IF_ERROR(add({.op = Op::kSplit}));
      LATENTD_RETURN_IF_ERROR(emit(child));
    }
    for (const std::uint32_t split : splits) finish_split(split, here(), node.greed);
    return ok_status();
  }

  // x?+ is (x | not-x follows): {m,n}+ does not exist, so there is one optional character.
  Status emit_possessive_optional(const RegexNode& child) {
    const std::uint32_t split = here();
    LATENTD_RETURN_IF_ERROR(add({.op = Op::kSplit}));
    LATENTD_RETURN_IF_ERROR(add_with_class(Op::kSet, child.set));
    const std::uint32_t jump = here();
    LATENTD_RETURN_IF_ERROR(add({.op = Op::kJump}));
    regex_.code_[split].other = here();
    LATENTD_RETURN_IF_ERROR(add_with_class(Op::kLookNot, child.set));
    regex_.code_[jump].other = here();
    return ok_status();
  }

  Status emit_any_number(const RegexNode& node, const RegexNode& child) {
    if (child.kind == Kind::kSet && node.greed != Greed::kLazy) {
      const bool possessive = node.greed == Greed::kPossessive;
      return add_with_class(possessive ? Op::kRunPossessive : Op::kRun, child.set);
    }
    const std::uint32_t split = here();
    LATENTD_RETURN_IF_ERROR(add({.op = Op::kSplit}));
    LATENTD_RETURN_IF_ERROR(emit(child));
    LATENTD_RETURN_IF_ERROR(add({.op = Op::kJump}));
    regex_.code_.back().other = split;
    finish_split(split, here(), node.greed);
    return ok_status();
  }

  // `split` enters what follows it or leaves for `out`; a lazy one prefers to leave.
  void finish_split(std::uint32_t split, std::uint32_t out, Greed greed) {
    Instruction& instruction = regex_.code_[split];
    instruction.other = out;
    if (greed == Greed::kLazy) std::swap(instruction.next, instruction.other);
  }

  Regex regex_;
  std::vector<CharSet> sets_;  // of regex_.classes_
};

Result<Regex> Regex::compile(std::string_view pattern) {
  LATENTD_ASSIGN_OR_RETURN(const RegexNode root, parse_regex(pattern));
  Compiler compiler;
  LATENTD_RETURN_IF_ERROR(compiler.run(root));
  return compiler.take();
}

}  // namespace latentd
