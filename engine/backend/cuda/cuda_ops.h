// CudaOps: the operations of the CUDA backend, between the interface and the launchers.
//
// Checks what a launch relies on, chooses between cuBLASLt and our own kernels, and owns the
// memory in which operations work. Nothing waits for the GPU once scratch has its size.
//
// Contract: as Backend; after an error operations do nothing.
#pragma once

#include <memory>

#include "base/dtype.h"
#include "engine/backend/cuda/absorbed_attention.h"
#include "engine/backend/cuda/blas.h"
#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/expanded_attention.h"
#include "engine/backend/cuda/experts.h"
#include "engine/backend/expansion_policy.h"
#include "engine/backend/mla_attention_block.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

class CudaOps {
 public:
  // Without `blas` every product goes through our own kernel.
  CudaOps(CudaContext& context, std::unique_ptr<Blas> blas, DType activation);

  // As Backend's.
  ExpansionPolicy expansion(const MlaGeometry& g, DType cache) const;
  // Takes all scratch at the size of the largest step, and freezes it.
  void reserve(const ReserveParams& p);

  void prepare(const PrepareParams& p);
  void embed(const EmbedParams& p);
  void rms_norm(const RmsNormParams& p);
  void linear(const LinearParams& p);
  void rope_append(const RopeAppendParams& p);
  void plan_attention(const PlanAttentionParams& p);
  void absorb_query(const AbsorbQueryParams& p);
  void absorbed_attention(const AbsorbedAttentionParams& p);
  void project_value(const ProjectValueParams& p);
  void expanded_attention(const ExpandedAttentionParams& p);
  void append_keys_values(const AppendKeysValuesParams& p);
  void grouped_attention(const GroupedAttentionParams& p);
  void mlp(const MlpParams& p);
  void route(const RouteParams& p);
  void experts(const ExpertsParams& p);
  // The whole block of a few tokens, or false when it has to be made of operations.
  bool mla_block(const MlaBlockParams& p);
  void ffn_block(const FfnBlockParams& p);
  void gather(const GatherParams& p);
  void sample(const SampleParams& p);

 private:
  void check(cudaError_t error, std::string_view doing) { context_.check(error, doing); }
  void multiply(const Product& p, std::string_view doing);
  // out (+)= down(silu(gate x) * up x); gate_up [tokens, 2 * inner] is overwritten.
  void gated_mlp(const MlpWeights& weights, const void* x, void* gate_up, void* out,
                 std::int32_t num_tokens, bool accumulate, bool out_fp32);

  // Scratch of expanded_attention in the absorbed form; null pointers after an error.
  struct AbsorbedForm {
    void* absorbed;  // queries [tokens, heads, latent + rope]
    void* latent;    // weighted latents [tokens, heads, latent]
    void* heads;     // results [tokens, heads, v], of all tokens of the step
  };
  AbsorbedForm take_absorbed_form(const MlaGeometry& g, std::int32_t num_tokens);

  CudaContext& context_;
  std::unique_ptr<Blas> blas_;
  DType activation_;
  AbsorbedAttention absorbed_attention_;
  Experts experts_;
  ExpandedAttention expanded_;
  Scratch absorbed_;
  Scratch latent_;
  Scratch heads_;
  Scratch processed_;  // logits of sample
};

}  // namespace latentd::cuda
