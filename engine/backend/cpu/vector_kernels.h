// Row-wise vector kernels of the CPU backend: norms, activations, softmax pieces, conversions.
//
// Contract: as matmul_kernels.h: each output's bits depend on its own row alone; thread-safe.
// Rows have any length and alignment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace latentd::cpu {

// out = x / sqrt(mean(x^2) + eps) * weight; out may be x.
void rms_norm_row(const float* x, const float* weight, float* out, std::size_t n, float eps);

// gate = silu(gate) * up
void silu_multiply(float* gate, const float* up, std::size_t n);

// x *= factor
void scale_row(float* x, float factor, std::size_t n);

void load_as_f32(const void* x, DType dtype, float* out, std::size_t n);
void store_from_f32(const float* x, DType dtype, void* out, std::size_t n);

// out[i] = code i * scales[i / group], exact for scales of latent_scale.h; x holds e4m3.
void load_scaled_e4m3(const std::uint8_t* x, const float* scales, std::size_t group, BFloat16* out,
                      std::size_t n);

// Keys that one step of the online softmax covers, at absolute multiples.
inline constexpr int kSoftmaxBlock = 64;

struct SoftmaxState {
  float max = 0.0F;
  float sum = 0.0F;
};

// One block of the online softmax: scores[0, count) become exp(score - new max), their sum joins
// the state, and the factor by which what was summed before shrinks is returned (0 for the first).
// scores has room for kSoftmaxBlock; what lies past count is overwritten.
float softmax_block(float* scores, int count, bool first, SoftmaxState& state);

struct RowRange {
  float max = 0.0F;
  bool finite = false;  // no NaN and no infinity in the row
  bool has_nan_or_plus_infinity = false;
};
RowRange row_range(const float* x, std::size_t n);

// Elements that one entry of `block_sums` of exp_row covers.
inline constexpr std::size_t kExpBlock = 256;

// out[i] = exp((x[i] - shift) * factor), -infinity giving 0; block_sums [ceil(n / kExpBlock)] in
// fp64 and their total. out may be x; null: only the sums.
double exp_row(const float* x, float shift, float factor, std::size_t n, float* out,
               double* block_sums);

}  // namespace latentd::cpu
