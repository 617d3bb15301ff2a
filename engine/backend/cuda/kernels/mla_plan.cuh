// The plan of a step: one block lists the work, adds it up and finds where each share begins.
#pragma once

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/mla_attention_params.h"
#include "engine/backend/cuda/mla_chain.h"

namespace latentd::cuda {

constexpr int kMlaPlanThreads = 1024;

struct MaxInt {
  __device__ int operator()(int a, int b) const { return max(a, b); }
};

// The work of prefixes, then that of rows. Returns how many prefixes there are.
__device__ inline int mla_list_work(const MlaPlanParams& p, int* shared) {
  const BatchView& batch = p.batch;
  const int self = static_cast<int>(threadIdx.x);
  int prefixes = 0;
  if (batch.prefixes != nullptr) {
    for (int i = self; i < batch.num_rows && batch.prefixes[i].num_rows > 0; i += kMlaPlanThreads) {
      p.works[i] = mla_prefix_work(batch.prefixes[i], batch.rows);
      ++prefixes;
    }
    prefixes = block_reduce(prefixes, Sum{}, shared);
    __syncthreads();
  }
  for (int row = self; row < batch.num_rows; row += kMlaPlanThreads) {
    const int prefix = prefixes > 0 ? batch.row_prefixes[row] : -1;
    p.works[prefixes + row] = mla_row_work(batch.rows[row], batch.prefixes, prefix);
  }
  __syncthreads();
  return prefixes;
}

// A warp a work: what its units add to the line. `largest` becomes the cost of the largest unit
// seen.
__device__ inline MlaPrefix mla_work_cost(const MlaWork& work, const MlaDivision& d, int& largest) {
  MlaPrefix sum;
  const int units = mla_units(work, d);
  for (int unit = static_cast<int>(threadIdx.x) % kWarp; unit < units; unit += kWarp) {
    const MlaPrefix one = mla_cost(work, d, unit);
    sum.cost += one.cost;
    sum.slots += one.slots;
    sum.places += one.places;
    largest = max(largest, one.cost);
  }
  sum.cost = warp_reduce(sum.cost, Sum{});
  sum.slots = warp_reduce(sum.slots, Sum{});
  sum.places = warp_reduce(sum.places, Sum{});
  return sum;
}

// What lies before each work, in place of what it adds.
__device__ inline MlaPrefix mla_add_up(const MlaPlanParams& p, int num_works, int* shared) {
  MlaPrefix before;
  for (int first = 0; first < num_works; first += kMlaPlanThreads) {
    const int work = first + static_cast<int>(threadIdx.x);
    const MlaPrefix own = work < num_works ? p.prefix[work] : MlaPrefix{};
    MlaPrefix sum;
    MlaPrefix own_before;
    own_before.cost = before.cost + block_exclusive_sum(own.cost, shared, sum.cost);
    own_before.slots = before.slots + block_exclusive_sum(own.slots, shared, sum.slots);
    own_before.places = before.places + block_exclusive_sum(own.places, shared, sum.places);
    if (work < num_works) p.prefix[work] = own_before;
    before.cost += sum.cost;
    before.slots += sum.slots;
    before.places += sum.places;
  }
  if (threadIdx.x == 0) p.prefix[num_works] = before;
  return before;
}

// The chains of rows that share a prefix, and their number.
__device__ inline void mla_list_chains(const MlaPlanParams& p, int num_prefixes, int* shared) {
  const BatchView& batch = p.batch;
  if (batch.prefixes == nullptr) return;
  int before = 0;
  for (int first = 0; num_prefixes > 0 && first < batch.num_rows; first += kMlaPlanThreads) {
    const int row = first + static_cast<int>(threadIdx.x);
    const bool chained = row < batch.num_rows && p.works[num_prefixes + row].chained != 0;
    int sum = 0;
    const int own = before + block_exclusive_sum(chained ? 1 : 0, shared, sum);
    if (chained) {
      p.chains[own] = mla_chain(p.works, p.prefix, num_prefixes, batch.prefixes,
                                batch.row_prefixes[row], row, p.division);
    }
    before += sum;
  }
  if (threadIdx.x == 0) *p.num_chains = before;
}

// A thread a share: its pieces into the list.
__device__ inline MlaShare mla_list_share(const MlaPlanParams& p, const MlaTotals& totals,
                                          int num_works, int share) {
  MlaWalk walk(mla_start(p.works, p.prefix, num_works, totals, p.division, share), p.works,
               num_works, p.division, share);
  MlaShare result;
  MlaPiece piece;
  for (; walk.next(piece); ++result.pieces) {
    if (result.pieces == 0) {
      result.first = piece;
      result.others = walk.place() + 1;
    } else {
      p.pieces[walk.place()] = piece;
    }
    if (piece.chain >= 0 && piece.index == 0) p.parts[walk.unit()] = mla_parts(piece);
  }
  return result;
}

// A warp a share: the page-table entries from its first key on.
__device__ inline void mla_copy_pages(const MlaPlanParams& p, int share) {
  const MlaShare s = p.shares[share];
  if (s.pieces == 0) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int entry = s.first.first_tile * kMlaTileKeys / p.page_tokens + lane;
  const bool exists = entry * p.page_tokens < s.first.context;
  p.pages[share * kMlaKnownPages + lane] =
      exists
          ? p.batch
                .page_table[static_cast<std::size_t>(s.first.view.slot) * p.batch.max_pages + entry]
          : 0;
}

// Grid: 1.
__global__ void __launch_bounds__(kMlaPlanThreads) mla_plan_kernel(MlaPlanParams p) {
  __shared__ int shared[kBlockShared];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_prefixes = mla_list_work(p, shared);
  const int num_works = num_prefixes + p.batch.num_rows;
  MlaTotals totals;
  for (int i = warp; i < num_works; i += kMlaPlanThreads / kWarp) {
    const MlaWork work = p.works[i];
    const MlaPrefix cost = mla_work_cost(work, p.division, totals.largest);
    if (threadIdx.x % kWarp != 0) continue;
    p.prefix[i] = cost;
    totals.units += mla_units(work, p.division);
  }
  totals.units = block_reduce(totals.units, Sum{}, shared);
  totals.largest = block_reduce(totals.largest, MaxInt{}, shared);
  __syncthreads();
  totals.cost = mla_add_up(p, num_works, shared).cost;
  __syncthreads();
  mla_list_chains(p, num_prefixes, shared);
  for (int share = static_cast<int>(threadIdx.x); share < p.division.shares;
       share += kMlaPlanThreads) {
    p.shares[share] = mla_list_share(p, totals, num_works, share);
  }
  __syncthreads();
  for (int share = warp; share < p.division.shares; share += kMlaPlanThreads / kWarp) {
    mla_copy_pages(p, share);
  }
}

}  // namespace latentd::cuda
