// RandomWeights: a model of a given shape with random matrices, for measuring speed without a
// checkpoint.
//
// Matrices are uniform with the variance that keeps activations of order one, norms are one,
// correction biases zero. The same config and seed give the same bits.
//
// Contract: owns the memory; views live as long as it. Movable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/model/model_config.h"
#include "engine/model/weights.h"

namespace latentd {

class RandomWeights {
 public:
  // Matrices of config.dtype. REQUIRES: a checked config of fp32 or bf16.
  RandomWeights(const ModelConfig& config, std::uint64_t seed);

  const ModelWeights& weights() const { return weights_; }

 private:
  TensorView matrix(std::int64_t outputs, std::int64_t inputs);
  TensorView constant(std::int64_t n, float value, DType dtype);
  MlpWeights mlp(int inner);
  void fill_attention(MlaWeights& attention);
  void fill_moe(MoeWeights& moe);
  std::byte* allocate(std::size_t bytes);

  ModelConfig config_;
  std::uint64_t state_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
  ModelWeights weights_;
};

}  // namespace latentd
