#include "server/http/console_state.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "server/http/response_json.h"
#include "server/version.h"

namespace latentd {
namespace {

OrderedJson model_json(const ServingModel& model) {
  const EngineInfo& info = model.info;
  return {{"name", model.name()},
          {"architecture", model.config.architecture},
          {"layers", model.config.num_layers},
          {"converses", model.chat != nullptr},
          {"device", info.device},
          {"dtype", dtype_name(info.activation_dtype)},
          {"kv_cache_dtype", dtype_name(info.kv_cache_dtype)},
          {"weight_bytes", info.weight_bytes},
          {"max_model_len", info.max_model_len},
          {"max_num_seqs", info.max_num_seqs},
          {"max_num_batched_tokens", info.max_num_batched_tokens}};
}

OrderedJson cache_json(const EngineInfo& info) {
  return {{"attention", info.attention},
          {"bytes_per_token", info.kv_bytes_per_token},
          {"mha_bytes_per_token", info.mha_kv_bytes_per_token},
          {"page_tokens", info.page_tokens},
          {"pages", info.num_pages}};
}

OrderedJson load_json(const EngineStats& stats, int in_house) {
  const SchedulerStats& scheduler = stats.scheduler;
  return {{"running", scheduler.num_running},
          {"waiting", scheduler.num_waiting + static_cast<std::int64_t>(stats.mailbox_depth)},
          {"in_house", in_house},
          {"steps", stats.steps},
          {"step_seconds", stats.step_seconds_total},
          {"last_step_tokens", stats.last_step_tokens},
          {"generated_tokens", scheduler.generated_tokens},
          {"prompt_tokens_computed", scheduler.prompt_tokens_computed},
          {"prompt_tokens_cached", scheduler.prompt_tokens_cached},
          {"prefix_queried_tokens", scheduler.prefix_queried_tokens},
          {"preemptions", scheduler.preemptions},
          {"evictions", scheduler.blocks.evictions}};
}

OrderedJson pages_json(const BlockManagerStats& blocks, const PageMap& map) {
  std::array<int, 4> counts{};
  for (const PageRun& run : map.runs) counts[static_cast<std::size_t>(run.state)] += run.count;
  const bool drawn = !map.runs.empty();
  OrderedJson json = {{"total", blocks.total}, {"promised", blocks.promised}};
  json["free"] = counts[static_cast<std::size_t>(PageState::kFree)];
  json["private"] = counts[static_cast<std::size_t>(PageState::kPrivate)];
  json["shared"] = counts[static_cast<std::size_t>(PageState::kShared)];
  json["cached"] = counts[static_cast<std::size_t>(PageState::kCached)];
  json["age_seconds"] = nullptr;
  if (drawn) json["age_seconds"] = to_seconds(steady_now() - map.time);
  json["map"] = page_map_text(map.runs);
  return json;
}

OrderedJson latency_json(const std::vector<HistogramSnapshot>& histograms) {
  OrderedJson json = OrderedJson::object();
  for (const HistogramSnapshot& histogram : histograms) {
    std::vector<double> bounds = histogram.bounds;
    std::erase_if(bounds, [](double bound) { return std::isinf(bound); });
    json[histogram.name] = {{"le", bounds}, {"counts", histogram.counts}};
  }
  return json;
}

OrderedJson requests_json(const std::vector<RequestRecord>& records) {
  OrderedJson json = OrderedJson::array();
  for (const RequestRecord& record : records) {
    const Usage& usage = record.usage;
    json.push_back({{"id", record.request_id},
                    {"call", record.call},
                    {"status", record.status},
                    {"ended", record.ended_unix},
                    {"seconds", record.duration_seconds},
                    {"queue_seconds", usage.cost.queue_seconds},
                    {"first_token_seconds", usage.cost.first_token_seconds},
                    {"prompt_tokens", usage.prompt_tokens},
                    {"cached_tokens", usage.cached_tokens},
                    {"completion_tokens", usage.completion_tokens},
                    {"kv_byte_seconds", usage.cost.kv_byte_seconds}});
  }
  return json;
}

}  // namespace

std::string page_map_text(const std::vector<PageRun>& runs) {
  constexpr std::string_view kLetters = "fpsc";
  std::string text;
  for (const PageRun& run : runs) {
    text += kLetters[static_cast<std::size_t>(run.state)];
    text += std::to_string(run.count);
  }
  return text;
}

HttpReply console_state(Frontend& frontend, const Caller& caller) {
  OrderedJson json;
  json["time"] = to_seconds(steady_now().time_since_epoch());
  json["version"] = kVersion;
  json["state"] = server_state_name(frontend.state());
  json["model"] = nullptr;
  if (const ServingModel* model = frontend.model()) {
    const EngineStats stats = frontend.engine().stats();
    json["model"] = model_json(*model);
    json["cache"] = cache_json(model->info);
    json["load"] = load_json(stats, frontend.in_house());
    json["pages"] = pages_json(stats.scheduler.blocks, frontend.engine().page_map());
    json["latency"] = latency_json(frontend.metrics().latencies());
  }
  json["requests"] = requests_json(frontend.recent().newest_first(tenant_of(caller)));
  HttpReply reply;
  reply.body = dump(json);
  reply.headers = {{"Cache-Control", "no-store"}};
  return reply;
}

}  // namespace latentd
