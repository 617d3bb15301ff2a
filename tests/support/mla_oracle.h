// The oracle: a model in double precision, written from the papers; its attention is Multi-head
// Latent Attention, or what gqa_oracle.h computes.
//
// It is neither backend's form. Keys and values are expanded for every token and head and attended
// to in full (arXiv:2405.04434, equations 9-19 and 37-47), experts are summed as the equations say
// (arXiv:2405.04434 section 2.1.3, arXiv:2412.19437 equations 12-16), nothing is absorbed, paged,
// fused or reordered, and all arithmetic is double. Slow on purpose; for tests.
//
// Vectors are dense, row-major spans of double. Weights are views of host memory in bf16 or fp32.
// Shapes: H heads, K kv_lora_rank, N nope, R rope, V v_head_dim, D hidden size.
//
// Contract: pure functions; sizes that do not match end the process.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/tensor_view.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"

namespace latentd::oracle {

using Vector = std::vector<double>;

// Every element of a bf16 or fp32 tensor.
Vector widen(const TensorView& tensor);

// weight x: [outputs, inputs] times [inputs]. Leading dimensions count as outputs.
Vector matvec(const TensorView& weight, std::span<const double> x);

// x / sqrt(mean(x^2) + eps) * weight
Vector rms_norm(std::span<const double> x, const TensorView& weight, double eps);

// Rotates the pairs of `x` [R] in place by `position` times their frequencies, yarn included.
void rope(std::span<double> x, int position, const RopeConfig& config);

struct AttentionShape {
  int num_heads = 0;
  int kv_lora_rank = 0;
  int nope_dim = 0;
  int rope_dim = 0;
  int v_dim = 0;
  double softmax_scale = 0.0;

  std::size_t q_size() const { return size(num_heads) * size(nope_dim + rope_dim); }
  std::size_t latent_size() const { return size(kv_lora_rank + rope_dim); }
  std::size_t out_size() const { return size(num_heads) * size(v_dim); }

 private:
  static std::size_t size(int value) { return static_cast<std::size_t>(value); }
};

// The shape of a config; the softmax scale is computed anew, in double.
AttentionShape attention_shape(const ModelConfig& config);

// One query against all cached tokens that it may see: q is [H, N + R] with rotated rope parts,
// latents are [tokens, K + R] as cached (normalised latent, then rotated key), kv_b is
// [H, N + V, K]. Returns [H, V].
Vector attention(const AttentionShape& shape, std::span<const double> q,
                 std::span<const double> latents, const TensorView& kv_b);

// One absorbed query [K + R] against cached rows [tokens, K + R]: sum_j softmax(scale q . c_j) c_j
// over the first kv_lora_rank values of the rows.
Vector attend_latents(int kv_lora_rank, double scale, std::span<const double> q,
                      std::span<const double> rows);

// The experts of one token, ids ascending, and their weights.
struct Routing {
  std::vector<int> experts;
  Vector weights;
};

// `logits` [experts] are router x; `bias` [experts] or empty. Ties go to the lower index.
Routing route(std::span<const double> logits, std::span<const double> bias,
              const MoeConfig& config);

// down(silu(gate x) * up x)
Vector mlp(const MlpWeights& weights, std::span<const double> x);

// Routed experts, weighted, plus the shared ones.
Vector moe(const MoeWeights& weights, std::span<const double> x, const MoeConfig& config);

// What attention writes into the cache for the token `x` (normalised hidden state [D]) at
// `position`: [K + R].
Vector latent_row(const ModelConfig& config, const MlaWeights& weights, std::span<const double> x,
                  int position);

// The query of the token `x` (normalised hidden state [D]) at `position`: [H, N + R], rotated.
Vector query_row(const ModelConfig& config, const MlaWeights& weights, std::span<const double> x,
                 int position);

// hidden[t] += attention(norm(hidden[t])) for every token of a sequence, each seeing the ones
// before it.
void add_latent_attention(const ModelConfig& config, const MlaWeights& weights,
                          std::vector<Vector>& hidden, DType cache_dtype);

// Logits [tokens][vocab] of a whole sequence, each position seeing the ones before it. With
// cache_dtype bf16 or fp8 (fp8_oracle.h; latents alone), what is cached is rounded as that cache
// rounds before anybody attends to it: a narrow cache flips near-tied experts, so its results are
// comparable only with the same rounding.
std::vector<Vector> forward(const ModelConfig& config, const ModelWeights& weights,
                            std::span<const TokenId> tokens, DType cache_dtype = DType::kF32);

// max |difference| / max |expected|: the error that tolerances are stated in. Infinite when either
// holds a NaN.
double relative_error(std::span<const double> actual, std::span<const double> expected);

}  // namespace latentd::oracle
