// GraphCache: bodies of operations, captured once a bucket and replayed as CUDA graphs.
//
// A replay costs one launch instead of hundreds, and the device goes from kernel to kernel without
// the host. Everything that a body depends on besides its bucket lies in device memory at addresses
// that stay; memory that would grow in a capture is an error, because growing waits for the device.
//
// Contract: used by the backend's thread; owns the graphs. Errors go to the context.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_context.h"

namespace latentd::cuda {

class GraphCache {
 public:
  explicit GraphCache(CudaContext& context) : context_(context) {}
  ~GraphCache();
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  // Captures the bucket unless that was done. The first one of its size also computes, outside of
  // the capture, so that kernels are loaded and products planned.
  void capture(const BucketKey& bucket, const std::function<void()>& body);
  // Captures and replays.
  void run(const BucketKey& bucket, const std::function<void()>& body);

 private:
  cudaGraphExec_t record(const std::function<void()>& body);

  CudaContext& context_;
  std::map<BucketKey, cudaGraphExec_t> graphs_;
  // Bodies that ran outside a capture, where kernels are loaded and products are planned.
  std::set<std::pair<std::int32_t, std::int32_t>> warm_;  // (phase, num_tokens)
};

}  // namespace latentd::cuda
