#include "server/access_log.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <random>

#include "server/log.h"

namespace latentd {

void log_access(const AccessRecord& record) {
  LogFields fields = {{"door", std::string(record.door)}, {"method", std::string(record.method)}};
  if (!record.path.empty()) fields.emplace_back("path", record.path);
  fields.emplace_back("status", record.status);
  fields.emplace_back("ms", fmt::format("{:.1f}", to_seconds(steady_now() - record.arrival) * 1e3));
  if (record.usage != nullptr) {
    fields.emplace_back("prompt_tokens", std::to_string(record.usage->prompt_tokens));
    fields.emplace_back("completion_tokens", std::to_string(record.usage->completion_tokens));
    fields.emplace_back("cached_tokens", std::to_string(record.usage->cached_tokens));
  }
  if (record.caller != nullptr && !record.caller->policy().tenant.empty()) {
    fields.emplace_back("tenant", record.caller->policy().tenant);
  }
  fields.emplace_back("request_id", record.request_id);
  if (record.trace) {
    fields.emplace_back("trace_id", record.trace->trace_id);
    if (!record.trace->parent_id.empty()) {
      fields.emplace_back("parent_id", record.trace->parent_id);
    }
    fields.emplace_back("span_id", record.trace->span_id);
  }
  log_event("request", fields);
}

std::string request_id_or_new(std::string_view offered, std::string_view prefix) {
  const bool fit = !offered.empty() && offered.size() <= 128 &&
                   std::ranges::all_of(offered, [](char c) { return c > 0x20 && c < 0x7f; });
  if (fit) return std::string(offered);
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{}{:016x}{:016x}", prefix, random(), random());
}

}  // namespace latentd
