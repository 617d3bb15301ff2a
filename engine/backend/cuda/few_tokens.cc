#include "engine/backend/cuda/few_tokens.h"

#include <initializer_list>

#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/mla_attention_block.h"

namespace latentd::cuda {
namespace {

bool is_matrix(const TensorView& w) {
  return w.dtype == DType::kBF16 && w.dim(1) % kFewChunk == 0 && in_pieces(w.data, w.dim(1) * 2);
}

bool is_norm(const TensorView& w) {
  return w.dtype == DType::kBF16 && w.dim(0) % kFewChunk == 0 && in_pieces(w.data, w.dim(0) * 2);
}

}  // namespace

bool fits_few_tokens(const MlaBlockParams& p, DType activation) {
  const MlaGeometry& g = p.geometry;
  const MlaWeights& w = *p.weights;
  const MlaScratch& s = p.scratch;
  if (activation != DType::kBF16 || p.batch.num_tokens == 0 || p.batch.num_tokens > kFewTokens ||
      p.absorbed_rows != p.batch.num_rows || g.kv_lora_rank % kAbsorbColumns != 0 ||
      g.nope_dim % kFewChunk != 0 || g.qk_dim() % kFewPiece != 0) {
    return false;
  }
  for (const void* x : {static_cast<const void*>(p.hidden), static_cast<const void*>(s.q),
                        static_cast<const void*>(s.q_a), static_cast<const void*>(s.latent),
                        static_cast<const void*>(s.heads)}) {
    if (!in_pieces(x, 0)) return false;
  }
  const bool queries = g.q_lora_rank == 0
                           ? is_matrix(w.q)
                           : is_matrix(w.q_a) && is_norm(w.q_a_norm) && is_matrix(w.q_b);
  return queries && is_norm(w.input_norm) && is_matrix(w.kv_a) && is_matrix(w.o) &&
         w.kv_b.dtype == DType::kBF16 && in_pieces(w.kv_b.data, 0);
}

}  // namespace latentd::cuda
