// ExpandedAttention: attention of long rows with keys and values expanded from cached latents.
//
// A step is divided into passes (expanded_policy.h). A pass copies its latents out of their pages,
// expands them by one product for all heads and attends to them; between passes the queries of a
// row cut in two carry their sums. bf16 only, a few geometries, and only where the host knows the
// rows: whatever else there is takes the absorbed form.
//
// Contract: used by the backend's thread, on the context's stream; never waits for the GPU once
// reserved. Errors go to the context. The same inputs give the same bits.
#pragma once

#include <cstdint>

#include "engine/backend/cuda/blas.h"
#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/expanded_launch.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

class ExpandedAttention {
 public:
  explicit ExpandedAttention(CudaContext& context);

  // Whether `run` computes it, where the host knows the rows.
  bool computes(const MlaGeometry& g, DType activation, DType cache, DType weights) const;

  // Takes the scratch of the largest step; false when a layer is not computed here.
  bool reserve(const ReserveParams& p, DType activation);

  // Enqueues the operation, or returns false when it has to be computed in the absorbed form.
  bool run(const ExpandedAttentionParams& p, DType activation, Blas& blas);

 private:
  bool take_scratch(const ExpandedScratch& bytes, ExpandedStep& step);
  void run_pass(const ExpandedStep& step, const ExpandedPass& pass, const TensorView& kv_b,
                Blas& blas);

  CudaContext& context_;
  bool hopper_ = false;
  Scratch latents_;
  Scratch kv_;
  Scratch state_;
  Scratch next_task_;
};

}  // namespace latentd::cuda
