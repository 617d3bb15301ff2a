#include "engine/load_model.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/backend/geometry.h"
#include "engine/device.h"
#include "engine/graph_buckets.h"
#include "engine/random_weights.h"
#include "engine/runner_memory.h"
#include "engine/upload_weights.h"

namespace latentd {
namespace {

constexpr std::uint64_t kRandomSeed = 0;

RunnerOptions runner_options(const EngineOptions& options, const ModelConfig& config,
                             const MemoryPlan& plan, const Backend& backend) {
  RunnerOptions runner;
  runner.max_num_seqs = plan.max_num_seqs;
  runner.max_num_batched_tokens = plan.max_num_batched_tokens;
  runner.max_model_len = plan.max_model_len;
  runner.num_pages = plan.num_pages;
  if (options.device == Device::kCuda) {
    runner.graph_buckets = graph_buckets(std::min(plan.max_num_seqs, ModelRunner::kLogitsSlice));
  }
  runner.shares_prefixes = options.shared_prefixes;
  if (config.attention == AttentionKind::kLatent && !*options.batch_invariant) {
    runner.expansion = backend.expansion(mla_geometry(config), plan.layout.dtype());
  }
  return runner;
}

// Begins to bring the weights to the device, or makes them there.
Result<ModelWeights> place_weights(const EngineOptions& options, const ModelConfig& config,
                                   const LoadedModel& model, WeightUpload& upload) {
  LATENTD_RETURN_IF_ERROR(check_weights_fit(*model.backend, options, model.weight_bytes));
  if (!model.checkpoint.has_value()) return random_weights(*model.backend, config, kRandomSeed);
  return upload.begin(*model.checkpoint);
}

// Sizes the cache from what the workspace has left, and allocates it. The workspace is as large as
// the first plan says, so nothing of the new plan may exceed it.
Status place_cache(const EngineOptions& options, const ModelConfig& config, RunnerMemory& memory,
                   LoadedModel& model) {
  if (model.backend->memory().has_value()) {
    const std::size_t budget = cache_budget(*model.backend, options);
    LATENTD_ASSIGN_OR_RETURN(const MemoryPlan left, plan_memory(config, options, budget));
    model.plan.num_pages = left.num_pages;
    model.plan.max_model_len = left.max_model_len;
    if (model.plan.cache_bytes() > budget) {
      return {
          StatusCode::kResourceExhausted,
          fmt::format("kv_cache_tokens = {} need {} bytes; {} are left of what this process may "
                      "use (gpu_memory_utilization = {})",
                      options.kv_cache_tokens, model.plan.cache_bytes(), budget,
                      options.gpu_memory_utilization)};
    }
  }
  return memory.allocate_cache(*model.backend, model.plan.layout, model.plan.num_pages);
}

std::vector<MemoryUse> memory_table(const LoadedModel& model) {
  std::vector<MemoryUse> table = {{"weights", model.weight_bytes}};
  const std::vector<MemoryUse>& workspace = model.runner->workspace();
  table.insert(table.end(), workspace.begin(), workspace.end());
  table.push_back({"cache", model.plan.cache_bytes()});
  if (const auto memory = model.backend->memory()) {
    std::size_t known = 0;
    for (const MemoryUse& use : table) known += use.bytes;
    // Of the runtime: graphs, code of kernels, what rounding up costs.
    table.push_back(
        {"graphs and kernels", memory->used_by_process - std::min(known, memory->used_by_process)});
    table.push_back({"others", memory->total - memory->free - memory->used_by_process});
    table.push_back({"free", memory->free});
  }
  return table;
}

}  // namespace

Result<LoadedModel> load_model(const std::filesystem::path& model_dir, const EngineOptions& options,
                               const ModelConfig& config, std::unique_ptr<Backend> backend,
                               LoadClock& clock) {
  // Mistakes in options come before anything that takes time.
  constexpr auto kNoLimit = std::numeric_limits<std::size_t>::max();
  LATENTD_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(config, options, kNoLimit));
  LoadedModel model{.plan = std::move(plan)};
  if (options.load_format == LoadFormat::kRandom) {
    model.weight_bytes = random_weight_bytes(config);
  } else {
    LATENTD_ASSIGN_OR_RETURN(model.checkpoint, Checkpoint::open(model_dir, config));
    model.weight_bytes = model.checkpoint->weight_bytes();
    clock.ended("checkpoint");
  }
  model.backend = std::move(backend);
  if (model.backend == nullptr) {
    LATENTD_ASSIGN_OR_RETURN(model.backend, make_backend(options, config, model.weight_bytes));
  }
  clock.ended("device");
  WeightUpload upload(*model.backend);
  LATENTD_ASSIGN_OR_RETURN(ModelWeights weights, place_weights(options, config, model, upload));
  clock.ended("weights-memory");
  const std::size_t budget = cache_budget(*model.backend, options);
  LATENTD_ASSIGN_OR_RETURN(model.plan, plan_memory(config, options, budget));

  RunnerOptions runner = runner_options(options, config, model.plan, *model.backend);
  LATENTD_ASSIGN_OR_RETURN(
      RunnerMemory memory,
      RunnerMemory::create(*model.backend, config, std::move(weights), model.plan.layout, runner));
  clock.ended("workspace");
  LATENTD_RETURN_IF_ERROR(place_cache(options, config, memory, model));
  clock.ended("cache");
  runner.num_pages = model.plan.num_pages;
  LATENTD_ASSIGN_OR_RETURN(
      model.runner,
      ModelRunner::create(*model.backend, config, model.plan.layout, runner, std::move(memory)));
  clock.ended("graphs");
  LATENTD_RETURN_IF_ERROR(upload.finish());
  // Where the device has memory of its own, nobody needs the file any more.
  if (model.backend->memory().has_value()) model.checkpoint.reset();
  clock.ended("weights-rest");
  model.memory = memory_table(model);
  return model;
}

}  // namespace latentd
