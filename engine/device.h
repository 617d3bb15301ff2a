// Which device an engine computes on, and its backend.
//
// Contract: stateless; any thread.
#pragma once

#include <cstddef>
#include <memory>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/engine.h"
#include "engine/model/model_config.h"

namespace latentd {

// `options` with the device decided (kAuto: CUDA where the build has it, a device answers and it
// runs the model, else the CPU) and what hangs on it: batch_invariant.
EngineOptions resolve_device(const EngineOptions& options, const ModelConfig& config);

// kUnimplemented, naming the option, where the CUDA backend does not run the model's attention.
Status check_cuda_runs(const ModelConfig& config);

// The backend of resolved options. `weight_bytes`: on the CPU, small models are copied into huge
// pages. kUnimplemented when this build has no such backend or it does not run the model,
// kUnavailable when no device answers.
Result<std::unique_ptr<Backend>> make_backend(const EngineOptions& options,
                                              const ModelConfig& config, std::size_t weight_bytes);

}  // namespace latentd
