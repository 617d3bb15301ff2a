#include "tests/support/engine_rig.h"

#include "base/check.h"
#include "engine/memory_plan.h"
#include "engine/random_weights.h"
#include "engine/upload_weights.h"

namespace latentd {

EngineRig::EngineRig(const std::filesystem::path& model_dir, const RigOptions& options) {
  config_ = load_model_config(model_dir).value();
  backend_ = make_rig_backend(options);
  if (options.wrap) backend_ = options.wrap(std::move(backend_));
  if (options.record_logits) {
    auto recording = std::make_unique<RecordingBackend>(std::move(backend_));
    recording_ = recording.get();
    backend_ = std::move(recording);
  }

  const CacheLayout layout = cache_layout(config_, options.kv_cache_dtype, options.page_tokens);
  RunnerOptions runner;
  runner.max_num_seqs = options.max_num_seqs;
  runner.max_num_batched_tokens = options.max_num_batched_tokens;
  runner.max_model_len = options.max_model_len;
  runner.num_pages = options.num_pages;
  runner.expansion = ExpansionPolicy::from(options.expanded_min_tokens);
  runner.graph_buckets = options.graph_buckets;
  runner.shares_prefixes = options.prefixes.max_depth > 0;
  auto memory =
      RunnerMemory::create(*backend_, config_, weights(model_dir, options), layout, runner).value();
  const Status allocated = memory.allocate_cache(*backend_, layout, options.num_pages);
  LATENTD_CHECK(allocated.ok(), "{}", allocated.to_string());
  runner_ = ModelRunner::create(*backend_, config_, layout, runner, std::move(memory)).value();

  SchedulerOptions scheduler;
  scheduler.max_num_seqs = options.max_num_seqs;
  scheduler.max_num_batched_tokens = options.max_num_batched_tokens;
  scheduler.max_model_len = options.max_model_len;
  scheduler.pipeline_depth = options.pipeline_depth;
  scheduler.prefix_cache = options.prefix_cache;
  scheduler.overcommit = options.overcommit;
  scheduler.prefixes = options.prefixes;
  blocks_ = std::make_unique<BlockManager>(options.num_pages, options.page_tokens);
  scheduler_ = std::make_unique<Scheduler>(scheduler, *blocks_);
  loop_ = std::make_unique<StepLoop>(*scheduler_, *runner_, options.pipeline_depth);
}

ModelWeights EngineRig::weights(const std::filesystem::path& model_dir, const RigOptions& options) {
  if (options.random_weights) return random_weights(*backend_, config_, /*seed=*/1).value();
  checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::open(model_dir, config_).value());
  return upload_weights(*backend_, *checkpoint_).value();
}

std::unique_ptr<Request> EngineRig::request(std::uint64_t id, std::vector<TokenId> prompt,
                                            int max_new_tokens, float temperature) {
  auto request = std::make_unique<Request>();
  request->id = RequestId(id);
  request->prompt = std::move(prompt);
  request->max_new_tokens = max_new_tokens;
  request->sampling.temperature = temperature;
  request->sampling.seed = id;
  return request;
}

void EngineRig::submit(std::unique_ptr<Request> request) {
  const std::uint64_t id = request->id.value();
  outcomes_[id] = {};
  const Status status = scheduler_->submit(std::move(request), steady_now());
  LATENTD_CHECK(status.ok(), "{}", status.to_string());
}

void EngineRig::cancel(std::uint64_t id) {
  scheduler_->cancel(RequestId(id), FinishReason::kCancelled, steady_now());
}

bool EngineRig::turn() {
  const Status status = loop_->turn();
  LATENTD_CHECK(status.ok(), "{}", status.to_string());
  events_.clear();
  scheduler_->drain_events(events_);
  for (Event& event : events_) {
    Outcome& outcome = outcomes_.at(event.request.value());
    switch (event.kind) {
      case Event::Kind::kStarted:
        outcome.cached_tokens = event.cached_tokens;
        break;
      case Event::Kind::kPromptLogprob:
        outcome.prompt_logprobs.push_back(event.token.logprob);
        break;
      case Event::Kind::kToken:
        outcome.tokens.push_back(event.token.token);
        outcome.logprobs.push_back(event.token.logprob);
        break;
      case Event::Kind::kFinished:
        outcome.finished = true;
        outcome.reason = event.reason;
        outcome.error = event.error;
        outcome.preemptions = event.preemptions;
        break;
    }
  }
  return !loop_->idle();
}

void EngineRig::run_until_idle() {
  while (turn() || !scheduler_->idle()) {
  }
}

std::map<std::int32_t, std::vector<float>> EngineRig::logits(std::uint64_t id) const {
  std::map<std::int32_t, std::vector<float>> found;
  for (const auto& [key, values] : recording_->logits()) {
    if (key.first == id) found.emplace(key.second, values);
  }
  return found;
}

}  // namespace latentd
