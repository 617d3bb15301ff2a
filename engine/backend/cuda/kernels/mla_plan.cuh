// The plan of a step: one block lists the work, adds it up and finds where each share begins.
#pragma once

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/mla_attention_params.h"
#include "engine/backend/cuda/mla_sharing.h"

namespace latentd::cuda {

constexpr int kMlaPlanThreads = 1024;

struct MaxInt {
  __device__ int operator()(int a, int b) const { return max(a, b); }
};

// A work a row, or a unit of rows that share keys. Returns how many.
__device__ inline int mla_list_work(const MlaPlanParams& p, int* shared) {
  const BatchView& batch = p.batch;
  const int self = static_cast<int>(threadIdx.x);
  if (!mla_shares(batch, p.division) || batch.prefixes[0].num_rows == 0) {
    for (int row = self; row < batch.num_rows; row += kMlaPlanThreads) {
      p.works[row].view = batch.rows[row];
      p.works[row].segments = 0;
    }
    __syncthreads();
    return batch.num_rows;
  }
  for (int row = self; row < batch.num_rows; row += kMlaPlanThreads) {
    p.unit_ends[row] = mla_unit_end(batch, p.division, row);
  }
  __syncthreads();
  // From each row that has nothing in common with the one before: the first rows of units, whose
  // ends become negative.
  for (int row = self; row < batch.num_rows; row += kMlaPlanThreads) {
    if (mla_common_tiles(batch, row) > 0) continue;
    int first = row;
    do {
      const int end = p.unit_ends[first];
      p.unit_ends[first] = -end;
      first = end;
    } while (first < batch.num_rows && mla_common_tiles(batch, first) > 0);
  }
  __syncthreads();
  int before = 0;
  for (int chunk = 0; chunk < batch.num_rows; chunk += kMlaPlanThreads) {
    const int row = chunk + self;
    const int end = row < batch.num_rows ? -p.unit_ends[row] : 0;
    int sum = 0;
    const int own = before + block_exclusive_sum(end > 0 ? 1 : 0, shared, sum);
    if (end > 0) p.works[own] = mla_work(batch, p.division, row, end);
    before += sum;
  }
  __syncthreads();
  return before;
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
    sum.segments += one.segments;
    largest = max(largest, one.cost);
  }
  sum.cost = warp_reduce(sum.cost, Sum{});
  sum.slots = warp_reduce(sum.slots, Sum{});
  sum.places = warp_reduce(sum.places, Sum{});
  sum.segments = warp_reduce(sum.segments, Sum{});
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
    own_before.segments = before.segments + block_exclusive_sum(own.segments, shared, sum.segments);
    if (work < num_works) p.prefix[work] = own_before;
    before.cost += sum.cost;
    before.slots += sum.slots;
    before.places += sum.places;
    before.segments += sum.segments;
  }
  if (threadIdx.x == 0) p.prefix[num_works] = before;
  return before;
}

// A thread a work: the segments of those that have some.
__device__ inline void mla_list_segments(const MlaPlanParams& p, int num_works) {
  for (int i = static_cast<int>(threadIdx.x); i < num_works; i += kMlaPlanThreads) {
    const MlaWork& work = p.works[i];
    if (work.segments == 0) continue;
    MlaSegment* to = p.segments + p.prefix[i].segments;
    MlaSegments segments(p.batch, p.division.heads, work.first_row, work.view.count);
    for (MlaSegment segment; segments.next(segment); ++to) *to = segment;
  }
}

// A thread a share: its pieces into the list.
__device__ inline MlaShare mla_list_share(const MlaPlanParams& p, const MlaTotals& totals,
                                          int num_works, int share) {
  MlaWalk walk(mla_start(p.works, p.prefix, num_works, totals, p.division, share), p.works,
               num_works, p.segments, p.division, share);
  MlaShare result;
  MlaPiece piece;
  for (; walk.next(piece); ++result.pieces) {
    if (result.pieces == 0) {
      result.first = piece;
      result.others = walk.place() + 1;
    } else {
      p.pieces[walk.place()] = piece;
    }
  }
  return result;
}

// A warp a share: the page-table entries from its first key on.
__device__ inline void mla_copy_pages(const MlaPlanParams& p, int share) {
  const MlaShare s = p.shares[share];
  if (s.pieces == 0) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const MlaSegment& keys = s.first.keys;
  const int entry = (s.first.first_tile - keys.behind) * kMlaTileKeys / p.page_tokens + lane;
  const bool exists = entry * p.page_tokens < keys.context;
  p.pages[share * kMlaKnownPages + lane] =
      exists ? p.batch.page_table[static_cast<std::size_t>(keys.slot) * p.batch.max_pages + entry]
             : 0;
}

// Grid: 1.
__global__ void __launch_bounds__(kMlaPlanThreads) mla_plan_kernel(MlaPlanParams p) {
  __shared__ int shared[kBlockShared];
  for (int i = static_cast<int>(threadIdx.x); i < p.num_counters; i += kMlaPlanThreads) {
    p.counters[i] = 0;
  }
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_works = mla_list_work(p, shared);
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
  mla_list_segments(p, num_works);
  __syncthreads();
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
