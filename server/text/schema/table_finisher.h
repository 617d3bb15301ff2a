// The last steps of compiling: alternatives made flat, what is possible at what depth, the tries of
// property names.
//
// Contract: pure functions of the compiler's; errors are kInvalidArgument.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/text/schema/program_tables.h"

namespace latentd {

struct DraftTables {
  struct Item {
    bool is_value;  // else a node
    std::uint32_t id;
  };
  struct Object {
    NodeId node;
    std::vector<std::string> names;  // of its properties
  };
  std::vector<std::vector<Item>> items;  // of each value
  std::vector<Object> objects;
};

// Completes `tables`: its nodes, properties and prefixes are there.
Status finish_tables(const DraftTables& draft, ProgramTables& tables);

}  // namespace latentd
