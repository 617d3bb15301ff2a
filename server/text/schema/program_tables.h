// ProgramTables: a compiled schema as plain data: what a JSON value may be, in flat arrays.
//
// A *value* is a place in a schema: a list of alternatives, each a *node*. A node is a scalar (a
// byte automaton), a string with bounds on its length, an array or an object. How they are run is
// in machine.h.
//
// `need` is the least number of values nested below a node (or value, itself included in the
// machine's count): what the depth limit has to leave room for. kNoNeed: nothing satisfies it.
#pragma once

#include <bitset>
#include <cstdint>
#include <vector>

#include "server/text/schema/dfa.h"
#include "server/text/schema/json_string.h"
#include "server/text/schema/pattern_dfa.h"

namespace latentd {

using ValueId = std::uint32_t;
using NodeId = std::uint32_t;

inline constexpr std::uint32_t kNoValue = 0xFFFFFFFF;
inline constexpr std::uint32_t kNoNeed = 0xFFFFFFFF;
inline constexpr std::uint32_t kMaxValueDepth = 64;  // values inside of each other, the outermost 0

struct SchemaNode {
  enum class Kind : std::uint8_t { kScalar, kString, kArray, kObject };

  Kind kind = Kind::kScalar;
  std::uint32_t need = kNoNeed;
  std::uint32_t widest = 0;  // largest finite need below, + 1: room for every choice
  std::uint32_t start = 0;   // kScalar: state of `dfa`
  std::uint32_t min = 0;     // kString: characters; kArray: items
  std::uint32_t max = kNoLimit;
  std::uint32_t first = 0;     // kArray: its prefix in `prefixes`; kObject: in `properties`
  std::uint32_t count = 0;     // how many
  ValueId rest = kNoValue;     // kArray: further items; kObject: other properties
  std::uint32_t key_root = 0;  // kObject: in `keys`; there is one even without properties
};

struct SchemaProperty {
  ValueId value = kNoValue;
  bool required = false;
  bool possible = true;             // something satisfies it
  std::uint32_t next_required = 0;  // first required property from this one on; count when none
  std::uint32_t next_possible = 0;
};

// A beginning of the (canonically spelled) names of an object's properties.
struct SchemaKey {
  std::uint32_t first_edge = 0;
  std::uint32_t end_edge = 0;
  std::uint32_t first_index = 0;      // properties below it that are possible, ascending,
  std::uint32_t end_index = 0;        // in key_indices
  std::uint32_t property = kNoValue;  // whose name ends here
  StringState string_state = StringState::kBody;
};

struct SchemaAlternatives {
  std::uint32_t first = 0;  // in `alternatives`
  std::uint32_t count = 0;
  std::uint32_t need = kNoNeed;
  std::bitset<256> begins;  // the bytes that it can begin with
};

struct ProgramTables {
  DfaPool dfa;
  std::vector<SchemaNode> nodes;
  std::vector<SchemaAlternatives> values;
  std::vector<NodeId> alternatives;
  std::vector<ValueId> prefixes;
  std::vector<SchemaProperty> properties;
  std::vector<SchemaKey> keys;
  std::vector<DfaEdge> key_edges;
  std::vector<std::uint32_t> key_indices;
  ValueId root = 0;
};

}  // namespace latentd
