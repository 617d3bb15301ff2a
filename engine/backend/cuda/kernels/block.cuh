// Reductions and scans over the threads of a block, in an order that never changes.
//
// Contract: every thread of the block calls; the number of threads is a multiple of 32, at most
// 1024. `shared` holds 33 values and may be reused as soon as the call returns.
#pragma once

namespace latentd::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffU;
constexpr int kBlockShared = 33;

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Max {
  __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};

template <typename T, typename Op>
__device__ T warp_reduce(T value, Op op) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// op over all threads, known to all of them.
template <typename T, typename Op>
__device__ T block_reduce(T value, Op op, T* shared) {
  const int warps = blockDim.x / kWarp;
  value = warp_reduce(value, op);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  T result = shared[0];
  for (int i = 1; i < warps; ++i) result = op(result, shared[i]);
  __syncthreads();
  return result;
}

// The sum over this lane and those before it.
template <typename T>
__device__ T warp_inclusive_sum(T value) {
  const int lane = threadIdx.x % kWarp;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value += before;
  }
  return value;
}

// The sum over the threads before this one; `total` receives the sum over all.
template <typename T>
__device__ T block_exclusive_sum(T value, T* shared, T& total) {
  const int lane = threadIdx.x % kWarp;
  const int warps = blockDim.x / kWarp;
  const T inclusive = warp_inclusive_sum(value);
  if (lane == kWarp - 1) shared[threadIdx.x / kWarp] = inclusive;
  __syncthreads();
  T before_warp = 0;
  total = 0;
  for (int i = 0; i < warps; ++i) {
    if (i == static_cast<int>(threadIdx.x) / kWarp) before_warp = total;
    total += shared[i];
  }
  __syncthreads();
  return before_warp + inclusive - value;
}

}  // namespace latentd::cuda
