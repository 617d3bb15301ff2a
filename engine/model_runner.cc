#include "engine/model_runner.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "engine/forward.h"
#include "engine/runner_memory.h"
#include "engine/step_stager.h"

namespace latentd {
namespace {

constexpr std::int32_t kForwardPhase = 0;
constexpr std::int32_t kSamplePhase = 1;

template <typename T>
T* pointer(const std::unique_ptr<Buffer>& buffer) {
  return static_cast<T*>(buffer->data());
}

}  // namespace

struct ModelRunner::State {
  Backend& backend;
  ModelConfig config;
  CacheLayout layout;
  RunnerOptions options;
  RunnerMemory memory;
  std::int32_t max_pages;
  StepStager stager;
  std::uint64_t next_forward = 0;  // steps launched; also picks the ring's entry
  std::uint64_t next_wait = 0;     // steps waited for
  bool capturing = false;          // steps of nothing, whose buckets are captured

  State(Backend& backend_arg, const ModelConfig& config_arg, const CacheLayout& layout_arg,
        const RunnerOptions& options_arg, RunnerMemory memory_arg)
      : backend(backend_arg),
        config(config_arg),
        layout(layout_arg),
        options(options_arg),
        memory(std::move(memory_arg)),
        max_pages(layout.pages_for_tokens(options.max_model_len)),
        stager(backend, memory, config.vocab_size, options.max_num_seqs) {}

  BatchView batch_view(const StepBuffers& step) const;
  void choose_attention(const StepBuffers& step, ForwardParams& params) const;
  void sample_slice(const StepBuffers& step, std::int32_t first, std::int32_t count);
  std::optional<std::int32_t> bucket_of(std::size_t count) const;
  Status run(const std::optional<BucketKey>& bucket, const std::function<void()>& body);
  Status launch_forward(std::int32_t ring);
  Status launch_sample(std::int32_t ring);
  Status capture();
  static void read_outcome(const SampleOutcome& outcome, StepResult& result, TokenOutcome& out);
};

BatchView ModelRunner::State::batch_view(const StepBuffers& step) const {
  BatchView batch;
  batch.num_tokens = static_cast<std::int32_t>(step.tokens.size());
  batch.num_rows = static_cast<std::int32_t>(step.rows.size());
  batch.tokens = step.tokens.device();
  batch.positions = step.positions.device();
  batch.token_slots = step.token_slots.device();
  batch.rows = step.rows.device();
  batch.host_rows = step.rows.host().data();
  if (options.shares_prefixes) {
    batch.prefixes = step.prefixes.device();
    batch.row_prefixes = step.row_prefixes.device();
  }
  batch.page_table = pointer<std::int32_t>(memory.page_table);
  batch.max_pages = max_pages;
  return batch;
}

// Decode rows come first in a plan: everything up to the last row that is too short to expand is
// absorbed.
void ModelRunner::State::choose_attention(const StepBuffers& step, ForwardParams& params) const {
  const std::span<const RowView> rows = step.rows.host().first(step.rows.size());
  params.absorbed_rows = params.batch.num_rows;
  params.absorbed_tokens = params.batch.num_tokens;
  if (!options.expansion.any()) return;
  while (params.absorbed_rows > 0) {
    const RowView& last = rows[static_cast<std::size_t>(params.absorbed_rows - 1)];
    if (!options.expansion.expands(last.count, last.start)) return;
    --params.absorbed_rows;
    params.absorbed_tokens = last.first_token;
  }
}

void ModelRunner::State::sample_slice(const StepBuffers& step, std::int32_t first,
                                      std::int32_t count) {
  void* gathered = memory.gathered->data();
  const std::int32_t hidden = config.hidden_size;
  auto* logits = pointer<float>(memory.logits);
  backend.gather(
      {memory.scratch.hidden, step.logit_tokens.device() + first, gathered, count, hidden});
  backend.rms_norm({gathered, memory.weights->final_norm, gathered, count, hidden, hidden, hidden,
                    config.rms_norm_eps});
  backend.linear(
      {gathered, memory.weights->lm_head, logits, count, /*accumulate=*/false, /*out_fp32=*/true});

  SampleParams params;
  params.logits = logits;
  params.num_rows = count;
  params.vocab_size = config.vocab_size;
  params.rows = step.sample_rows.device() + first;
  params.masks = step.masks.device();
  params.mask_words = static_cast<std::int32_t>(stager.mask_words());
  params.edits = step.edits.device();
  params.token_counts = pointer<std::uint16_t>(memory.token_counts);
  params.last_tokens = pointer<TokenId>(memory.last_tokens);
  params.outcomes = step.outcomes.device() + first;
  backend.sample(params);
}

// The least bucket that holds `count`, or none.
std::optional<std::int32_t> ModelRunner::State::bucket_of(std::size_t count) const {
  const auto& buckets = options.graph_buckets;
  const auto found =
      std::lower_bound(buckets.begin(), buckets.end(), static_cast<std::int64_t>(count));
  return found == buckets.end() || count == 0 ? std::nullopt : std::optional(*found);
}

Status ModelRunner::State::run(const std::optional<BucketKey>& bucket,
                               const std::function<void()>& body) {
  return capturing && bucket.has_value() ? backend.capture(*bucket, body)
                                         : backend.run(bucket, body);
}

// A step whose rows all hold one token is padded to its bucket, and its layers are replayed. What
// depends on more than the bucket (how many page-table entries changed) runs before them.
Status ModelRunner::State::launch_forward(std::int32_t ring) {
  StepBuffers& step = memory.ring[static_cast<std::size_t>(ring)];
  PrepareParams prepare;
  prepare.updates = step.updates.device();
  prepare.num_updates = static_cast<std::int32_t>(step.updates.size());
  prepare.page_table = pointer<std::int32_t>(memory.page_table);
  prepare.max_pages = max_pages;
  prepare.tokens = step.tokens.device();
  prepare.token_slots = step.token_slots.device();
  prepare.last_tokens = pointer<TokenId>(memory.last_tokens);
  prepare.num_tokens = static_cast<std::int32_t>(step.tokens.size());

  std::optional<BucketKey> bucket;
  if (step.tokens.size() == step.rows.size()) {
    if (const auto size = bucket_of(step.rows.size())) {
      bucket = BucketKey{kForwardPhase, ring, *size};
      step.pad_rows(static_cast<std::size_t>(*size));
    }
  }
  step.updates.stage_in(backend);
  step.tokens.stage_in(backend);
  step.positions.stage_in(backend);
  step.token_slots.stage_in(backend);
  step.rows.stage_in(backend);
  if (options.shares_prefixes) {
    step.pad_prefixes();
    step.prefixes.stage_in(backend);
    step.row_prefixes.stage_in(backend);
  }

  ForwardParams params;
  params.config = &config;
  params.weights = memory.weights.get();
  params.layout = &layout;
  params.batch = batch_view(step);
  params.cache_pool = memory.cache_pool->data();
  params.num_pages = options.num_pages;
  params.rope_cos = pointer<float>(memory.rope_cos);
  params.rope_sin = pointer<float>(memory.rope_sin);
  params.scratch = memory.scratch;
  choose_attention(step, params);

  LATENTD_RETURN_IF_ERROR(backend.run(std::nullopt, [&] { backend.prepare(prepare); }));
  return run(bucket, [&] { latentd::forward(backend, params); });
}

// Logits of up to a bucket's rows are one replay; more come in slices.
Status ModelRunner::State::launch_sample(std::int32_t ring) {
  StepBuffers& step = memory.ring[static_cast<std::size_t>(ring)];
  std::optional<BucketKey> bucket;
  if (const auto size = bucket_of(step.sample_rows.size())) {
    bucket = BucketKey{kSamplePhase, ring, *size};
    step.pad_logits(static_cast<std::size_t>(*size));
  }
  step.logit_tokens.stage_in(backend);
  step.sample_rows.stage_in(backend);
  step.masks.stage_in(backend);
  step.edits.stage_in(backend);
  const auto num_rows = static_cast<std::int32_t>(step.sample_rows.size());
  return run(bucket, [&] {
    for (std::int32_t first = 0; first < num_rows; first += kLogitsSlice) {
      sample_slice(step, first, std::min(num_rows - first, kLogitsSlice));
    }
  });
}

// Captures the graphs of all buckets by steps of nothing. The device computes what one of them
// needs computed while the next is captured.
Status ModelRunner::State::capture() {
  capturing = true;
  for (const int bucket : options.graph_buckets) {
    for (const std::int32_t ring : {0, 1}) {
      StepBuffers& step = memory.ring[static_cast<std::size_t>(ring)];
      LATENTD_RETURN_IF_ERROR(backend.wait(step.done));  // its staging is free again
      step.clear();
      step.pad_rows(static_cast<std::size_t>(bucket));
      step.pad_logits(static_cast<std::size_t>(bucket));
      LATENTD_RETURN_IF_ERROR(launch_forward(ring));
      LATENTD_RETURN_IF_ERROR(launch_sample(ring));
      step.done = backend.record();
    }
  }
  capturing = false;
  return backend.wait(backend.record());
}

void ModelRunner::State::read_outcome(const SampleOutcome& outcome, StepResult& result,
                                      TokenOutcome& out) {
  out.token = {outcome.token, outcome.logprob};
  out.first_top = static_cast<std::int32_t>(result.top_logprobs.size());
  out.num_top = outcome.num_top;
  for (std::int32_t i = 0; i < outcome.num_top; ++i) {
    result.top_logprobs.push_back({outcome.top_tokens[i], outcome.top_logprobs[i]});
  }
}

ModelRunner::ModelRunner(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelRunner::~ModelRunner() = default;

Result<std::unique_ptr<ModelRunner>> ModelRunner::create(Backend& backend,
                                                         const ModelConfig& config,
                                                         const CacheLayout& layout,
                                                         const RunnerOptions& options,
                                                         RunnerMemory memory) {
  auto state = std::make_unique<State>(backend, config, layout, options, std::move(memory));
  LATENTD_RETURN_IF_ERROR(state->capture());
  return std::unique_ptr<ModelRunner>(new ModelRunner(std::move(state)));
}

Status ModelRunner::forward(const BatchPlan& plan) {
  State& s = *state_;
  LATENTD_CHECK(s.next_forward - s.next_wait < 2, "two steps are in flight already");
  const auto ring = static_cast<std::int32_t>(s.next_forward % 2);
  StepBuffers& step = s.memory.ring[static_cast<std::size_t>(ring)];
  ++s.next_forward;
  s.stager.stage_forward(plan, step);
  return s.launch_forward(ring);
}

Status ModelRunner::sample(const BatchPlan& plan) {
  State& s = *state_;
  const auto ring = static_cast<std::int32_t>((s.next_forward - 1) % 2);
  StepBuffers& step = s.memory.ring[static_cast<std::size_t>(ring)];
  LATENTD_CHECK(step.step == plan.step, "sample of step {} after forward of step {}", plan.step,
                step.step);
  s.stager.stage_sample(step);
  const std::size_t num_outcomes = step.sample_rows.size();  // before padding
  LATENTD_RETURN_IF_ERROR(s.launch_sample(ring));
  step.outcomes.stage_out(s.backend, num_outcomes);
  step.done = s.backend.record();
  return ok_status();
}

Status ModelRunner::wait(StepResult& result) {
  State& s = *state_;
  LATENTD_CHECK(s.next_wait < s.next_forward, "no step is in flight");
  StepBuffers& step = s.memory.ring[s.next_wait % 2];
  ++s.next_wait;
  LATENTD_RETURN_IF_ERROR(s.backend.wait(step.done));

  result.clear();
  result.step = step.step;
  const std::span<const SampleOutcome> outcomes = step.outcomes.host();
  for (const RowLogits& logits : step.row_logits) {
    RowResult& row = result.rows.emplace_back();
    row.first_prompt = static_cast<std::int32_t>(result.prompt_logprobs.size());
    row.num_prompt = logits.num_targets;
    for (std::int32_t i = 0; i < logits.num_targets; ++i) {
      const SampleOutcome& outcome =
          outcomes[static_cast<std::size_t>(logits.first_target) + static_cast<std::size_t>(i)];
      if (outcome.finite == 0) row.status = StatusCode::kInternal;
      State::read_outcome(outcome, result, result.prompt_logprobs.emplace_back());
    }
    if (logits.sample < 0) continue;
    const SampleOutcome& outcome = outcomes[static_cast<std::size_t>(logits.sample)];
    if (outcome.finite == 0) {
      row.status = logits.nothing_allowed ? StatusCode::kFailedPrecondition : StatusCode::kInternal;
    }
    row.sampled = row.status == StatusCode::kOk;
    if (row.sampled) State::read_outcome(outcome, result, row.sample);
  }
  return ok_status();
}

const std::vector<MemoryUse>& ModelRunner::workspace() const { return state_->memory.workspace; }

}  // namespace latentd
