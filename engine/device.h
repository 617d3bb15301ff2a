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

// `options` with the device decided (kAuto: CUDA where the build has it and a device answers, else
// the CPU) and what hangs on it: batch_invariant, and whether prefixes can be shared.
EngineOptions resolve_device(const EngineOptions& options, const ModelConfig& config);

// The backend of resolved options. `weight_bytes`: on the CPU, small models are copied into huge
// pages. kUnimplemented when this build has no such backend, kUnavailable when no device answers.
Result<std::unique_ptr<Backend>> make_backend(const EngineOptions& options,
                                              const ModelConfig& config, std::size_t weight_bytes);

}  // namespace latentd
