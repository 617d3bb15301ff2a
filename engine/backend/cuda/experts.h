// Experts: routed and shared experts of a MoE layer on the GPU.
//
// Sorts the step's entries by expert on the device and computes gate-and-up, down and the sum in
// index order, each in one launch; few tokens are normed, routed and sorted in one launch too. bf16
// goes through tensor cores (kernels/weight_stream.cuh), the shared experts as further experts of
// the same launches when their shape allows; everything else through the portable kernels. Which
// one is a function of dtypes and shapes alone.
//
// Contract: used by the backend's thread. After `reserve` nothing is allocated and nothing waits
// for the GPU, so that steps can be captured.
#pragma once

#include <cstdint>
#include <functional>

#include "base/dtype.h"
#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/expert_params.h"
#include "engine/backend/cuda/expert_tables.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

class Experts {
 public:
  // Computes the shared experts of `num_tokens` tokens: out [tokens, hidden] fp32 from
  // x [tokens, hidden], with `scratch` for gate and up.
  using SharedMlp = std::function<void(const MlpWeights& shared, const void* x, void* scratch,
                                       float* out, std::int32_t num_tokens)>;

  Experts(CudaContext& context, DType activation);

  // Makes the tables of all layers and takes all scratch.
  void reserve(const ReserveParams& p);

  // `shared_mlp` is called only for shared experts that do not join the launches.
  void run(const ExpertsParams& p, const SharedMlp& shared_mlp);

  // The whole ffn_block of a few tokens, or false when they are too many or not bf16. Its sums
  // depend on the number of tokens: not for batch-invariant steps.
  bool run_block(const FfnBlockParams& p);

 private:
  ExpertStep describe(const ExpertsParams& p, const ExpertTable& table, std::int32_t first_token,
                      std::int32_t num_tokens) const;
  void run_chunk(const ExpertsParams& p, std::int32_t first_token, std::int32_t num_tokens,
                 const SharedMlp& shared_mlp);
  bool on_tensor_cores(const MoeWeights& weights) const;
  // Points `step` into scratch; false after an error.
  bool take_scratch(ExpertStep& step);

  CudaContext& context_;
  DType activation_;
  ExpertTables tables_;
  Scratch given_;    // what experts give before it is summed
  Scratch shared_;   // the same of shared experts that do not join the launches
  Scratch order_;    // entries sorted by expert, and the parts
  Scratch arrived_;  // zero outside launches
};

}  // namespace latentd::cuda
