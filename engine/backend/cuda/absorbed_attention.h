// AbsorbedAttention: which kernel attends with absorbed queries, its plan and its memory.
//
// 512 + 64 in bf16 on sm_90 goes to a kernel of its own (kernels/mla_attention.cuh, over an fp8
// cache up to 32 query vectors a row kernels/mla_attention_fp8.cuh) that divides a step by a plan
// made on the device once and read by all layers; everything else to the generic kernel, which
// needs none.
//
// Rows that share a prefix read it once over a bf16 cache (BatchView::prefixes). Others do not
// look, and under batch invariance nobody does, since a row's bits would depend on who shares with
// it.
//
// Contract: used by the backend's thread. A plan serves the runs of the same batch until `forget`;
// a run of another batch plans for itself. After `reserve` nothing is allocated, so that captured
// launches stay valid. Errors go to the context.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/mla_attention_params.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

class AbsorbedAttention {
 public:
  // invariant_pieces: not 0: a row's bits depend on nothing but its own row, which is cut into so
  // many pieces at most (MlaDivision::invariant).
  AbsorbedAttention(CudaContext& context, DType activation, int invariant_pieces);

  void reserve(const ReserveParams& p);
  // A new step begins: what was planned is no longer true.
  void forget() { planned_ = {}; }
  void plan(const PlanAttentionParams& p);
  void run(const AbsorbedAttentionParams& p);

 private:
  struct Planned {
    const RowView* rows = nullptr;
    std::int32_t num_rows = 0;
    std::int32_t num_tokens = 0;
    std::int32_t heads = 0;

    friend bool operator==(const Planned&, const Planned&) = default;
  };

  bool fits(const MlaGeometry& g, std::int32_t page_tokens, DType cache) const;
  // Over an fp8 cache every row reads its keys by itself.
  bool shares_prefixes(DType cache) const {
    return invariant_pieces_ == 0 && cache == DType::kBF16;
  }
  MlaDivision division(const BatchView& batch, const MlaGeometry& g) const;
  // False after an error.
  bool make_plan(const BatchView& batch, const MlaGeometry& g, std::int32_t page_tokens,
                 DType cache);
  bool take_memory(const MlaDivision& division, std::int32_t max_tokens, std::int32_t max_rows,
                   bool shares_prefixes);

  CudaContext& context_;
  DType activation_;
  int invariant_pieces_;
  bool hopper_ = false;
  Planned planned_;
  bool known_ = false;  // to a run since the plan was made
  Scratch works_;
  Scratch prefix_;
  Scratch shares_;
  Scratch pieces_;
  Scratch pages_;
  Scratch unit_ends_;
  Scratch segments_;
  Scratch sums_;
  Scratch runs_;
  Scratch counters_;
  MlaPlanParams plan_;  // its memory, and the last batch
  MlaPartials partials_;
};

}  // namespace latentd::cuda
