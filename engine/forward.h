// The forward pass: the step's tokens through every layer of the model. One pass for all variants
// and both backends; what differs is data (ModelConfig), the block of the attention's kind, or
// inside the backend's operations.
//
// Contract: enqueues operations only; called by ModelRunner on the engine thread.
#pragma once

#include "engine/backend/backend.h"
#include "engine/backend/gqa_attention_block.h"
#include "engine/backend/mla_attention_block.h"
#include "engine/backend/op_params.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"
#include "kvcache/cache_layout.h"

namespace latentd {

// Device memory that the layers share; sized for the most tokens a step may have.
struct ForwardScratch {
  void* hidden = nullptr;  // [T, hidden]: the residual stream, and the result
  MlaScratch mla;          // of the model's kind of attention; the other is unset
  GqaScratch gqa;
  FfnScratch ffn;
};

struct ForwardParams {
  const ModelConfig* config = nullptr;
  const ModelWeights* weights = nullptr;  // device views
  const CacheLayout* layout = nullptr;
  BatchView batch;
  void* cache_pool = nullptr;
  std::int32_t num_pages = 0;
  const float* rope_cos = nullptr;  // [positions, rope / 2]
  const float* rope_sin = nullptr;
  ForwardScratch scratch;
  std::int32_t absorbed_rows = 0;  // see MlaBlockParams; grouped attention ignores it
  std::int32_t absorbed_tokens = 0;
};

// hidden[t] = the residual stream of token t after the last layer, before the final norm.
void forward(Backend& backend, const ForwardParams& params);

RoutingParams routing_params(const MoeConfig& moe);

// Elements of FfnScratch::gate_up that one token needs: gate and up of all MLPs that it passes in
// its widest layer.
std::size_t gate_up_elements_per_token(const ModelConfig& config);

}  // namespace latentd
