// What the attention block of a few tokens is made of: three kinds of launches, each of which has
// its weights in hand before the launch ahead of it has ended (kernels/few_product.cuh,
// kernels/absorb_append.cuh).
//
// Their sums over k have an order of their own: not for batch-invariant steps.
//
// Contract: plain data and pure functions; pointers are device memory, everything is bf16.
#pragma once

#include <cstdint>

#include "engine/backend/op_params.h"

namespace latentd {
struct MlaBlockParams;
}

namespace latentd::cuda {

// Most tokens: every block reads all of them.
inline constexpr int kFewTokens = 16;
// Values of k that a lane's piece, and a quad's, holds.
inline constexpr int kFewPiece = 8;
inline constexpr int kFewChunk = 4 * kFewPiece;
// Columns of a slab: rows of weights that one product of a warp covers.
inline constexpr int kFewColumns = 16;
// Columns of the latents that a block of absorb_append covers.
inline constexpr int kAbsorbColumns = 64;

struct FewMatrix {
  const void* w = nullptr;  // [heads, columns, inner]
  void* out = nullptr;      // [tokens, heads, columns]
  std::int32_t columns = 0;
};

// out[t, h, c] (+)= sum_k f(x[t, h])[k] * w[h, c, k] for up to two matrices, f the RMS norm with
// weight `norm` or nothing.
struct FewProduct {
  const void* x = nullptr;     // [tokens, heads, inner]
  const void* norm = nullptr;  // [inner]; null: x as it is
  FewMatrix matrices[2];       // the second may be empty
  std::int32_t num_tokens = 0;
  std::int32_t num_heads = 1;
  std::int32_t inner = 0;  // a multiple of kFewChunk
  std::int64_t w_head_stride = 0;
  float norm_eps = 0.0F;
  bool accumulate = false;
};

// Queries rotated and absorbed, and the cache rows of the step's tokens.
struct AbsorbAppend {
  RopeAppendParams rope;  // its q keeps its rope parts
  const void* kv_b = nullptr;
  void* absorbed = nullptr;
};

// Whether the block of a step is computed so.
bool fits_few_tokens(const MlaBlockParams& p, DType activation);

}  // namespace latentd::cuda
