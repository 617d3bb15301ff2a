#include "server/text/schema/machine.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/check.h"

namespace latentd {

namespace {

using Kind = SchemaNode::Kind;

// Phases of arrays and objects; `state` holds phase | detail << 4.
enum Phase : std::uint32_t {
  kStart,  // before the bracket
  kOpen,   // after it
  kOpenSpace,
  kComma,
  kCommaSpace,
  kKey,       // in a declared name; detail: index into `keys`
  kOtherKey,  // in another one; detail: StringState
  kColon,     // before the colon; count: the property, or the number of them for another one
  kValue,     // after it
  kValueSpace,
  kAfter,  // after a value
  kAfterSpace,
};

constexpr std::uint32_t kBottom = 0;      // the stack of the outermost value
constexpr std::size_t kDedupeUpTo = 128;  // beyond, duplicates only cost time

Phase phase_of(const SchemaFrame& frame) { return static_cast<Phase>(frame.state & 15); }
std::uint32_t detail_of(const SchemaFrame& frame) { return frame.state >> 4; }
std::uint32_t with(Phase phase, std::uint32_t detail) { return phase | detail << 4; }

bool is_space(std::uint8_t byte) { return byte == ' ' || byte == '\n'; }

StringSpelling key_spelling(const SchemaNode& node) {
  return node.count == 0 ? StringSpelling::kFree : StringSpelling::kCanonical;
}

}  // namespace

SchemaMachine::SchemaMachine(const ProgramTables& tables) : tables_(tables) {
  links_.push_back({{kFinished, 0, 0}, kBottom, 0});
}

void SchemaMachine::start(std::vector<SchemaConfig>& out) {
  const SchemaAlternatives& root = tables_.values[tables_.root];
  for (std::uint32_t i = 0; i < root.count; ++i) {
    const NodeId id = tables_.alternatives[root.first + i];
    const SchemaNode& node = tables_.nodes[id];
    if (node.need > kMaxValueDepth) continue;
    out.push_back({{id, node.kind == Kind::kScalar ? node.start : 0, 0}, kBottom});
  }
}

std::uint32_t SchemaMachine::push(const SchemaFrame& frame, std::uint32_t parent,
                                  std::uint32_t depth) {
  links_.push_back({frame, parent, depth});
  return static_cast<std::uint32_t>(links_.size() - 1);
}

void SchemaMachine::emit(const SchemaFrame& frame, std::uint32_t stack, Out& out) {
  const SchemaConfig config{frame, stack};
  if (out.size() >= kMaxConfigs) return;
  if (out.size() <= kDedupeUpTo && std::find(out.begin(), out.end(), config) != out.end()) return;
  out.push_back(config);
}

void SchemaMachine::step(const SchemaConfig& config, std::uint8_t byte, Out& out) {
  if (config.frame.node >= kUnknown || out.size() >= kMaxConfigs) return;
  switch (tables_.nodes[config.frame.node].kind) {
    case Kind::kScalar:
      return step_scalar(config, byte, out);
    case Kind::kString:
      return step_string(config, byte, out);
    case Kind::kArray:
      return step_array(config, byte, out);
    case Kind::kObject:
      return step_object(config, byte, out);
  }
}

void SchemaMachine::step_scalar(const SchemaConfig& config, std::uint8_t byte, Out& out) {
  const SchemaFrame& frame = config.frame;
  const std::uint32_t next = tables_.dfa.next(frame.state, byte);
  if (next != DfaPool::kNone) {
    if (tables_.dfa.accepts(next) && !tables_.dfa.has_edges(next)) {
      const SchemaConfig below = popped(config.stack);
      emit(below.frame, below.stack, out);
    } else {
      emit({frame.node, next, 0}, config.stack, out);
    }
  }
  if (tables_.dfa.accepts(frame.state)) step(popped(config.stack), byte, out);
}

void SchemaMachine::step_string(const SchemaConfig& config, std::uint8_t byte, Out& out) {
  const SchemaFrame& frame = config.frame;
  const SchemaNode& node = tables_.nodes[frame.node];
  const auto inside = [](std::uint32_t string_state) { return string_state + 1; };
  if (frame.state == 0) {
    if (byte == '"') emit({frame.node, inside(0), 0}, config.stack, out);
    return;
  }
  const std::uint8_t next = string_table(StringSpelling::kFree)[frame.state - 1][byte];
  if (next == kStringReject) return;
  if (next == kStringClose) return close_string(config, 0, out);
  std::uint32_t count = frame.count;
  if (frame.state == inside(static_cast<std::uint32_t>(StringState::kBody))) {
    if (count >= node.max) return;
    // Without a maximum only the minimum counts.
    count = node.max == kNoLimit ? std::min(count + 1, node.min) : count + 1;
  }
  emit({frame.node, inside(next), count}, config.stack, out);
}

ValueId SchemaMachine::item_at(const SchemaNode& node, std::uint32_t index) const {
  return index < node.count ? tables_.prefixes[node.first + index] : node.rest;
}

bool SchemaMachine::may_have_item(const SchemaNode& node, std::uint32_t count, bool roomy) const {
  return count < (roomy ? node.max : node.min);
}

void SchemaMachine::enter(const SchemaConfig& config, const SchemaFrame& after, ValueId value,
                          std::uint8_t byte, Out& out) {
  const SchemaAlternatives& alternatives = tables_.values[value];
  if (!alternatives.begins[byte]) return;
  const std::uint32_t depth = links_[config.stack].depth + 1;
  std::uint32_t stack = kBottom;
  for (std::uint32_t i = 0; i < alternatives.count && out.size() < kMaxConfigs; ++i) {
    const NodeId id = tables_.alternatives[alternatives.first + i];
    const SchemaNode& node = tables_.nodes[id];
    if (node.need == kNoNeed || !fits(depth + node.need)) continue;
    if (stack == kBottom) stack = push(after, config.stack, depth);
    step({{id, node.kind == Kind::kScalar ? node.start : 0, 0}, stack}, byte, out);
  }
}

void SchemaMachine::step_array(const SchemaConfig& config, std::uint8_t byte, Out& out) {
  const SchemaFrame& frame = config.frame;
  const SchemaNode& node = tables_.nodes[frame.node];
  const bool room = roomy(config, node);
  const auto go = [&](Phase phase) { emit({frame.node, phase, frame.count}, config.stack, out); };
  const auto close = [&] {
    const SchemaConfig below = popped(config.stack);
    emit(below.frame, below.stack, out);
  };
  const auto item = [&] {
    if (!may_have_item(node, frame.count, room)) return;
    std::uint32_t count = frame.count + 1;
    if (node.max == kNoLimit) count = std::min(count, std::max(node.min, node.count));
    enter(config, {frame.node, kAfter, count}, item_at(node, frame.count), byte, out);
  };
  switch (phase_of(frame)) {
    case kStart:
      if (byte == '[') go(kOpen);
      return;
    case kOpen:
      if (is_space(byte)) return go(kOpenSpace);
      [[fallthrough]];
    case kOpenSpace:
      if (byte == ']') {
        if (node.min == 0) close();
        return;
      }
      return item();
    case kComma:
      if (is_space(byte)) return go(kCommaSpace);
      [[fallthrough]];
    case kCommaSpace:
      return item();
    case kAfter:
      if (byte == ',' && may_have_item(node, frame.count, room)) go(kComma);
      if (frame.count < node.min) return;
      if (is_space(byte)) go(kAfterSpace);
      [[fallthrough]];
    case kAfterSpace:
      if (byte == ']') close();
      return;
    default:
      return;
  }
}

bool SchemaMachine::all_required_done(const SchemaNode& node, std::uint32_t next) const {
  return next >= node.count || tables_.properties[node.first + next].next_required == node.count;
}

bool SchemaMachine::others_follow(const SchemaNode& node, std::uint32_t next, bool roomy) const {
  return node.rest != kNoValue && roomy && all_required_done(node, next);
}

bool SchemaMachine::names_follow(const SchemaNode& node, std::uint32_t next, bool roomy) const {
  if (!all_required_done(node, next)) return true;
  if (!roomy) return false;
  return node.rest != kNoValue ||
         (next < node.count && tables_.properties[node.first + next].next_possible < node.count);
}

// A property from `next` up to the next required one, which must not be passed over. Without room
// only that one.
bool SchemaMachine::has_candidate(const SchemaNode& node, const SchemaKey& key, std::uint32_t next,
                                  bool roomy) const {
  if (next >= node.count) return false;
  const std::uint32_t required = tables_.properties[node.first + next].next_required;
  const std::uint32_t least = roomy ? next : required;
  const auto begin = tables_.key_indices.begin();
  const auto end = begin + key.end_index;
  const auto found = std::lower_bound(begin + key.first_index, end, least);
  return found != end && *found <= required;
}

void SchemaMachine::step_key(const SchemaConfig& config, std::uint8_t byte, Out& out) {
  const SchemaFrame& frame = config.frame;
  const SchemaNode& node = tables_.nodes[frame.node];
  const SchemaKey& key = tables_.keys[detail_of(frame)];
  const bool room = roomy(config, node);
  const bool others = others_follow(node, frame.count, room);
  if (byte == '"' && key.string_state == StringState::kBody) return close_string(config, 0, out);
  for (std::uint32_t i = key.first_edge; i < key.end_edge; ++i) {
    if (tables_.key_edges[i].first != byte) continue;
    const std::uint32_t target = tables_.key_edges[i].target;
    if (others || has_candidate(node, tables_.keys[target], frame.count, room)) {
      emit({frame.node, with(kKey, target), frame.count}, config.stack, out);
    }
    return;
  }
  if (!others) return;
  const auto from = static_cast<std::size_t>(key.string_state);
  const std::uint8_t next = string_table(key_spelling(node))[from][byte];
  if (next >= kStringClose) return;
  emit({frame.node, with(kOtherKey, next), node.count}, config.stack, out);
}

void SchemaMachine::step_object(const SchemaConfig& config, std::uint8_t byte, Out& out) {
  const SchemaFrame& frame = config.frame;
  const SchemaNode& node = tables_.nodes[frame.node];
  const std::uint32_t next = frame.count;
  const auto go = [&](std::uint32_t state) { emit({frame.node, state, next}, config.stack, out); };
  const auto close = [&] {
    const SchemaConfig below = popped(config.stack);
    emit(below.frame, below.stack, out);
  };
  switch (phase_of(frame)) {
    case kStart:
      if (byte == '{') go(kOpen);
      return;
    case kOpen:
      if (is_space(byte)) return go(kOpenSpace);
      [[fallthrough]];
    case kOpenSpace:
      if (byte == '}' && all_required_done(node, next)) return close();
      if (byte == '"' && names_follow(node, next, roomy(config, node))) {
        go(with(kKey, node.key_root));
      }
      return;
    case kComma:
      if (is_space(byte)) return go(kCommaSpace);
      [[fallthrough]];
    case kCommaSpace:
      if (byte == '"') go(with(kKey, node.key_root));
      return;
    case kKey:
      return step_key(config, byte, out);
    case kOtherKey: {
      const std::uint8_t state = string_table(key_spelling(node))[detail_of(frame)][byte];
      if (state == kStringClose) return close_string(config, 0, out);
      if (state != kStringReject) go(with(kOtherKey, state));
      return;
    }
    case kColon:
      if (byte == ':') go(kValue);
      return;
    case kValue:
      if (is_space(byte)) return go(kValueSpace);
      [[fallthrough]];
    case kValueSpace: {
      const bool declared = next < node.count;
      const ValueId value = declared ? tables_.properties[node.first + next].value : node.rest;
      return enter(config, {frame.node, kAfter, declared ? next + 1 : next}, value, byte, out);
    }
    case kAfter:
      if (byte == ',' && names_follow(node, next, roomy(config, node))) go(kComma);
      if (!all_required_done(node, next)) return;
      if (is_space(byte)) go(kAfterSpace);
      [[fallthrough]];
    case kAfterSpace:
      if (byte == '}') close();
      return;
  }
}

SchemaMachine::OpenString SchemaMachine::open_string(const SchemaConfig& config) {
  const SchemaFrame& frame = config.frame;
  OpenString result;
  if (frame.node >= kUnknown) return result;
  const SchemaNode& node = tables_.nodes[frame.node];
  constexpr auto kBody = static_cast<std::uint32_t>(StringState::kBody);
  if (node.kind == Kind::kString && frame.state == kBody + 1) {
    result.open = true;
    result.min_left = node.min - std::min(frame.count, node.min);
    if (node.max != kNoLimit) result.max_left = node.max - frame.count;
  } else if (node.kind == Kind::kObject) {
    result.spelling = key_spelling(node);
    if (phase_of(frame) == kOtherKey) {
      result.open = detail_of(frame) == kBody;
    } else if (phase_of(frame) == kKey) {
      result.key = detail_of(frame);
      result.open = tables_.keys[result.key].string_state == StringState::kBody &&
                    others_follow(node, frame.count, roomy(config, node));
    }
  }
  return result;
}

SchemaConfig SchemaMachine::within_key(const SchemaConfig& config, std::uint32_t key) {
  return {{config.frame.node, with(kKey, key), config.frame.count}, config.stack};
}

SchemaConfig SchemaMachine::within_other_name(const SchemaConfig& config) const {
  constexpr auto kBody = static_cast<std::uint32_t>(StringState::kBody);
  const std::uint32_t count = tables_.nodes[config.frame.node].count;
  return {{config.frame.node, with(kOtherKey, kBody), count}, config.stack};
}

void SchemaMachine::close_string(const SchemaConfig& config, std::uint32_t characters, Out& out) {
  const SchemaFrame& frame = config.frame;
  const SchemaNode& node = tables_.nodes[frame.node];
  if (node.kind == Kind::kString) {
    const std::uint64_t count = std::uint64_t{frame.count} + characters;
    if (count < node.min || count > node.max) return;
    const SchemaConfig below = popped(config.stack);
    emit(below.frame, below.stack, out);
    return;
  }
  LATENTD_CHECK(node.kind == Kind::kObject, "a string of a node of kind {}",
                static_cast<int>(node.kind));
  if (phase_of(frame) == kOtherKey) {
    emit({frame.node, kColon, node.count}, config.stack, out);
    return;
  }
  const bool room = roomy(config, node);
  const SchemaKey& key = tables_.keys[detail_of(frame)];
  if (key.property == kNoValue) {
    if (others_follow(node, frame.count, room)) {
      emit({frame.node, kColon, node.count}, config.stack, out);
    }
    return;
  }
  const std::uint32_t next = frame.count;
  if (next >= node.count || !tables_.properties[node.first + key.property].possible) return;
  const std::uint32_t required = tables_.properties[node.first + next].next_required;
  const std::uint32_t least = room ? next : required;
  if (key.property < least || key.property > required) return;
  emit({frame.node, kColon, key.property}, config.stack, out);
}

void SchemaMachine::compact(std::vector<SchemaConfig>& configs) {
  std::vector<Link> kept{links_[kBottom]};
  std::vector<std::uint32_t> renamed(links_.size(), kBottom);
  std::map<std::tuple<NodeId, std::uint32_t, std::uint32_t, std::uint32_t>, std::uint32_t> names;
  std::vector<std::uint32_t> path;
  for (SchemaConfig& config : configs) {
    path.clear();
    for (std::uint32_t s = config.stack; s != kBottom && renamed[s] == kBottom;
         s = links_[s].parent) {
      path.push_back(s);
    }
    while (!path.empty()) {
      Link link = links_[path.back()];
      link.parent = renamed[link.parent];
      const auto [found, added] =
          names.try_emplace({link.frame.node, link.frame.state, link.frame.count, link.parent},
                            static_cast<std::uint32_t>(kept.size()));
      if (added) kept.push_back(link);
      renamed[path.back()] = found->second;
      path.pop_back();
    }
    config.stack = renamed[config.stack];
  }
  links_ = std::move(kept);
  std::vector<SchemaConfig> once;
  for (const SchemaConfig& config : configs) {
    if (std::find(once.begin(), once.end(), config) == once.end()) once.push_back(config);
  }
  configs = std::move(once);
}

}  // namespace latentd
