// What the kernels of `experts` on tensor cores have in common.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/expert_params.h"

namespace latentd::cuda {

// The parts of a step and the order of its entries, as a kernel reads them.
struct ExpertOrder {
  const ExpertPart* parts;
  const std::int32_t* order;
  int num_parts;

  __device__ explicit ExpertOrder(const ExpertStep& p)
      : parts(p.parts), order(p.order), num_parts(*p.num_parts) {}
};

// Copies what a few tokens need of the order to shared memory, so that a block waits for memory
// once before it knows its first weights.
struct SharedExpertOrder {
  static constexpr int kParts = 128;
  static constexpr int kEntries = 512;
  static constexpr int kPartInts = sizeof(ExpertPart) / sizeof(std::int32_t);
  alignas(ExpertPart) std::int32_t parts[kParts * kPartInts];
  std::int32_t order[kEntries];

  __device__ ExpertOrder copy(const ExpertStep& p) {
    const auto* from = reinterpret_cast<const std::int32_t*>(p.parts);
    const auto step = static_cast<int>(blockDim.x);
    for (int i = threadIdx.x; i < min(kParts, p.most_parts) * kPartInts; i += step) {
      parts[i] = from[i];
    }
    for (int i = threadIdx.x; i < min(kEntries, p.num_entries); i += step) order[i] = p.order[i];
    ExpertOrder result(p);
    __syncthreads();
    if (result.num_parts <= kParts) result.parts = reinterpret_cast<const ExpertPart*>(parts);
    if (p.num_entries <= kEntries) result.order = order;
    return result;
  }
};

// Items are (part of an expert's entries, slab of weight rows).
struct ExpertWork {
  const ExpertStep& p;
  ExpertOrder sorted;
  int slabs;  // of one part

  __device__ int num_items() const { return sorted.num_parts * slabs; }
  __device__ const ExpertPart& part(int item) const { return sorted.parts[item / slabs]; }
  __device__ int num_tokens(int item) const { return part(item).count; }
  // The entry at place `i` of the sorted order; shared experts have theirs as they come.
  __device__ int entry(int i) const { return i < p.num_entries ? sorted.order[i] : i; }
  __device__ int token(int entry) const {
    return entry < p.num_entries ? entry / p.experts_per_token
                                 : (entry - p.num_entries) % p.num_tokens;
  }
  // Row `row` of the part's x or act, or null.
  __device__ const char* x_row(const ExpertPart& part, int row) const {
    if (row >= part.count) return nullptr;
    return static_cast<const char*>(p.x) +
           static_cast<std::size_t>(token(entry(part.first + row))) * p.hidden_size * 2;
  }
  __device__ const char* act_row(const ExpertPart& part, int row) const {
    if (row >= part.count) return nullptr;
    return static_cast<const char*>(p.act) +
           static_cast<std::size_t>(entry(part.first + row)) * p.inner * 2;
  }
};

}  // namespace latentd::cuda
