#include <cuda_bf16.h>

#include "engine/backend/cuda/bench/mla_reference.h"
#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/kernels/fp8_rows.cuh"
#include "engine/backend/cuda/kernels/hopper.cuh"
#include "engine/backend/cuda/kernels/paged_rows.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda::bench {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 16 * 1024;
constexpr int kStages = 8;

__device__ inline std::uint32_t mix(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352dU;
  x ^= x >> 15;
  x *= 0x846ca68bU;
  return x ^ (x >> 16);
}

__device__ inline float uniform(std::uint32_t bits) {
  return static_cast<float>(bits) * 0x1p-31F - 1.0F;
}

// Grid: tokens.
__global__ void fill_fp8_kernel(char* pool, int page_tokens, std::uint32_t seed) {
  constexpr int kGroups = kMlaLatent / kLatentGroup;
  const auto tokens = static_cast<std::size_t>(page_tokens);
  const std::size_t row = blockIdx.x % tokens;
  char* page = pool + blockIdx.x / tokens * tokens * (kMlaLatent + kGroups * 4 + kMlaRope * 2);
  char* scales = page + tokens * kMlaLatent;
  char* rope = scales + tokens * kGroups * 4;
  const std::uint32_t token = mix(blockIdx.x + seed * 0x9e3779b9U);
  for (int i = static_cast<int>(threadIdx.x); i < kMlaLatent; i += kThreads) {
    page[row * kMlaLatent + i] = static_cast<char>(__nv_cvt_float_to_fp8(
        448.0F * uniform(mix(token + static_cast<std::uint32_t>(i))), __NV_SATFINITE, __NV_E4M3));
  }
  if (threadIdx.x < kGroups) {
    reinterpret_cast<float*>(scales)[row * kGroups + threadIdx.x] =
        0x1p-10F * static_cast<float>(1U << mix(token ^ (threadIdx.x + 1000)) % 3);
  }
  if (threadIdx.x < kMlaRope) {
    reinterpret_cast<__nv_bfloat16*>(rope)[row * kMlaRope + threadIdx.x] =
        __float2bfloat16_rn(uniform(mix(token ^ (threadIdx.x + 2000))));
  }
}

__global__ void fill_kernel(__nv_bfloat16* values, std::size_t count, float scale,
                            std::uint32_t seed) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    const std::uint32_t bits = mix(static_cast<std::uint32_t>(i) ^
                                   mix(static_cast<std::uint32_t>(i >> 32) + seed * 0x9e3779b9U));
    values[i] = __float2bfloat16_rn(uniform(bits) * scale);
  }
}

__global__ void count_kernel(const __nv_bfloat16* values, std::size_t count,
                             unsigned long long* result) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  unsigned long long bad = 0;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    if (!isfinite(__bfloat162float(values[i]))) ++bad;
  }
  if (bad > 0) atomicAdd(result, bad);
}

// The cached row of a token as fp32.
struct Bf16Values {
  __device__ Bf16Values(const AbsorbedAttentionParams& p, int slot, int position)
      : row(reinterpret_cast<const __nv_bfloat16*>(
            cache_row(p.batch, p.cache, std::size_t{kMlaWidth} * 2, slot, position))) {}
  __device__ float operator[](int i) const { return __bfloat162float(row[i]); }
  const __nv_bfloat16* row;
};
struct Fp8Values {
  __device__ Fp8Values(const AbsorbedAttentionParams& p, int slot, int position)
      : row(p.batch, p.cache, p.geometry, slot, position) {}
  __device__ float operator[](int i) const {
    return i < kMlaLatent ? row.latent(i) : __bfloat162float(row.rope[i - kMlaLatent]);
  }
  Fp8Row row;
};

// scores [samples, longest context] in device memory. Grid: samples.
template <typename Values>
__global__ void compare_kernel(AbsorbedAttentionParams p, std::int64_t step, int longest,
                               float* scratch, double2* errors) {
  __shared__ float shared[kBlockShared];
  __shared__ double shared_double[kBlockShared];
  const std::int64_t vector = blockIdx.x * step;
  const int token = static_cast<int>(vector / p.geometry.num_heads);
  const int keys = p.batch.positions[token] + 1;
  const int slot = p.batch.token_slots[token];
  const auto* query = static_cast<const __nv_bfloat16*>(p.absorbed) + vector * kMlaWidth;
  float* scores = scratch + static_cast<std::size_t>(blockIdx.x) * longest;
  float highest = -INFINITY;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int j = warp; j < keys; j += kThreads / kWarp) {
    const Values key(p, slot, j);
    float dot = 0.0F;
    for (int i = lane; i < kMlaWidth; i += kWarp) {
      dot = fmaf(__bfloat162float(query[i]), key[i], dot);
    }
    const float score = warp_reduce(dot, Sum{}) * p.geometry.softmax_scale;
    if (lane == 0) scores[j] = score;
    highest = fmaxf(highest, score);
  }
  highest = block_reduce(highest, Max{}, shared);
  float sum = 0.0F;
  for (int j = static_cast<int>(threadIdx.x); j < keys; j += kThreads) {
    scores[j] = expf(scores[j] - highest);
    sum += scores[j];
  }
  sum = block_reduce(sum, Sum{}, shared);
  double error = 0.0;
  double norm = 0.0;
  for (int c = static_cast<int>(threadIdx.x); c < kMlaLatent; c += kThreads) {
    double value = 0.0;
    for (int j = 0; j < keys; ++j) {
      value += static_cast<double>(scores[j]) * static_cast<double>(Values(p, slot, j)[c]);
    }
    value /= sum;
    const double out =
        __bfloat162float(static_cast<const __nv_bfloat16*>(p.out)[vector * kMlaLatent + c]);
    error += (out - value) * (out - value);
    norm += value * value;
  }
  error = block_reduce(error, Sum{}, shared_double);
  norm = block_reduce(norm, Sum{}, shared_double);
  if (threadIdx.x == 0) errors[blockIdx.x] = {error, norm};
}

__global__ void __launch_bounds__(32, 1) read_kernel(const char* data, std::size_t chunks) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using namespace hopper;
  extern __shared__ __align__(128) char memory[];
  __shared__ std::uint64_t barriers[kStages];
  if (threadIdx.x != 0) return;
  for (std::uint64_t& barrier : barriers) barrier_init(shared_address(&barrier), 1);
  fence_barrier_init();
  const std::size_t own = (chunks - blockIdx.x + gridDim.x - 1) / gridDim.x;
  for (std::size_t i = 0; i < own + kStages; ++i) {
    const auto stage = static_cast<std::uint32_t>(i % kStages);
    const std::uint32_t barrier = shared_address(&barriers[stage]);
    if (i >= kStages) barrier_wait(barrier, static_cast<std::uint32_t>(i / kStages - 1) & 1U);
    if (i >= own) continue;
    barrier_arrive_expecting(barrier, kChunk);
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(memory) + stage * kChunk),
        "l"(data + (i * gridDim.x + blockIdx.x) * kChunk), "r"(kChunk), "r"(barrier)
        : "memory");
  }
#endif
}

unsigned blocks_for(std::size_t count) {
  const std::size_t blocks = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 8192 ? blocks : 8192);
}

}  // namespace

cudaError_t fill_random(cudaStream_t stream, void* values, std::size_t count, float scale,
                        std::uint32_t seed) {
  fill_kernel<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<__nv_bfloat16*>(values),
                                                          count, scale, seed);
  return cudaGetLastError();
}

cudaError_t fill_fp8_pages(cudaStream_t stream, void* pool, std::size_t tokens, int page_tokens,
                           std::uint32_t seed) {
  fill_fp8_kernel<<<static_cast<unsigned>(tokens), kThreads, 0, stream>>>(static_cast<char*>(pool),
                                                                          page_tokens, seed);
  return cudaGetLastError();
}

cudaError_t compare(cudaStream_t stream, const AbsorbedAttentionParams& p, int samples,
                    std::int64_t step, float* scratch, double2* errors) {
  const int longest = p.batch.max_pages * p.cache.page_tokens;
  const auto kernel =
      p.cache.dtype == DType::kF8E4M3 ? compare_kernel<Fp8Values> : compare_kernel<Bf16Values>;
  kernel<<<static_cast<unsigned>(samples), kThreads, 0, stream>>>(p, step, longest, scratch,
                                                                  errors);
  return cudaGetLastError();
}

cudaError_t count_not_finite(cudaStream_t stream, const void* values, std::size_t count,
                             unsigned long long* result) {
  count_kernel<<<blocks_for(count), kThreads, 0, stream>>>(
      static_cast<const __nv_bfloat16*>(values), count, result);
  return cudaGetLastError();
}

cudaError_t read_stream(cudaStream_t stream, const void* data, std::size_t bytes, int processors) {
  constexpr int kShared = kStages * kChunk;
  const cudaError_t error =
      cudaFuncSetAttribute(read_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) return error;
  read_kernel<<<static_cast<unsigned>(processors), 32, kShared, stream>>>(
      static_cast<const char*>(data), bytes / kChunk);
  return cudaGetLastError();
}

}  // namespace latentd::cuda::bench
