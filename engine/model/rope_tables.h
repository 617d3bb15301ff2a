// Rotary position embedding as numbers: frequencies, magnitudes and the tables that backends read.
//
// RoPE (arXiv:2104.09864) turns pair i of the rope dimensions at position p by the angle p * f_i,
// f_i = theta^(-2i / dim). YaRN (arXiv:2309.00071, section 3.2) stretches a context by `factor` s:
//
//   f'_i = (1 - r_i) f_i / s + r_i f_i
//
// r_i falls from 1 to 0 over the pairs between low = floor(d(beta_fast)) and high =
// ceil(d(beta_slow)), with d(n) = dim ln(original_max_position / (2 pi n)) / (2 ln theta): the pair
// that makes n turns over the original context. Fast pairs are kept, slow ones interpolated.
// Magnitudes follow the DeepSeek-V2 reference: m(s, k) = 0.1 k ln(s) + 1 for s > 1, otherwise 1.
//
// Of the other two kinds, linear divides every f_i by s, and llama3 (the reference code of Llama
// 3.1) blends as above, r_i falling from 1 to 0 as the turns of a pair over the original context
// fall from high_freq_factor to low_freq_factor.
//
// Contract: pure functions of their arguments, in double; safe from any thread.
#pragma once

#include <vector>

#include "engine/model/model_config.h"

namespace latentd {

// m(factor, mscale).
double yarn_mscale(double factor, double mscale);

// [rope_dim / 2] radians a position. REQUIRES: rope_dim even and positive.
std::vector<double> rope_inverse_frequencies(const RopeConfig& rope, int rope_dim);

// What cos and sin are multiplied by: m(mscale) / m(mscale_all_dim); 1 without yarn.
double rope_magnitude(const RopeConfig& rope);

// What the softmax scale is multiplied by: m(mscale_all_dim)^2; 1 without yarn or when
// mscale_all_dim is 0.
double rope_softmax_factor(const RopeConfig& rope);

// cos and sin of every angle, times the magnitude, rounded once from double.
struct RopeTables {
  std::vector<float> cos;  // [num_positions, rope_dim / 2]
  std::vector<float> sin;  // [num_positions, rope_dim / 2]
};

RopeTables make_rope_tables(const RopeConfig& rope, int rope_dim, int num_positions);

}  // namespace latentd
