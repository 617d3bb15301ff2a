// The softmax of the 512 + 64 attention kernel: scores of a key tile become weights.
#pragma once

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/mla_tile.cuh"

namespace latentd::cuda {

// A thread's two rows under the online softmax. Scores are those of a key tile, a half for each
// stage. They count in powers of two from a reference, which a row gets from the first key tile
// that it sees and which moves to the row's highest score where that exceeds it by more than kRoom:
// in few tiles, so the others need no maximum across lanes. Weights have the range of fp32, so the
// room costs nothing.
struct MlaSoftmax {
  static constexpr float kRoom = 16.0F;
  float reference[2] = {0.0F, 0.0F};
  float room[2] = {-1e30F, -1e30F};  // kRoom where the row has a reference
  float sum[2] = {0.0F, 0.0F};       // of the exponentials of the thread's own keys
  int vector;                        // of the unit: the thread's first row, the other is 8 behind
  int most[2];                       // keys that the row's token may see
  int limit[2];                      // keys that the row sees
  int seen;                          // keys that all rows of the warp see
  bool blind;                        // they see none

  __device__ MlaSoftmax(const MlaPiece& piece, const MlaDivision& d, int first_vector)
      : vector(first_vector),
        most{piece.view.start + vector / d.heads + 1,
             piece.view.start + (vector + 8) / d.heads + 1} {}

  // Other keys begin.
  __device__ void look(const MlaKeys& keys) {
    limit[0] = keys.limit(vector, most[0]);
    limit[1] = keys.limit(vector + 8, most[1]);
    seen = __reduce_min_sync(kAllLanes, min(limit[0], limit[1]));
    blind = __any_sync(kAllLanes, max(limit[0], limit[1]) > 0) == 0;
  }
  // Hides keys that a row does not see; most tiles are seen by all. The thread's are first_key +
  // column and others behind.
  __device__ void mask(float (&scores)[2][16], int first_key, int column) const {
    if (first_key + kMlaTileKeys <= seen) return;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (first_key + column + i / 4 * 8 + i % 2 >= limit[i / 2 % 2]) {
        scores[i / 16][i % 16] = -INFINITY;
      }
    }
  }
  // Scores of the first half become powers of two over the reference, those of the second stay
  // what they are. `scale` is positive. Returns the thread's highest of each row.
  __device__ float2 relate(float (&scores)[2][16], float scale) const {
    relate_half(scores[0], scale, 0.0F);
    float highest[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float second = fmaf(highest_of(scores[1], row), scale, -reference[row]);
      highest[row] = fmaxf(highest_of(scores[0], row), second);
    }
    return {highest[0], highest[1]};
  }
  // The same of one half. `zero` is 0; where it is known late, this begins late.
  __device__ void relate_half(float (&scores)[16], float scale, float zero) const {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float offset = zero - reference[row];
#pragma unroll
      for (int i = row * 2; i < 16; i += 4) {
        scores[i] = fmaf(scores[i], scale, offset);
        scores[i + 1] = fmaf(scores[i + 1], scale, offset);
      }
    }
  }
  // Whether scores of a row of the warp exceed its reference by too much.
  __device__ bool exceeded(float2 highest) const {
    return __any_sync(kAllLanes, highest.x > room[0] || highest.y > room[1]) != 0;
  }
  // Moves the references of rows whose scores exceed them; keep: by what the sums before shrink.
  // What happens to a row depends on its own scores alone.
  __device__ void move(float (&scores)[2][16], float2 thread_highest, float (&keep)[2]) {
    const float highest[2] = {thread_highest.x, thread_highest.y};
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float top = fmaxf(highest[row], __shfl_xor_sync(kAllLanes, highest[row], 1));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
      const bool moves = top > room[row];
      const float by = moves ? top : 0.0F;
      // A row without a reference has no sums.
      keep[row] = room[row] < 0.0F ? 1.0F : exp2_fast(-by);
      if (moves) room[row] = kRoom;
      reference[row] += by;
      sum[row] *= keep[row];
#pragma unroll
      for (int i = 0; i < 8; ++i) scores[0][i / 2 * 4 + i % 2 + row * 2] -= by;
    }
  }
  // Related scores of half a tile become exponentials.
  __device__ static void step(float (&scores)[16]) {
#pragma unroll
    for (float& score : scores) score = exp2_fast(score);
  }
  // To the thread's sums.
  __device__ void add(const float (&weights)[16]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float* own = weights + row * 2;
      sum[row] +=
          ((own[0] + own[1]) + (own[4] + own[5])) + ((own[8] + own[9]) + (own[12] + own[13]));
    }
  }
  // The sums over all keys, after the last half.
  __device__ void add_up() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      sum[row] += __shfl_xor_sync(kAllLanes, sum[row], 1);
      sum[row] += __shfl_xor_sync(kAllLanes, sum[row], 2);
    }
  }
  // How the row's scores ran. A row that has seen no keys has no reference.
  __device__ float2 run(int row) const {
    return {sum[row] == 0.0F ? -INFINITY : reference[row], sum[row]};
  }

 private:
  // Of the thread's scores in half a tile.
  __device__ static float highest_of(const float (&scores)[16], int row) {
    const float* own = scores + row * 2;
    return fmaxf(fmaxf(fmaxf(own[0], own[1]), fmaxf(own[4], own[5])),
                 fmaxf(fmaxf(own[8], own[9]), fmaxf(own[12], own[13])));
  }
};

}  // namespace latentd::cuda
