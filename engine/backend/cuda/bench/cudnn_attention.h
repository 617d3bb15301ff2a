// Causal attention at head dims 192 / 128 through cuDNN's graph API: a yardstick for our own
// kernel, which a build with LATENTD_CUDNN measures beside it.
//
// Contract: used by one thread. Nothing here is part of the server.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "engine/backend/cuda/cuda_context.h"

namespace latentd::cuda {

class CudnnAttention {
 public:
  // One sequence of `num_keys` tokens, the last `num_queries` of which attend. kUnavailable when
  // the library has no plan for it.
  static Result<std::unique_ptr<CudnnAttention>> make(CudaContext& context, std::int32_t num_heads,
                                                      std::int32_t num_queries,
                                                      std::int32_t num_keys, float scale);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  // q [queries, heads, 192], k [keys, heads, 192], v [keys, heads, 128], out [queries, heads, 128],
  // all bf16 in device memory. Errors go to the context.
  void run(const void* q, const void* k, const void* v, void* out);

 private:
  struct State;
  explicit CudnnAttention(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace latentd::cuda
