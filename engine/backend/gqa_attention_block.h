// The attention block of multi-head, grouped-query and multi-query attention (arXiv:2305.13245),
// made of a backend's operations.
//
// Contract: enqueues operations only; engine thread.
#pragma once

#include "engine/backend/backend.h"
#include "engine/backend/op_params.h"
#include "engine/model/weights.h"

namespace latentd {

// Scratch of one step, shared by all layers; sized for the most tokens a step may have.
struct GqaScratch {
  void* normed = nullptr;  // [T, D]
  void* q = nullptr;       // [T, H, head_dim]
  void* k = nullptr;       // [T, G, head_dim]
  void* v = nullptr;       // [T, G, head_dim]
  void* heads = nullptr;   // [T, H, head_dim]
};

struct GqaBlockParams {
  BatchView batch;
  KeyValueView cache;
  GqaGeometry geometry;
  const GqaWeights* weights = nullptr;  // host struct of device views
  const float* rope_cos = nullptr;      // [positions, head_dim / 2]
  const float* rope_sin = nullptr;
  void* hidden = nullptr;  // [T, D]
  GqaScratch scratch;
};

// hidden += attention(norm(hidden)), and the cache grows by the step's tokens.
void gqa_attention_block(Backend& backend, const GqaBlockParams& params);

}  // namespace latentd
