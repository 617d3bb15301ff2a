#include "engine/backend/cuda/cuda_memory.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace latentd::cuda {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kBlockBytes = std::size_t{64} << 20;
constexpr std::size_t kChunkBytes = std::size_t{8} << 20;

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

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Result<std::unique_ptr<Buffer>> allocate_buffer(CudaContext& context, MemoryKind kind,
                                                std::size_t bytes, std::string_view purpose) {
  if (!context.ok()) return context.status();
  const std::size_t reserved = std::max(bytes, kAlignment);
  void* data = nullptr;
  const cudaError_t error =
      kind == MemoryKind::kDevice ? cudaMalloc(&data, reserved) : cudaMallocHost(&data, reserved);
  if (error != cudaSuccess) return out_of_memory(error, kind, bytes, purpose);
  auto buffer = std::make_unique<CudaBuffer>(kind, data, bytes);
  if (kind == MemoryKind::kStaging) {
    std::memset(data, 0, reserved);
  } else {
    context.check(cudaMemsetAsync(data, 0, reserved, context.stream()), "clearing GPU memory");
    LATENTD_RETURN_IF_ERROR(context.synchronize());
  }
  return std::unique_ptr<Buffer>(std::move(buffer));
}

WeightStore::~WeightStore() {
  for (const Chunk& chunk : chunks_) {
    if (chunk.copied != nullptr) cudaEventDestroy(chunk.copied);
  }
}

Result<std::byte*> WeightStore::place(std::size_t bytes) {
  if (blocks_.empty() || used_ + aligned(bytes) > blocks_.back()->size()) {
    LATENTD_ASSIGN_OR_RETURN(auto block,
                             allocate_buffer(context_, MemoryKind::kDevice,
                                             std::max(aligned(bytes), kBlockBytes), "weights"));
    blocks_.push_back(std::move(block));
    used_ = 0;
  }
  std::byte* data = static_cast<std::byte*>(blocks_.back()->data()) + used_;
  used_ += aligned(bytes);
  return data;
}

Status WeightStore::prepare_chunks() {
  for (Chunk& chunk : chunks_) {
    if (chunk.copied != nullptr) continue;
    LATENTD_ASSIGN_OR_RETURN(chunk.memory, allocate_buffer(context_, MemoryKind::kStaging,
                                                           kChunkBytes, "staging of weights"));
    if (!context_.check(cudaEventCreateWithFlags(&chunk.copied, cudaEventDisableTiming),
                        "creating a CUDA event")) {
      return context_.status();
    }
  }
  return ok_status();
}

Result<const void*> WeightStore::upload(const void* host, std::size_t bytes) {
  LATENTD_RETURN_IF_ERROR(prepare_chunks());
  LATENTD_ASSIGN_OR_RETURN(std::byte * device, place(bytes));
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t part = std::min(kChunkBytes, bytes - done);
    const Chunk& chunk = chunks_[next_chunk_];
    next_chunk_ = (next_chunk_ + 1) % chunks_.size();
    // An event that was never recorded has passed.
    if (!context_.check(cudaEventSynchronize(chunk.copied), "uploading weights")) break;
    std::memcpy(chunk.memory->data(), static_cast<const std::byte*>(host) + done, part);
    context_.check(cudaMemcpyAsync(device + done, chunk.memory->data(), part,
                                   cudaMemcpyHostToDevice, context_.stream()),
                   "uploading weights");
    if (!context_.check(cudaEventRecord(chunk.copied, context_.stream()), "uploading weights")) {
      break;
    }
    done += part;
  }
  if (!context_.ok()) return context_.status();
  return static_cast<const void*>(device);
}

void* Scratch::take_bytes(std::size_t bytes) {
  if (memory_ != nullptr && memory_->size() >= bytes) return memory_->data();
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
