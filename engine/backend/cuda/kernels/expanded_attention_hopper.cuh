// Causal attention over one pass of expanded keys and values on Hopper: head dims 128 + 64 / 128.
//
// A block computes 128 queries of one head. One warp copies queries, keys and values by tensor maps
// into two stages of 128 keys each; two warpgroups compute 64 queries each (the structure of
// FlashAttention-3, arXiv:2407.08608). The product of the next scores runs while the current
// weights are multiplied with their values, and the warpgroups take turns, so that one's softmax
// falls into the other's products.
#pragma once

#include <cuda.h>

#include "engine/backend/cuda/kernels/elements.cuh"
#include "engine/backend/cuda/kernels/expanded_softmax.cuh"
#include "engine/backend/cuda/kernels/hopper_products.cuh"

namespace latentd::cuda {

namespace hopper {

inline constexpr int kNope = 128;
inline constexpr int kRope = 64;
inline constexpr int kValue = 128;
inline constexpr int kKeys = 128;  // of a stage
inline constexpr int kStages = 2;
inline constexpr int kTasks = 2;           // known ahead
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
  ExpandedTask tasks[kTasks];
  std::uint64_t task_full[kTasks];
  std::uint64_t task_empty[kTasks];
  std::uint64_t q_full;
  std::uint64_t q_empty;
  std::uint64_t k_full[kStages];
  std::uint64_t k_empty[kStages];
  std::uint64_t v_full[kStages];
  std::uint64_t v_empty[kStages];
};
// Dynamic shared memory begins at a multiple of 16 only.
inline constexpr std::size_t kSharedBytes = sizeof(Shared) + 1024;

// Which of two places comes next, and whether it was used an odd number of times.
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

// The thread that hands out tasks and copies what they need.
class Producer {
 public:
  __device__ Producer(Shared& shared, const Maps& maps, const ExpandedArgs& args)
      : shared_(shared), maps_(maps), args_(args) {}

  // Blocks take their tasks from one counter: long ones first, whoever is free.
  __device__ void run() {
    const int total = args_.pass.num_tiles * args_.num_heads;
    int work = atomicAdd(args_.next_task, 1);
    while (work < total) {
      const ExpandedTask task = expanded_task(args_, work);
      work = atomicAdd(args_.next_task, 1);
      if (task.num_keys <= 0) continue;
      give_task(task);
      copy_queries(task);
      const int blocks = (task.num_keys + kKeys - 1) / kKeys;
      copy_keys(task, 0);
      for (int block = 1; block < blocks; ++block) {
        copy_keys(task, block);
        copy_values(task, block - 1);
      }
      copy_values(task, blocks - 1);
    }
    ExpandedTask none{};
    none.num_keys = 0;
    give_task(none);
  }

 private:
  __device__ void give_task(const ExpandedTask& task) {
    barrier_wait(shared_address(&shared_.task_empty[tasks_.stage]), tasks_.parity ^ 1);
    shared_.tasks[tasks_.stage] = task;
    barrier_arrive(shared_address(&shared_.task_full[tasks_.stage]));
    tasks_.next();
  }

  __device__ void copy_queries(const ExpandedTask& task) {
    const std::uint32_t full = shared_address(&shared_.q_full);
    barrier_wait(shared_address(&shared_.q_empty), q_parity_ ^ 1);
    q_parity_ ^= 1;
    barrier_arrive_expecting(full, kKeyBoxes * kBoxBytes);
#pragma unroll
    for (int i = 0; i < kKeyBoxes; ++i) {
      copy_box(shared_.q[i], &maps_.q, full, task.head * (kNope + kRope) + i * kBoxColumns,
               task.first_token);
    }
  }

  __device__ void copy_keys(const ExpandedTask& task, int block) {
    const std::uint32_t full = shared_address(&shared_.k_full[keys_.stage]);
    barrier_wait(shared_address(&shared_.k_empty[keys_.stage]), keys_.parity ^ 1);
    barrier_arrive_expecting(full, kKeyBoxes * kBoxBytes);
    const int row = task.offset + block * kKeys;
#pragma unroll
    for (int i = 0; i < kNope / kBoxColumns; ++i) {
      copy_box(shared_.k[keys_.stage][i], &maps_.kv, full,
               task.head * (kNope + kValue) + i * kBoxColumns, row);
    }
    copy_box(shared_.k[keys_.stage][kNope / kBoxColumns], &maps_.latents, full, args_.kv_lora, row);
    keys_.next();
  }

  __device__ void copy_values(const ExpandedTask& task, int block) {
    const std::uint32_t full = shared_address(&shared_.v_full[values_.stage]);
    barrier_wait(shared_address(&shared_.v_empty[values_.stage]), values_.parity ^ 1);
    barrier_arrive_expecting(full, kValueBoxes * kBoxBytes);
#pragma unroll
    for (int i = 0; i < kValueBoxes; ++i) {
      copy_box(shared_.v[values_.stage][i], &maps_.kv, full,
               task.head * (kNope + kValue) + kNope + i * kBoxColumns, task.offset + block * kKeys);
    }
    values_.next();
  }

  Shared& shared_;
  const Maps& maps_;
  const ExpandedArgs& args_;
  Turn tasks_;
  Turn keys_;
  Turn values_;
  std::uint32_t q_parity_ = 0;
};

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
    weights[k][0] = pack_pair(scores[2 * k][0], scores[2 * k][1]);
    weights[k][1] = pack_pair(scores[2 * k][2], scores[2 * k][3]);
    weights[k][2] = pack_pair(scores[2 * k + 1][0], scores[2 * k + 1][1]);
    weights[k][3] = pack_pair(scores[2 * k + 1][2], scores[2 * k + 1][3]);
  }
}

// One of the two warpgroups that compute.
class Consumer {
 public:
  __device__ Consumer(Shared& shared, const ExpandedArgs& args, int thread)
      : shared_(shared), args_(args), thread_(thread), group_(thread / kGroupThreads) {}

  __device__ void run() {
    if (group_ == 1) pass_turn();  // the first warpgroup goes first
    Turn tasks;
    while (true) {
      barrier_wait(shared_address(&shared_.task_full[tasks.stage]), tasks.parity);
      const ExpandedTask task = shared_.tasks[tasks.stage];
      release(&shared_.task_empty[tasks.stage]);
      tasks.next();
      if (task.num_keys <= 0) return;
      compute(task);
    }
  }

 private:
  __device__ void take_turn() { named_barrier(1 + group_, 2 * kGroupThreads); }
  __device__ void pass_turn() { named_barrier_arrive(2 - group_, 2 * kGroupThreads); }
  // A warp is done with it.
  __device__ void release(std::uint64_t* barrier) {
    __syncwarp();
    barrier_arrive_warp(shared_address(barrier), thread_ % kWarp);
  }

  __device__ void compute(const ExpandedTask& task) {
    const int first_query = thread_ / kWarp * 16 + thread_ % kWarp / 4;
    const int blocks = (task.num_keys + kKeys - 1) / kKeys;
    ExpandedSums<kValue> sums;
    begin_sums(args_, task, thread_, sums);
    float scores[16][4] = {};
    float keep[2];
    std::uint32_t weights[8][4];

    barrier_wait(shared_address(&shared_.q_full), q_parity_);
    q_parity_ ^= 1;
    barrier_wait(shared_address(&shared_.k_full[keys_.stage]), keys_.parity);
    take_turn();
    score(shared_, group_, keys_.stage, scores);
    pass_turn();
    wgmma_wait<0>();
    pin(scores);
    release(&shared_.k_empty[keys_.stage]);
    keys_.next();
    weigh(task, first_query, 0, scores, sums, keep);
    scale_sums<kValue>(sums, keep);
    pack_weights(scores, weights);

    for (int block = 1; block < blocks; ++block) {
      barrier_wait(shared_address(&shared_.k_full[keys_.stage]), keys_.parity);
      take_turn();
      score(shared_, group_, keys_.stage, scores);
      barrier_wait(shared_address(&shared_.v_full[values_.stage]), values_.parity);
      add_values(shared_, values_.stage, weights, sums.o);
      pass_turn();
      wgmma_wait<1>();
      pin(scores);
      release(&shared_.k_empty[keys_.stage]);
      keys_.next();
      weigh(task, first_query, block, scores, sums, keep);
      wgmma_wait<0>();
      pin(sums.o);
      release(&shared_.v_empty[values_.stage]);
      values_.next();
      scale_sums<kValue>(sums, keep);
      pack_weights(scores, weights);
    }
    release(&shared_.q_empty);
    barrier_wait(shared_address(&shared_.v_full[values_.stage]), values_.parity);
    add_values(shared_, values_.stage, weights, sums.o);
    wgmma_wait<0>();
    pin(sums.o);
    release(&shared_.v_empty[values_.stage]);
    values_.next();

    if (task.ends) {
      write_out<kValue>(args_, task, first_query, sums);
    } else {
      keep_sums<kValue>(args_, task, thread_, sums);
    }
  }

  __device__ void weigh(const ExpandedTask& task, int first_query, int block,
                        float (&scores)[16][4], ExpandedSums<kValue>& sums, float (&keep)[2]) {
    const int first_key = task.first_key + block * kKeys;
    const int first_of_group = task.first_position + group_ * (kExpandedQueries / 2);
    weigh_scores<16, kValue>(scores, task.first_position + first_query, first_key,
                             first_key + kKeys - 1 > first_of_group, args_.scale, sums, keep);
  }

  Shared& shared_;
  const ExpandedArgs& args_;
  int thread_;
  int group_;
  Turn keys_;
  Turn values_;
  std::uint32_t q_parity_ = 0;
};

__device__ inline void init_barriers(Shared& shared) {
  constexpr int kArrivals = 2 * kGroupThreads / kWarp * kWarpArrivals;
  barrier_init(shared_address(&shared.q_full), 1);
  barrier_init(shared_address(&shared.q_empty), kArrivals);
  for (int i = 0; i < kStages; ++i) {
    barrier_init(shared_address(&shared.task_full[i]), 1);
    barrier_init(shared_address(&shared.task_empty[i]), kArrivals);
    barrier_init(shared_address(&shared.k_full[i]), 1);
    barrier_init(shared_address(&shared.k_empty[i]), kArrivals);
    barrier_init(shared_address(&shared.v_full[i]), 1);
    barrier_init(shared_address(&shared.v_empty[i]), kArrivals);
  }
  fence_barrier_init();
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
  if (threadIdx.x == 0) init_barriers(shared);
  __syncthreads();
  if (threadIdx.x < kGroupThreads) {
    give_registers<24>();
    if (threadIdx.x == 0) Producer(shared, maps, args).run();
  } else {
    take_registers<240>();
    Consumer(shared, args, static_cast<int>(threadIdx.x) - kGroupThreads).run();
  }
#endif
}

}  // namespace latentd::cuda
