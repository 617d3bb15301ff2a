// Memory of the CUDA backend: buffers for the engine, an arena for weights, scratch of operations.
//
// Contract: used by the backend's thread. A buffer may be freed while the GPU still uses it: the
// runtime waits. Device memory is aligned to 256 bytes.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/tensor_view.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_context.h"

namespace latentd::cuda {

// Zero-filled when returned. kResourceExhausted with what was asked for and what is free.
Result<std::unique_ptr<Buffer>> allocate_buffer(CudaContext& context, MemoryKind kind,
                                                std::size_t bytes, std::string_view purpose);

// Tensors of a model: copied through two pinned chunks, so that reading the next part overlaps the
// copy of the last one, and packed, since a model has thousands of them.
class WeightStore {
 public:
  explicit WeightStore(CudaContext& context) : context_(context) {}
  ~WeightStore();
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  // A copy of `bytes` bytes in device memory; `host` may be freed at once.
  Result<const void*> upload(const void* host, std::size_t bytes);

 private:
  struct Chunk {
    std::unique_ptr<Buffer> memory;
    cudaEvent_t copied = nullptr;
  };

  Result<std::byte*> place(std::size_t bytes);
  Status prepare_chunks();

  CudaContext& context_;
  std::vector<std::unique_ptr<Buffer>> blocks_;
  std::size_t used_ = 0;  // of the last block
  std::array<Chunk, 2> chunks_;
  std::size_t next_chunk_ = 0;
};

// Device memory that its next user overwrites. Grows to the largest step seen; growing waits for
// the GPU.
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
