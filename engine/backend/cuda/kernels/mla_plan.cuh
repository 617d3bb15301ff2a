// The plan of a step: one block adds up the rows and finds where each share begins.
#pragma once

#include "engine/backend/cuda/kernels/block.cuh"
#include "engine/backend/cuda/mla_attention_params.h"

namespace latentd::cuda {

constexpr int kMlaPlanThreads = 1024;

struct MaxInt {
  __device__ int operator()(int a, int b) const { return max(a, b); }
};

// A warp a row: what its units add to the line. `largest` becomes the cost of the largest unit
// seen.
__device__ inline MlaPrefix mla_row_cost(const RowView& row, const MlaDivision& d, int& largest) {
  MlaPrefix sum;
  const int units = mla_units(row, d);
  for (int unit = static_cast<int>(threadIdx.x) % kWarp; unit < units; unit += kWarp) {
    const MlaPrefix one = mla_cost(row, d, unit);
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

// A thread a share: its pieces into the list.
__device__ inline MlaShare mla_list_share(const MlaPlanParams& p, const MlaTotals& totals,
                                          int share) {
  const BatchView& batch = p.batch;
  MlaWalk walk(mla_start(batch.rows, p.prefix, batch.num_rows, totals, p.division, share),
               batch.rows, batch.num_rows, p.division, share);
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
  MlaTotals totals;
  for (int row = warp; row < p.batch.num_rows; row += kMlaPlanThreads / kWarp) {
    const RowView view = p.batch.rows[row];
    const MlaPrefix cost = mla_row_cost(view, p.division, totals.largest);
    if (threadIdx.x % kWarp != 0) continue;
    p.prefix[row] = cost;
    totals.units += mla_units(view, p.division);
  }
  totals.units = block_reduce(totals.units, Sum{}, shared);
  totals.largest = block_reduce(totals.largest, MaxInt{}, shared);
  __syncthreads();
  MlaPrefix before;
  for (int first = 0; first < p.batch.num_rows; first += kMlaPlanThreads) {
    const int row = first + static_cast<int>(threadIdx.x);
    const MlaPrefix own = row < p.batch.num_rows ? p.prefix[row] : MlaPrefix{};
    MlaPrefix sum;
    MlaPrefix own_before;
    own_before.cost = before.cost + block_exclusive_sum(own.cost, shared, sum.cost);
    own_before.slots = before.slots + block_exclusive_sum(own.slots, shared, sum.slots);
    own_before.places = before.places + block_exclusive_sum(own.places, shared, sum.places);
    if (row < p.batch.num_rows) p.prefix[row] = own_before;
    before.cost += sum.cost;
    before.slots += sum.slots;
    before.places += sum.places;
  }
  if (threadIdx.x == 0) p.prefix[p.batch.num_rows] = before;
  totals.cost = before.cost;
  __syncthreads();
  for (int share = static_cast<int>(threadIdx.x); share < p.division.shares;
       share += kMlaPlanThreads) {
    p.shares[share] = mla_list_share(p, totals, share);
  }
  __syncthreads();
  for (int share = warp; share < p.division.shares; share += kMlaPlanThreads / kWarp) {
    mla_copy_pages(p, share);
  }
}

}  // namespace latentd::cuda
