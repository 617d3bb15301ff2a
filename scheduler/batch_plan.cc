#include "scheduler/batch_plan.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <iterator>

namespace latentd {
namespace {

const char* logits_name(LogitsWanted logits) {
  switch (logits) {
    case LogitsWanted::kNone:
      return "none";
    case LogitsWanted::kLast:
      return "last";
    case LogitsWanted::kAll:
      return "all";
  }
  return "?";
}

}  // namespace

void BatchPlan::clear() {
  step = 0;
  starts.clear();
  page_changes.clear();
  rows.clear();
  prefixes.clear();
  tokens.clear();
  pages.clear();
}

std::string BatchPlan::to_string() const {
  std::string text = fmt::format("step {}: {} tokens in {} rows", step, num_tokens(), rows.size());
  auto out = std::back_inserter(text);
  for (const SlotStart& start : starts) {
    fmt::format_to(out, "\n  start slot {} generated {}", start.slot.value(), start.num_generated);
  }
  for (const PageTableChange& change : page_changes) {
    fmt::format_to(out, "\n  pages slot {} from {}:", change.slot.value(), change.first_index);
    const auto first = pages.begin() + change.first_page;
    std::for_each(first, first + change.num_pages,
                  [&](PageId page) { fmt::format_to(out, " {}", page.value()); });
  }
  for (const PlanRow& row : rows) {
    fmt::format_to(out, "\n  row slot {} tokens {}..{} logits {}{}{}", row.slot.value(), row.start,
                   row.start + row.count - 1, logits_name(row.logits),
                   row.samples ? " samples" : "", row.pending_token ? " pending" : "");
  }
  for (const SharedPrefix& prefix : prefixes) {
    fmt::format_to(out, "\n  rows {}..{} share {}..{}", prefix.first_row,
                   prefix.first_row + prefix.num_rows - 1, prefix.begin, prefix.end - 1);
  }
  return text;
}

void StepResult::clear() {
  step = 0;
  rows.clear();
  prompt_logprobs.clear();
  top_logprobs.clear();
}

}  // namespace latentd
