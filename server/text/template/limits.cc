#include "server/text/template/limits.h"

#include <spdlog/fmt/fmt.h>

namespace latentd::jinja {

namespace {

Status exhausted(const char* what, std::uint64_t limit) {
  return {StatusCode::kResourceExhausted,
          fmt::format("the template exceeds the limit of {} {}", limit, what)};
}

}  // namespace

Status Budget::spend(std::uint64_t steps) {
  if (steps > limits_.max_steps - spent_) {
    spent_ = limits_.max_steps;
    return exhausted("steps", limits_.max_steps);
  }
  spent_ += steps;
  return ok_status();
}

Status Budget::make_string(std::size_t bytes) { return grow_string(bytes, bytes); }

Status Budget::grow_string(std::size_t total, std::size_t added) {
  if (total > limits_.max_string_bytes) {
    return exhausted("bytes of a string", limits_.max_string_bytes);
  }
  return spend(1 + added / 32);
}

Status Budget::make_items(std::size_t items) {
  if (items > limits_.max_list_items) return exhausted("items of a list", limits_.max_list_items);
  return spend(1 + items);
}

Status Budget::check_value_depth(int depth) const {
  if (depth <= limits_.max_value_depth) return ok_status();
  return exhausted("lists and maps inside one another",
                   static_cast<std::uint64_t>(limits_.max_value_depth));
}

}  // namespace latentd::jinja
