#include "engine/backend/cuda/graph_cache.h"

namespace latentd::cuda {

GraphCache::~GraphCache() {
  for (const auto& [bucket, graph] : graphs_) cudaGraphExecDestroy(graph);
}

void GraphCache::capture(const BucketKey& bucket, const std::function<void()>& body) {
  if (!context_.ok() || graphs_.contains(bucket)) return;
  if (warm_.insert({bucket.phase, bucket.num_tokens}).second) body();
  const cudaGraphExec_t graph = record(body);
  if (graph != nullptr) graphs_.emplace(bucket, graph);
}

void GraphCache::run(const BucketKey& bucket, const std::function<void()>& body) {
  capture(bucket, body);
  if (!context_.ok()) return;
  context_.check(cudaGraphLaunch(graphs_.at(bucket), context_.stream()), "launching a CUDA graph");
}

// Null after an error, which the context keeps.
cudaGraphExec_t GraphCache::record(const std::function<void()>& body) {
  const cudaStream_t stream = context_.stream();
  if (!context_.check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                      "capturing a step")) {
    return nullptr;
  }
  body();
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  // The error of an operation says more than that the capture became invalid.
  if (!context_.ok() || !context_.check(ended, "capturing a step")) {
    if (graph != nullptr) cudaGraphDestroy(graph);
    return nullptr;
  }
  cudaGraphExec_t executable = nullptr;
  const bool made =
      context_.check(cudaGraphInstantiate(&executable, graph, 0), "making a CUDA graph") &&
      context_.check(cudaGraphUpload(executable, stream), "uploading a CUDA graph");
  cudaGraphDestroy(graph);
  if (made) return executable;
  if (executable != nullptr) cudaGraphExecDestroy(executable);
  return nullptr;
}

}  // namespace latentd::cuda
