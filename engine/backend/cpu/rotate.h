// Rotary position embedding of one vector (arXiv:2104.09864).
#pragma once

namespace latentd::cpu {

// Rotates x [rope_dim] in place by the angles of one position. Pairs keep their places: scores only
// need queries and keys to agree.
inline void rotate(float* x, const float* cosine, const float* sine, int rope_dim,
                   bool interleaved) {
  const int half = rope_dim / 2;
  for (int i = 0; i < half; ++i) {
    float& a = x[interleaved ? 2 * i : i];
    float& b = x[interleaved ? 2 * i + 1 : i + half];
    const float rotated_a = a * cosine[i] - b * sine[i];
    const float rotated_b = b * cosine[i] + a * sine[i];
    a = rotated_a;
    b = rotated_b;
  }
}

}  // namespace latentd::cpu
