// ModelWeights: every matrix of a model, as views into memory that somebody else owns.
//
// The same struct describes host memory (the mapped checkpoint, through WeightBinder) and device
// memory (after Backend::upload). Matrices keep the checkpoint's layout, [outputs, inputs]
// row-major, as torch.nn.Linear stores them: y = x W^T. Unset views (data == nullptr) are parts
// that the config does not have.
//
// Contract: plain data; views are valid as long as their owner (Checkpoint or Backend).
#pragma once

#include <vector>

#include "base/tensor_view.h"

namespace latentd {

// Multi-head Latent Attention (arXiv:2405.04434, section 2.1). H = heads.
struct MlaWeights {
  TensorView input_norm;  // [hidden]
  TensorView q;           // [H * (nope + rope), hidden]       when q_lora_rank == 0
  TensorView q_a;         // [q_lora, hidden]                  otherwise
  TensorView q_a_norm;    // [q_lora]
  TensorView q_b;         // [H * (nope + rope), q_lora]
  TensorView kv_a;        // [kv_lora + rope, hidden]
  TensorView kv_a_norm;   // [kv_lora]
  TensorView kv_b;        // [H, nope + v, kv_lora]: per head W_UK (nope rows), then W_UV (v rows)
  TensorView o;           // [hidden, H * v]
};

// Multi-head, grouped-query and multi-query attention. H = heads, G = heads of keys and values.
struct GqaWeights {
  TensorView input_norm;  // [hidden]
  TensorView q;           // [H * head_dim, hidden]
  TensorView k;           // [G * head_dim, hidden]
  TensorView v;           // [G * head_dim, hidden]
  TensorView o;           // [hidden, H * head_dim]
};

// down(silu(gate x) * up x). I = intermediate size.
struct MlpWeights {
  TensorView gate;  // [I, hidden]
  TensorView up;    // [I, hidden]
  TensorView down;  // [hidden, I]
};

struct MoeWeights {
  TensorView router;           // [experts, hidden]
  TensorView correction_bias;  // [experts] fp32, or unset
  std::vector<MlpWeights> experts;
  MlpWeights shared;  // of num_shared_experts * moe intermediate size, or unset
};

struct LayerWeights {
  MlaWeights mla;                  // latent attention, otherwise unset
  GqaWeights gqa;                  // grouped attention, otherwise unset
  TensorView post_attention_norm;  // [hidden]
  MlpWeights mlp;                  // dense layers; unset in MoE layers
  MoeWeights moe;                  // MoE layers; experts is empty in dense layers
};

struct ModelWeights {
  TensorView embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  TensorView final_norm;  // [hidden]
  TensorView lm_head;     // [vocab, hidden]; the embedding when tied
};

// visit(view) for every view of a layer but its routed experts', set or not. Layer: LayerWeights,
// const or not.
template <typename Layer, typename Visit>
void visit_dense_tensors(Layer& layer, const Visit& visit) {
  auto& [mla, gqa, post_attention_norm, mlp, moe] = layer;
  for (auto* view :
       {&mla.input_norm,  &mla.q,         &mla.q_a,        &mla.q_a_norm, &mla.q_b,
        &mla.kv_a,        &mla.kv_a_norm, &mla.kv_b,       &mla.o,        &gqa.input_norm,
        &gqa.q,           &gqa.k,         &gqa.v,          &gqa.o,        &post_attention_norm,
        &mlp.gate,        &mlp.up,        &mlp.down,       &moe.router,   &moe.correction_bias,
        &moe.shared.gate, &moe.shared.up, &moe.shared.down}) {
    visit(*view);
  }
}

}  // namespace latentd
