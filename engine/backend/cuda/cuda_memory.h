// Memory of the CUDA backend: buffers for the engine, scratch of operations.
//
// Contract: used by the backend's thread. A buffer may be freed while the GPU still uses it: the
// runtime waits. Device memory is aligned to 256 bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_context.h"

namespace latentd::cuda {

// Zero-filled when returned. kResourceExhausted with what was asked for and what is free.
Result<std::unique_ptr<Buffer>> allocate_buffer(CudaContext& context, MemoryKind kind,
                                                std::size_t bytes, std::string_view purpose);

// Device memory that its next user overwrites. Grows to the largest step seen, which waits for the
// GPU, until the context freezes scratch; from then on growing is an error.
class Scratch {
 public:
  explicit Scratch(CudaContext& context) : context_(context) {}

  // Null after an error, which the context keeps.
  template <typename T>
  T* take(std::size_t count) {
    return static_cast<T*>(take_bytes(count * sizeof(T)));
  }
  void* take_bytes(std::size_t bytes);

 private:
  CudaContext& context_;
  std::unique_ptr<Buffer> memory_;
};

}  // namespace latentd::cuda
