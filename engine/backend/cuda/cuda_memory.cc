#include "engine/backend/cuda/cuda_memory.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace latentd::cuda {
namespace {

constexpr std::size_t kAlignment = 256;

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(MemoryKind kind, void* data, std::size_t size)
      : kind_(kind), data_(data), size_(size) {}
  ~CudaBuffer() override {
    if (kind_ == MemoryKind::kDevice) {
      cudaFree(data_);
    } else {
      cudaFreeHost(data_);
    }
  }
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;

  void* data() override { return data_; }
  std::size_t size() const override { return size_; }

 private:
  MemoryKind kind_;
  void* data_;
  std::size_t size_;
};

Status out_of_memory(cudaError_t error, MemoryKind kind, std::size_t bytes,
                     std::string_view purpose) {
  cudaGetLastError();  // lack of memory is not sticky: the next call must not see it
  std::size_t free = 0;
  std::size_t total = 0;
  const bool device = kind == MemoryKind::kDevice;
  if (device && error == cudaErrorMemoryAllocation &&
      cudaMemGetInfo(&free, &total) == cudaSuccess) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("{}: cannot allocate {} bytes of GPU memory: {} of {} bytes are free",
                              purpose, bytes, free, total));
  }
  return to_status(error, fmt::format("{}: cannot allocate {} bytes of {} memory", purpose, bytes,
                                      device ? "GPU" : "pinned"));
}

}  // namespace

Result<std::unique_ptr<Buffer>> allocate_buffer(CudaContext& context, MemoryKind kind,
                                                std::size_t bytes, std::string_view purpose) {
  if (!context.ok()) return context.status();
  const std::size_t reserved = std::max(bytes, kAlignment);
  void* data = nullptr;
  const cudaError_t error =
      kind == MemoryKind::kDevice ? cudaMalloc(&data, reserved) : cudaMallocHost(&data, reserved);
  if (error != cudaSuccess) return out_of_memory(error, kind, reserved, purpose);
  auto buffer = std::make_unique<CudaBuffer>(kind, data, bytes);
  if (kind == MemoryKind::kStaging) {
    std::memset(data, 0, reserved);
  } else {
    context.check(cudaMemsetAsync(data, 0, reserved, context.stream()), "clearing GPU memory");
    LATENTD_RETURN_IF_ERROR(context.synchronize());
  }
  return std::unique_ptr<Buffer>(std::move(buffer));
}

void* Scratch::take_bytes(std::size_t bytes) {
  if (memory_ != nullptr && memory_->size() >= bytes) return memory_->data();
  if (context_.scratch_frozen()) {
    context_.fail(
        Status(StatusCode::kInternal, fmt::format("scratch of {} bytes needed, {} reserved", bytes,
                                                  memory_ == nullptr ? 0 : memory_->size())));
    return nullptr;
  }
  // What the GPU still computes in the old memory ends before it is freed.
  if (!context_.synchronize().ok()) return nullptr;
  const std::size_t grown = std::max(bytes, std::size_t{1}) / 4 * 5 + kAlignment;
  memory_.reset();
  auto memory = allocate_buffer(context_, MemoryKind::kDevice, grown, "scratch of operations");
  if (!memory.ok()) {
    context_.fail(memory.status());
    return nullptr;
  }
  memory_ = std::move(memory).value();
  return memory_->data();
}

}  // namespace latentd::cuda
