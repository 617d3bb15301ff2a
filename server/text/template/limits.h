// What a template may cost, and the meter that counts it.
//
// Contract: TemplateLimits is a plain value. A Budget belongs to one render on one thread. Time and
// memory of a render are both bounded by `max_steps`: a step is one evaluated node, one element
// visited, 256 bytes read or 32 bytes made.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace latentd {

struct TemplateLimits {
  std::size_t max_source_bytes = 1 << 20;  // of the template itself
  int max_nesting = 128;                   // expressions and statements inside one another
  int max_depth = 300;                     // evaluations inside one another, in 1 MiB of stack
  int max_value_depth = 128;               // lists and maps inside one another
  std::uint64_t max_steps = 10'000'000;    // a hostile template ends within about a second
  std::size_t max_output_bytes = 16 << 20;
  std::size_t max_string_bytes = 16 << 20;  // of any string on the way
  std::size_t max_list_items = 1'000'000;   // of any list or map; range() stops at 100,000
};

namespace jinja {

// All errors are kResourceExhausted and name the limit.
class Budget {
 public:
  explicit Budget(const TemplateLimits& limits) : limits_(limits) {}

  const TemplateLimits& limits() const { return limits_; }

  Status spend(std::uint64_t steps);
  // For reading `bytes` of a string: searching, comparing, converting.
  Status read(std::size_t bytes) { return spend(1 + bytes / 256); }
  // Before making a string of `bytes`.
  Status make_string(std::size_t bytes);
  // After appending `added` bytes to a string that now has `total`.
  Status grow_string(std::size_t total, std::size_t added);
  // Before making a list or map of `items`.
  Status make_items(std::size_t items);
  // For a value that was just put around others.
  Status check_value_depth(int depth) const;

 private:
  const TemplateLimits limits_;
  std::uint64_t spent_ = 0;
};

}  // namespace jinja
}  // namespace latentd
