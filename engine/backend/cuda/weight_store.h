// WeightStore: the tensors of a model in device memory, one allocation a call.
//
// Uploading reads in parallel: each of up to 16 threads gathers the next chunk of the arena from
// the host's tensors into one of its two pinned buffers and enqueues its copy, so chunks travel in
// the order in which they are ready. One thread reads the page cache at a fifth of what the link
// carries. Bytes come through the caller's reader or, where it has none, from memory. A mapped file
// is better read: its pages would have to be mapped first and unmapped at the end, half a second of
// 31 GB each, under a lock of the process that every allocation needs. Copies have a stream of
// their own, so that steps can be captured and warmed up meanwhile.
//
// Contract: used by the backend's thread. Its own threads run from begin_upload to finish_upload
// and read the host's tensors until then; without the latter they end early with the store.
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
  explicit WeightStore(CudaContext& context);
  ~WeightStore();
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  // As Backend's.
  Status begin_upload(std::span<TensorView* const> tensors, const HostReader& read);
  Status finish_upload(const UploadProgress& progress);
  // Backend::create_random.
  Status create_random(std::span<const RandomTensor> tensors);

 private:
  class Upload;

  // Memory for all of them.
  Result<std::byte*> place(const ArenaLayout& layout);

  CudaContext& context_;
  std::vector<std::unique_ptr<Buffer>> arenas_;
  std::unique_ptr<Upload> upload_;  // begun and not finished
};

}  // namespace latentd::cuda
