// WeightStore: the tensors of a model in device memory, one allocation a call.
//
// Uploading reads in parallel: each of up to 16 threads gathers the next chunk of the arena from
// the host's tensors into one of its two pinned buffers and enqueues its copy, so chunks travel in
// the order in which they are ready. One thread reads the page cache at a fifth of what the link
// carries. Sources are plain memory (a mapped file, as a rule): the pages of a chunk are asked for
// in one call before they are read, which also keeps many reads of a cold disk in flight.
//
// Contract: used by the backend's thread; its own threads end before a call returns.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/tensor_view.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/arena_layout.h"
#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"

namespace latentd::cuda {

class WeightStore {
 public:
  explicit WeightStore(CudaContext& context) : context_(context) {}

  // Backend::upload_all.
  Status upload(std::span<TensorView* const> tensors, const UploadProgress& progress);
  // Backend::create_random.
  Status create_random(std::span<const RandomTensor> tensors);

 private:
  // Memory for all of them.
  Result<std::byte*> place(const ArenaLayout& layout);

  CudaContext& context_;
  std::vector<std::unique_ptr<Buffer>> arenas_;
};

}  // namespace latentd::cuda
