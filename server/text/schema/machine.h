// SchemaMachine: runs a ProgramTables byte by byte.
//
// A *configuration* is a frame (where one is within a node) upon a stack of the frames that wait
// for it to end. The machine is nondeterministic (anyOf): the constraint and the walk over the
// vocabulary hold sets of configurations. Stacks are linked lists in an arena that the caller
// truncates to go back; a closed node is popped at once, a number (which the next byte ends) when
// that byte comes.
//
// Contract: one thread. Invariant: every configuration that step makes can still be completed
// within kMaxValueDepth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/text/schema/program_tables.h"

namespace latentd {

struct SchemaFrame {
  NodeId node = 0;
  std::uint32_t state = 0;  // kScalar: of the automaton; kString: StringState + 1, 0 before the
                            // quote; else phase | detail << 4 (machine.cc)
  std::uint32_t count = 0;  // kString: characters, kArray: items, kObject: the next property
  friend bool operator==(const SchemaFrame&, const SchemaFrame&) = default;
};

struct SchemaConfig {
  SchemaFrame frame;
  std::uint32_t stack = 0;  // index into the arena
  friend bool operator==(const SchemaConfig&, const SchemaConfig&) = default;
};

class SchemaMachine final {
 public:
  // Frames that are none: the value is complete; the frame below is not known (mask_walk.h).
  static constexpr NodeId kFinished = 0xFFFFFFFF;
  static constexpr NodeId kUnknown = 0xFFFFFFFE;
  // Configurations of one step; what is beyond them is left out.
  static constexpr std::size_t kMaxConfigs = 256;

  struct Link {
    SchemaFrame frame;     // what goes on when the frame above has ended
    std::uint32_t parent;  // its own stack
    std::uint32_t depth;   // links below this one
  };

  explicit SchemaMachine(const ProgramTables& tables);

  // Before the first byte: one configuration for each alternative.
  void start(std::vector<SchemaConfig>& out);
  // Appends what `byte` makes of `config` to `out`, each once.
  void step(const SchemaConfig& config, std::uint8_t byte, std::vector<SchemaConfig>& out);

  // The value of this frame may end here: what is below goes on.
  bool may_end(const SchemaFrame& frame) const {
    return frame.node < kUnknown && tables_.nodes[frame.node].kind == SchemaNode::Kind::kScalar &&
           tables_.dfa.accepts(frame.state);
  }
  // Of a frame that is one; else nullptr.
  const SchemaNode* node(const SchemaFrame& frame) const {
    return frame.node < kUnknown ? &tables_.nodes[frame.node] : nullptr;
  }
  const DfaPool& dfa() const { return tables_.dfa; }
  const Link& link(std::uint32_t stack) const { return links_[stack]; }
  SchemaConfig popped(std::uint32_t stack) const {
    return {links_[stack].frame, links_[stack].parent};
  }
  std::uint32_t depth(std::uint32_t stack) const { return links_[stack].depth; }

  std::size_t arena() const { return links_.size(); }
  void truncate(std::size_t arena) { links_.resize(arena); }
  std::uint32_t push(const SchemaFrame& frame, std::uint32_t parent, std::uint32_t depth);
  // Keeps only the stacks of `configs`, equal ones once, and of `configs` each once.
  void compact(std::vector<SchemaConfig>& configs);

  // The deepest level that a decision looked at since the last reset: at less depth the same
  // decisions would have been made.
  void reset_reach() { reach_ = 0; }
  std::uint32_t reach() const { return reach_; }

  // The string that a frame is inside of and between two characters of, where any character may
  // follow: a property name included, if others than the declared ones are allowed.
  struct OpenString {
    bool open = false;
    std::uint32_t key = kNoValue;  // the beginning of declared names that it is so far, in `keys`
    StringSpelling spelling = StringSpelling::kFree;
    std::uint32_t min_left = 0;  // characters that have to come
    std::uint32_t max_left = kNoLimit;
  };
  OpenString open_string(const SchemaConfig& config);
  // `config`, which is within a property name, within another one.
  static SchemaConfig within_key(const SchemaConfig& config, std::uint32_t key);
  SchemaConfig within_other_name(const SchemaConfig& config) const;
  // What its closing quote makes of `config`, after `characters` more.
  void close_string(const SchemaConfig& config, std::uint32_t characters,
                    std::vector<SchemaConfig>& out);

 private:
  using Out = std::vector<SchemaConfig>;

  void emit(const SchemaFrame& frame, std::uint32_t stack, Out& out);
  void step_scalar(const SchemaConfig& config, std::uint8_t byte, Out& out);
  void step_string(const SchemaConfig& config, std::uint8_t byte, Out& out);
  void step_array(const SchemaConfig& config, std::uint8_t byte, Out& out);
  void step_object(const SchemaConfig& config, std::uint8_t byte, Out& out);
  void step_key(const SchemaConfig& config, std::uint8_t byte, Out& out);
  // `value` begins with `byte`; `after` goes on when it ends.
  void enter(const SchemaConfig& config, const SchemaFrame& after, ValueId value, std::uint8_t byte,
             Out& out);
  bool fits(std::uint32_t depth) {
    reach_ = depth > reach_ ? depth : reach_;
    return depth <= kMaxValueDepth;
  }
  bool roomy(const SchemaConfig& config, const SchemaNode& node) {
    return fits(links_[config.stack].depth + node.widest);
  }
  ValueId item_at(const SchemaNode& node, std::uint32_t index) const;
  bool may_have_item(const SchemaNode& node, std::uint32_t count, bool roomy) const;
  bool names_follow(const SchemaNode& node, std::uint32_t next, bool roomy) const;
  bool others_follow(const SchemaNode& node, std::uint32_t next, bool roomy) const;
  bool all_required_done(const SchemaNode& node, std::uint32_t next) const;
  bool has_candidate(const SchemaNode& node, const SchemaKey& key, std::uint32_t next,
                     bool roomy) const;

  const ProgramTables& tables_;
  std::vector<Link> links_;
  std::uint32_t reach_ = 0;
};

}  // namespace latentd
