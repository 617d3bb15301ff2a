// A model of a given shape with random matrices, made where it is used: for measuring speed without
// a checkpoint.
//
// Matrices are uniform with the variance 1 / inputs that keeps activations of order one, norms are
// one, correction biases zero. A tensor's bits depend on its published name and the seed alone, so
// they are the same on every backend and in every process.
//
// Contract: stateless.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"

namespace latentd {

// Device views, kept until the backend ends; matrices of config.dtype. REQUIRES: a checked config
// of fp32 or bf16. kResourceExhausted with the numbers when memory is short.
Result<ModelWeights> random_weights(Backend& backend, const ModelConfig& config,
                                    std::uint64_t seed);

// Bytes of all its tensors.
std::size_t random_weight_bytes(const ModelConfig& config);

}  // namespace latentd
