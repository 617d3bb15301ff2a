#include "engine/random_weights.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "engine/model/weight_table.h"

namespace latentd {
namespace {

// FNV-1a, 64 bits, of the seed's bytes and the name.
std::uint64_t seed_of(std::string_view name, std::uint64_t seed) {
  constexpr std::uint64_t kPrime = 0x100000001b3U;
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (int shift = 0; shift < 64; shift += 8) hash = (hash ^ ((seed >> shift) & 0xffU)) * kPrime;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * kPrime;
  return hash;
}

// Gives the row's view its dtype and shape.
void shape_view(const WeightRow& row, DType dtype) {
  TensorView& view = *row.target;
  view.dtype = row.fp32 ? DType::kF32 : dtype;
  view.rank = static_cast<int>(row.view_shape.size());
  std::copy(row.view_shape.begin(), row.view_shape.end(), view.shape.begin());
}

RandomTensor recipe(const WeightRow& row, std::uint64_t seed) {
  RandomTensor tensor;
  tensor.view = row.target;
  tensor.seed = seed_of(row.name, seed);
  if (row.shape.size() == 1) {
    tensor.constant = row.name.ends_with("norm.weight") ? 1.0F : 0.0F;
  } else {
    // Uniform in [-a, a] has variance a^2 / 3.
    tensor.limit = static_cast<float>(std::sqrt(3.0 / static_cast<double>(row.shape.back())));
  }
  return tensor;
}

}  // namespace

Result<ModelWeights> random_weights(Backend& backend, const ModelConfig& config,
                                    std::uint64_t seed) {
  ModelWeights weights;
  std::vector<RandomTensor> tensors;
  for (const WeightRow& row : weight_table(config, weights)) {
    shape_view(row, config.dtype);
    tensors.push_back(recipe(row, seed));
  }
  LATENTD_RETURN_IF_ERROR(backend.create_random(tensors));
  if (config.tie_word_embeddings) weights.lm_head = weights.embedding;
  return weights;
}

std::size_t random_weight_bytes(const ModelConfig& config) {
  ModelWeights weights;
  std::size_t bytes = 0;
  for (const WeightRow& row : weight_table(config, weights)) {
    shape_view(row, config.dtype);
    bytes += row.target->num_bytes();
  }
  return bytes;
}

}  // namespace latentd
