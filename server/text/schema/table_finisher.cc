#include "server/text/schema/table_finisher.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

#include "server/text/schema/schema_compiler.h"

namespace latentd {

namespace {

using Kind = SchemaNode::Kind;

Status flatten(const DraftTables& draft, ProgramTables& tables) {
  std::vector<std::uint32_t> seen_value(draft.items.size(), kNoValue);
  std::vector<std::uint32_t> seen_node(tables.nodes.size(), kNoValue);
  std::vector<ValueId> waiting;
  std::size_t work = 0;
  for (ValueId id = 0; id < draft.items.size(); ++id) {
    SchemaAlternatives& value = tables.values.emplace_back();
    value.first = static_cast<std::uint32_t>(tables.alternatives.size());
    waiting.assign(1, id);
    seen_value[id] = id;
    while (!waiting.empty()) {
      const ValueId at = waiting.back();
      waiting.pop_back();
      work += draft.items[at].size() + 1;
      for (const DraftTables::Item& item : draft.items[at]) {
        std::uint32_t& seen = item.is_value ? seen_value[item.id] : seen_node[item.id];
        if (std::exchange(seen, id) == id) continue;
        if (item.is_value) {
          waiting.push_back(item.id);
        } else {
          tables.alternatives.push_back(item.id);
        }
      }
    }
    value.count = static_cast<std::uint32_t>(tables.alternatives.size()) - value.first;
    if (value.count > kMaxAlternatives || tables.alternatives.size() > kMaxAllAlternatives ||
        work > 64 * kMaxAllAlternatives) {
      return {StatusCode::kInvalidArgument,
              fmt::format("schema: more than {} alternatives in one place", kMaxAlternatives)};
    }
  }
  return ok_status();
}

void find_beginnings(ProgramTables& tables) {
  for (SchemaAlternatives& value : tables.values) {
    for (std::uint32_t i = 0; i < value.count; ++i) {
      const SchemaNode& node = tables.nodes[tables.alternatives[value.first + i]];
      if (node.need == kNoNeed) continue;
      if (node.kind == Kind::kString) value.begins.set('"');
      if (node.kind == Kind::kArray) value.begins.set('[');
      if (node.kind == Kind::kObject) value.begins.set('{');
      if (node.kind != Kind::kScalar) continue;
      for (const DfaEdge& edge : tables.dfa.edges(node.start)) {
        for (std::size_t byte = edge.first; byte <= edge.last; ++byte) value.begins.set(byte);
      }
    }
  }
}

class Needs {
 public:
  explicit Needs(ProgramTables& tables) : tables_(tables) {}

  // Rounds until nothing changes: needs only fall, and each round settles those of one more level.
  void run() {
    bool changed = true;
    while (changed) {
      changed = false;
      for (SchemaAlternatives& value : tables_.values) {
        for (std::uint32_t i = 0; i < value.count; ++i) {
          const std::uint32_t need = tables_.nodes[tables_.alternatives[value.first + i]].need;
          value.need = std::min(value.need, need);
        }
      }
      for (SchemaNode& node : tables_.nodes) {
        const std::uint32_t need = need_of(node);
        changed = changed || need < node.need;
        node.need = std::min(node.need, need);
      }
    }
    for (SchemaNode& node : tables_.nodes) finish(node);
  }

 private:
  // One level above a value.
  std::uint32_t above(ValueId value) const {
    const std::uint32_t need = value == kNoValue ? kNoNeed : tables_.values[value].need;
    return need >= kMaxValueDepth ? kNoNeed : need + 1;
  }

  std::uint32_t need_of(const SchemaNode& node) const {
    std::uint32_t need = 0;
    if (node.kind == Kind::kObject) {
      for (std::uint32_t i = 0; i < node.count; ++i) {
        const SchemaProperty& property = tables_.properties[node.first + i];
        if (property.required) need = std::max(need, above(property.value));
      }
      return need;
    }
    if (node.kind != Kind::kArray) return node.need;
    if (node.min > node.max || node.min == kNoLimit) return kNoNeed;
    for (std::uint32_t i = 0; i < std::min(node.min, node.count); ++i) {
      need = std::max(need, above(tables_.prefixes[node.first + i]));
    }
    if (node.min > node.count) need = std::max(need, above(node.rest));
    return need;
  }

  void widen(SchemaNode& node, ValueId value) const {
    const std::uint32_t need = above(value);
    if (need != kNoNeed) node.widest = std::max(node.widest, need);
  }

  void finish(SchemaNode& node) {
    if (node.kind == Kind::kArray) {
      for (std::uint32_t i = 0; i < node.count; ++i) {
        if (above(tables_.prefixes[node.first + i]) == kNoNeed) node.max = std::min(node.max, i);
        widen(node, tables_.prefixes[node.first + i]);
      }
      if (above(node.rest) == kNoNeed) node.max = std::min(node.max, node.count);
      widen(node, node.rest);
    } else if (node.kind == Kind::kObject) {
      std::uint32_t next_required = node.count;
      std::uint32_t next_possible = node.count;
      for (std::uint32_t i = node.count; i-- > 0;) {
        SchemaProperty& property = tables_.properties[node.first + i];
        property.possible = above(property.value) != kNoNeed;
        if (property.required) next_required = i;
        if (property.possible) next_possible = i;
        property.next_required = next_required;
        property.next_possible = next_possible;
        widen(node, property.value);
      }
      if (above(node.rest) == kNoNeed) node.rest = kNoValue;
      widen(node, node.rest);
    }
  }

  ProgramTables& tables_;
};

void build_keys(const DraftTables::Object& object, ProgramTables& tables) {
  struct Draft {
    std::vector<std::pair<std::uint8_t, std::uint32_t>> edges;
    std::vector<std::uint32_t> indices;
    std::uint32_t property = kNoValue;
    StringState state = StringState::kBody;
  };
  const StringTable& table = string_table(StringSpelling::kCanonical);
  const std::uint32_t first_property = tables.nodes[object.node].first;
  std::vector<Draft> drafts(1);
  for (std::uint32_t i = 0; i < object.names.size(); ++i) {
    const bool possible = tables.properties[first_property + i].possible;
    std::string text;
    append_json_string(object.names[i], text);
    std::uint32_t at = 0;
    if (possible) drafts[0].indices.push_back(i);
    for (const char c : text.substr(1, text.size() - 2)) {
      const auto byte = static_cast<std::uint8_t>(c);
      auto& edges = drafts[at].edges;
      const auto place = std::lower_bound(edges.begin(), edges.end(), std::pair{byte, 0U});
      if (place != edges.end() && place->first == byte) {
        at = place->second;
      } else {
        const auto target = static_cast<std::uint32_t>(drafts.size());
        edges.insert(place, {byte, target});
        const auto state = static_cast<std::size_t>(drafts[at].state);
        drafts.emplace_back().state = static_cast<StringState>(table[state][byte]);
        at = target;
      }
      if (possible) drafts[at].indices.push_back(i);
    }
    drafts[at].property = i;
  }
  const auto base = static_cast<std::uint32_t>(tables.keys.size());
  tables.nodes[object.node].key_root = base;
  for (const Draft& draft : drafts) {
    SchemaKey& key = tables.keys.emplace_back();
    key.property = draft.property;
    key.string_state = draft.state;
    key.first_edge = static_cast<std::uint32_t>(tables.key_edges.size());
    for (const auto& [byte, target] : draft.edges) {
      tables.key_edges.push_back({byte, byte, base + target});
    }
    key.end_edge = static_cast<std::uint32_t>(tables.key_edges.size());
    key.first_index = static_cast<std::uint32_t>(tables.key_indices.size());
    tables.key_indices.insert(tables.key_indices.end(), draft.indices.begin(), draft.indices.end());
    key.end_index = static_cast<std::uint32_t>(tables.key_indices.size());
  }
}

}  // namespace

Status finish_tables(const DraftTables& draft, ProgramTables& tables) {
  LATENTD_RETURN_IF_ERROR(flatten(draft, tables));
  Needs(tables).run();
  find_beginnings(tables);
  for (const DraftTables::Object& object : draft.objects) build_keys(object, tables);
  return ok_status();
}

}  // namespace latentd
