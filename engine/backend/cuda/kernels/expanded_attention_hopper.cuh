// Causal attention over one pass of expanded keys and values on Hopper: head dims 128 + 64 / 128.
//
// A block computes 128 queries of one head. One warp copies queries, keys and values by tensor maps
// into two stages of 128 keys each; two warpgroups compute 64 queries each (the structure of
// FlashAttention-3, arXiv:2407.08608). The product of the next scores runs while the current
// weights are multiplied with their values, and the warpgroups take turns, so that one's softmax
// falls into the other's products.
#pragma once

#include <cuda.h>

#include "engine/backend/cuda/kernels/expanded_softmax.cuh"
#include "engine/backend/cuda/kernels/hopper_products.cuh"

namespace latentd::cuda {

namespace hopper {

inline constexpr int kNope = 128;
inline constexpr int kRope = 64;
inline constexpr int kValue = 128;
inline constexpr int kKeys = 128;  // of a stage
inline constexpr int kStages = 2;
inline constexpr int kGroupThreads = 128;  // threads of a warpgroup
inline constexpr int kThreads = 3 * kGroupThreads;
inline constexpr int kBoxColumns = kRowBytes / 2;
inline constexpr int kBoxBytes = 128 * kRowBytes;  // 128 rows, be they queries or keys
inline constexpr int kKeyBoxes = (kNope + kRope) / kBoxColumns;
inline constexpr int kValueBoxes = kValue / kBoxColumns;
inline constexpr int kSteps = kBoxColumns / 16;  // products along a box

// Tensor maps of [T, H * (nope + rope)], [pass keys, H * (nope + v)], [pass keys, latent], boxes of
// 64 columns and 128 rows.
struct Maps {
  CUtensorMap q;
  CUtensorMap kv;
  CUtensorMap latents;
};

struct Shared {
  unsigned char q[kKeyBoxes][kBoxBytes];
  unsigned char k[kStages][kKeyBoxes][kBoxBytes];
  unsigned char v[kStages][kValueBoxes][kBoxBytes];
  std::uint64_t q_full;
  std::uint64_t k_full[kStages];
  std::uint64_t k_empty[kStages];
  std::uint64_t v_full[kStages];
  std::uint64_t v_empty[kStages];
};
// Dynamic shared memory begins at a multiple of 16 only.
inline constexpr std::size_t kSharedBytes = sizeof(Shared) + 1024;

// Which stage comes next, and how often it was used.
struct Turn {
  int stage = 0;
  std::uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline void copy_keys(Shared& shared, const Maps& maps, const ExpandedTask& task,
                                 int block, const Turn& turn) {
  const std::uint32_t full = shared_address(&shared.k_full[turn.stage]);
  barrier_wait(shared_address(&shared.k_empty[turn.stage]), turn.parity ^ 1);
  barrier_arrive_expecting(full, kKeyBoxes * kBoxBytes);
  const int row = task.offset + block * kKeys;
  const int column = task.head * (kNope + kValue);
#pragma unroll
  for (int i = 0; i < kNope / kBoxColumns; ++i) {
    copy_box(shared.k[turn.stage][i], &maps.kv, full, column + i * kBoxColumns, row);
  }
}

// The only thread that copies. Values come after the next keys, as they are used.
__device__ inline void produce(Shared& shared, const Maps& maps, const ExpandedArgs& args,
                               const ExpandedTask& task, int blocks) {
  barrier_arrive_expecting(shared_address(&shared.q_full), kKeyBoxes * kBoxBytes);
#pragma unroll
  for (int i = 0; i < kKeyBoxes; ++i) {
    copy_box(shared.q[i], &maps.q, shared_address(&shared.q_full),
             task.head * (kNope + kRope) + i * kBoxColumns, task.first_token);
  }
  Turn keys;
  Turn values;
  for (int block = 0; block <= blocks; ++block) {
    if (block < blocks) {
      copy_keys(shared, maps, task, block, keys);
      copy_box(shared.k[keys.stage][kNope / kBoxColumns], &maps.latents,
               shared_address(&shared.k_full[keys.stage]), args.kv_lora,
               task.offset + block * kKeys);
      keys.next();
    }
    if (block == 0) continue;
    const std::uint32_t full = shared_address(&shared.v_full[values.stage]);
    barrier_wait(shared_address(&shared.v_empty[values.stage]), values.parity ^ 1);
    barrier_arrive_expecting(full, kValueBoxes * kBoxBytes);
#pragma unroll
    for (int i = 0; i < kValueBoxes; ++i) {
      copy_box(shared.v[values.stage][i], &maps.kv, full,
               task.head * (kNope + kValue) + kNope + i * kBoxColumns,
               task.offset + (block - 1) * kKeys);
    }
    values.next();
  }
}

// scores [64, 128] = queries of the warpgroup times the keys of a stage; enqueued.
__device__ inline void score(Shared& shared, int group, int stage, float (&scores)[16][4]) {
  pin(scores);
  wgmma_fence();
#pragma unroll
  for (int box = 0; box < kKeyBoxes; ++box) {
    const std::uint64_t q = describe_tile(shared.q[box] + group * (kBoxBytes / 2));
    const std::uint64_t k = describe_tile(shared.k[stage][box]);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      multiply_shared(scores, advance_tile(q, step * 32), advance_tile(k, step * 32),
                      box + step > 0);
    }
  }
  wgmma_commit();
}

// sums += weights times the values of a stage; enqueued.
__device__ inline void add_values(Shared& shared, int stage, const std::uint32_t (&weights)[8][4],
                                  float (&sums)[16][4]) {
  pin(sums);
  wgmma_fence();
  const std::uint64_t v = describe_tile(shared.v[stage][0], kBoxBytes);
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    multiply_add_registers(sums, weights[step], advance_tile(v, step * 16 * kRowBytes));
  }
  wgmma_commit();
}

__device__ inline void pack_weights(const float (&scores)[16][4], std::uint32_t (&weights)[8][4]) {
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    weights[k][0] = pack_bf16(scores[2 * k][0], scores[2 * k][1]);
    weights[k][1] = pack_bf16(scores[2 * k][2], scores[2 * k][3]);
    weights[k][2] = pack_bf16(scores[2 * k + 1][0], scores[2 * k + 1][1]);
    weights[k][3] = pack_bf16(scores[2 * k + 1][2], scores[2 * k + 1][3]);
  }
}

__device__ inline void consume(Shared& shared, const ExpandedArgs& args, const ExpandedTask& task,
                               int blocks, int thread) {
  const int group = thread / kGroupThreads;
  const int own_turn = 1 + group;
  const int other_turn = 2 - group;
  const int first_query = thread / kWarp * 16 + thread % kWarp / 4;
  const int first_row = task.first_position + first_query;
  const int first_of_group = task.first_position + group * (kExpandedQueries / 2);
  const auto weigh = [&](float(&scores)[16][4], int block, ExpandedSums<kValue>& sums,
                         float(&keep)[2]) {
    const int first_key = task.first_key + block * kKeys;
    weigh_scores<16, kValue>(scores, first_row, first_key, first_key + kKeys - 1 > first_of_group,
                             args.scale, sums, keep);
  };

  ExpandedSums<kValue> sums;
  begin_sums(args, task, thread, sums);
  float scores[16][4] = {};
  float keep[2];
  std::uint32_t weights[8][4];
  Turn keys;
  Turn values;
  if (group == 1)
    named_barrier_arrive(other_turn, 2 * kGroupThreads);  // the first warpgroup goes first

  barrier_wait(shared_address(&shared.q_full), 0);
  barrier_wait(shared_address(&shared.k_full[0]), 0);
  named_barrier(own_turn, 2 * kGroupThreads);
  score(shared, group, 0, scores);
  named_barrier_arrive(other_turn, 2 * kGroupThreads);
  wgmma_wait<0>();
  pin(scores);
  barrier_arrive(shared_address(&shared.k_empty[0]));
  keys.next();
  weigh(scores, 0, sums, keep);
  scale_sums<kValue>(sums, keep);
  pack_weights(scores, weights);

  for (int block = 1; block < blocks; ++block) {
    barrier_wait(shared_address(&shared.k_full[keys.stage]), keys.parity);
    named_barrier(own_turn, 2 * kGroupThreads);
    score(shared, group, keys.stage, scores);
    barrier_wait(shared_address(&shared.v_full[values.stage]), values.parity);
    add_values(shared, values.stage, weights, sums.o);
    named_barrier_arrive(other_turn, 2 * kGroupThreads);
    wgmma_wait<1>();
    pin(scores);
    barrier_arrive(shared_address(&shared.k_empty[keys.stage]));
    keys.next();
    weigh(scores, block, sums, keep);
    wgmma_wait<0>();
    pin(sums.o);
    barrier_arrive(shared_address(&shared.v_empty[values.stage]));
    values.next();
    scale_sums<kValue>(sums, keep);
    pack_weights(scores, weights);
  }
  barrier_wait(shared_address(&shared.v_full[values.stage]), values.parity);
  add_values(shared, values.stage, weights, sums.o);
  wgmma_wait<0>();
  pin(sums.o);

  if (task.ends) {
    write_out<kValue>(args, task, first_query, sums);
  } else {
    keep_sums<kValue>(args, task, thread, sums);
  }
}

#endif

}  // namespace hopper

__global__ void __launch_bounds__(hopper::kThreads, 1)
    expanded_attention_hopper_kernel(const __grid_constant__ ExpandedArgs args,
                                     const __grid_constant__ hopper::Maps maps) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace hopper;  // NOLINT(google-build-using-namespace): of this file's own
  extern __shared__ unsigned char memory[];
  Shared& shared =
      *reinterpret_cast<Shared*>(memory + (1024 - hopper::shared_address(memory) % 1024) % 1024);
  const ExpandedTask task = expanded_task(args);
  if (task.num_keys <= 0) return;
  const int blocks = (task.num_keys + kKeys - 1) / kKeys;
  if (threadIdx.x == 0) {
    barrier_init(hopper::shared_address(&shared.q_full), 1);
    for (int i = 0; i < kStages; ++i) {
      barrier_init(hopper::shared_address(&shared.k_full[i]), 1);
      barrier_init(hopper::shared_address(&shared.v_full[i]), 1);
      barrier_init(hopper::shared_address(&shared.k_empty[i]), 2 * kGroupThreads);
      barrier_init(hopper::shared_address(&shared.v_empty[i]), 2 * kGroupThreads);
    }
    fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x < kGroupThreads) {
    give_registers<24>();
    if (threadIdx.x == 0) produce(shared, maps, args, task, blocks);
  } else {
    take_registers<240>();
    consume(shared, args, task, blocks, static_cast<int>(threadIdx.x) - kGroupThreads);
  }
#endif
}

}  // namespace latentd::cuda
