// What the kernels of `experts` on tensor cores have in common.
#pragma once

#include <cstddef>

#include "engine/backend/cuda/expert_params.h"

namespace latentd::cuda {

// Items are (part of an expert's entries, slab of weight rows).
struct ExpertWork {
  const ExpertStep& p;
  int slabs;  // of one part

  __device__ int num_items() const { return *p.num_parts * slabs; }
  __device__ ExpertPart part(int item) const { return p.parts[item / slabs]; }
  __device__ int num_tokens(int item) const { return part(item).count; }
  // The entry at place `i` of the sorted order; shared experts have theirs as they come.
  __device__ int entry(int i) const { return i < p.num_entries ? p.order[i] : i; }
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
