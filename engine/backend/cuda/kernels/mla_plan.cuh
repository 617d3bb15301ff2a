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
    largest = max(largest, one.cost);
  }
  sum.cost = warp_reduce(sum.cost, Sum{});
  sum.slots = warp_reduce(sum.slots, Sum{});
  return sum;
}

// Grid: 1.
__global__ void __launch_bounds__(kMlaPlanThreads) mla_plan_kernel(MlaPlanParams p) {
  __shared__ int shared[kBlockShared];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  MlaTotals totals;
  for (int row = warp; row < p.num_rows; row += kMlaPlanThreads / kWarp) {
    const RowView view = p.rows[row];
    const MlaPrefix cost = mla_row_cost(view, p.division, totals.largest);
    if (threadIdx.x % kWarp != 0) continue;
    p.prefix[row] = cost;
    totals.units += mla_units(view, p.division);
  }
  totals.units = block_reduce(totals.units, Sum{}, shared);
  totals.largest = block_reduce(totals.largest, MaxInt{}, shared);
  __syncthreads();
  MlaPrefix before;
  for (int first = 0; first < p.num_rows; first += kMlaPlanThreads) {
    const int row = first + static_cast<int>(threadIdx.x);
    const MlaPrefix own = row < p.num_rows ? p.prefix[row] : MlaPrefix{};
    int cost = 0;
    int slots = 0;
    const int cost_before = block_exclusive_sum(own.cost, shared, cost);
    const int slots_before = block_exclusive_sum(own.slots, shared, slots);
    if (row < p.num_rows) p.prefix[row] = {before.cost + cost_before, before.slots + slots_before};
    before.cost += cost;
    before.slots += slots;
  }
  if (threadIdx.x == 0) p.prefix[p.num_rows] = before;
  totals.cost = before.cost;
  __syncthreads();
  for (int share = static_cast<int>(threadIdx.x); share < p.division.shares;
       share += kMlaPlanThreads) {
    p.shares[share] = mla_share(p.rows, p.prefix, p.num_rows, totals, p.division, share);
  }
}

}  // namespace latentd::cuda
