// Blas: matrix products through cuBLASLt, bf16 and fp32 (never TF32), accumulated in fp32.
//
// The library is asked for an algorithm once a shape; the answer is a function of shape, alignment,
// library and card, so a run repeats another's bits. Split reductions go through fp32 workspace.
//
// Contract: used by the backend's thread, on the context's stream.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "base/result.h"
#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/product.h"

namespace latentd::cuda {

class Blas {
 public:
  static Result<std::unique_ptr<Blas>> make(CudaContext& context);
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  // Enqueues the product, or returns false when the library has no algorithm for it (mixed dtypes,
  // odd alignment). Errors go to the context.
  bool multiply(const Product& p);

 private:
  // All that an algorithm depends on.
  using Key = std::array<std::int64_t, 15>;
  struct Plan;

  explicit Blas(CudaContext& context);
  static Key key_of(const Product& p);
  std::unique_ptr<Plan> plan(const Product& p, std::int64_t alignment) const;

  CudaContext& context_;
  cublasLtHandle_t handle_ = nullptr;
  std::unique_ptr<Buffer> workspace_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace latentd::cuda
