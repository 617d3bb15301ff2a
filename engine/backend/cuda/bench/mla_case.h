// One shape of the decode attention: inputs in rotated sets, the captured graph, its time and
// error.
//
// Contract: one thread; errors are the context's. Device memory is the backend's buffers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/absorbed_attention.h"
#include "engine/backend/cuda/cuda_context.h"
#include "kvcache/cache_layout.h"

namespace latentd::cuda::bench {

struct MlaShape {
  int batch = 1;
  int query = 1;  // tokens a sequence
  int heads = 16;
  int context = 4096;  // tokens that the last query sees
  // Every `members` sequences, one behind the other, have their first `shared` tokens in common;
  // whether they are read once is the prefixes' to say.
  int members = 1;
  int shared = 0;  // whole pages
  bool prefixes = false;
};

struct MlaResult {
  double us = 0.0;
  double plan_us = 0.0;
  double relative_error = 0.0;  // ||out - ref|| / ||ref|| over the sampled query vectors
  unsigned long long not_finite = 0;
};

// Memory that all shapes share.
class MlaBench {
 public:
  // cache: bf16 or fp8. The pool holds `tokens` of one layer; invariant_pieces as of
  // AbsorbedAttention.
  static Result<std::unique_ptr<MlaBench>> make(CudaContext& context, DType cache,
                                                std::size_t tokens, int invariant_pieces,
                                                int page_tokens);

  Result<MlaResult> run(const MlaShape& shape);
  // TB/s of a 1 GB read stream.
  Result<double> read_rate();

 private:
  MlaBench(CudaContext& context, DType cache, int invariant_pieces, int page_tokens)
      : context_(context),
        attention_(context, DType::kBF16, invariant_pieces),
        layout_(CacheLayout::mla(1, kMlaLatent, kMlaRope, cache, page_tokens)) {}

  struct Inputs;
  Result<void*> upload(Inputs& inputs, const void* data, std::size_t bytes);
  Status share(const MlaShape& shape, Inputs& inputs, BatchView& batch);
  Status make_inputs(const MlaShape& shape, Inputs& inputs);
  Status check(const MlaShape& shape, const Inputs& inputs, MlaResult& result);
  // Best of several replays of `launches` calls, microseconds a call.
  template <typename Body>
  Result<double> time(int launches, const Body& body);

  CudaContext& context_;
  AbsorbedAttention attention_;
  CacheLayout layout_;  // of one layer
  std::unique_ptr<Buffer> pool_;
};

}  // namespace latentd::cuda::bench
