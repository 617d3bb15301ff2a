// The attention block of Multi-head Latent Attention (arXiv:2405.04434, section 2.1), made of a
// backend's operations.
//
// Contract: enqueues operations only; engine thread.
#pragma once

#include "engine/backend/backend.h"
#include "engine/backend/op_params.h"
#include "engine/model/weights.h"

namespace latentd {

// Scratch of one step, shared by all layers; sized for the most tokens a step may have.
struct MlaScratch {
  void* normed = nullptr;    // [T, D]
  void* q_a = nullptr;       // [T, q_lora]
  void* q = nullptr;         // [T, H, nope + rope]
  void* kv_a = nullptr;      // [T, kv_lora + rope]
  void* absorbed = nullptr;  // [T, H, kv_lora + rope]
  void* latent = nullptr;    // [T, H, kv_lora]
  void* heads = nullptr;     // [T, H, v]
};

struct MlaBlockParams {
  BatchView batch;
  CacheView cache;
  MlaGeometry geometry;
  const MlaWeights* weights = nullptr;  // host struct of device views
  const float* rope_cos = nullptr;      // [positions, rope / 2]
  const float* rope_sin = nullptr;
  void* hidden = nullptr;  // [T, D]
  MlaScratch scratch;
  // The first rows, and the tokens that they hold, attend with absorbed queries; the rows after
  // them with expanded keys and values.
  std::int32_t absorbed_rows = 0;
  std::int32_t absorbed_tokens = 0;
};

// hidden += attention(norm(hidden)), and the cache grows by the step's tokens. What
// Backend::mla_block is unless a backend overrides it.
void mla_attention_block(Backend& backend, const MlaBlockParams& params);

}  // namespace latentd
