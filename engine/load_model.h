// From a model's directory to a runner that is ready: opens the checkpoint, brings the weights to
// the device, and gives every other byte its use. Nothing is allocated afterwards.
//
// Order: backend, memory of the weights, scratch of operations, workspace, cache from what is left,
// graphs. The weights travel from the second step to the end.
//
// Contract: called once, before the engine's thread starts.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/engine.h"
#include "engine/load_clock.h"
#include "engine/memory_plan.h"
#include "engine/memory_use.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_binder.h"
#include "engine/model_runner.h"

namespace latentd {

// Members that need others come after them.
struct LoadedModel {
  std::optional<Checkpoint> checkpoint = {};  // when the device computes from it
  std::unique_ptr<Backend> backend = {};
  std::unique_ptr<ModelRunner> runner = {};
  MemoryPlan plan;
  std::size_t weight_bytes = 0;
  std::vector<MemoryUse> memory = {};  // see EngineInfo
};

// `options` are resolved (device.h); a null `backend` is made as they say. `clock` learns what took
// how long. Errors name the file or the option and the numbers.
Result<LoadedModel> load_model(const std::filesystem::path& model_dir, const EngineOptions& options,
                               const ModelConfig& config, std::unique_ptr<Backend> backend,
                               LoadClock& clock);

}  // namespace latentd
