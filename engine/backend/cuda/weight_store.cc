#include "engine/backend/cuda/weight_store.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{4} << 20;
constexpr std::size_t kMostReaders = 16;
constexpr std::size_t kBuffersOfReader = 2;
constexpr std::chrono::seconds kReportEvery{1};

std::size_t chunk_bytes(const ArenaLayout& layout) { return std::min(kChunkBytes, layout.bytes); }

// Pinned memory and the event after which it may be filled again. An event that was never recorded
// has passed.
class PinnedChunk {
 public:
  PinnedChunk() = default;
  ~PinnedChunk() {
    // The copy may still read the memory.
    if (copied_ != nullptr) cudaEventSynchronize(copied_);
    if (copied_ != nullptr) cudaEventDestroy(copied_);
    if (memory_ != nullptr) cudaFreeHost(memory_);
  }
  PinnedChunk(const PinnedChunk&) = delete;
  PinnedChunk& operator=(const PinnedChunk&) = delete;

  cudaError_t allocate(std::size_t bytes) {
    const cudaError_t error = cudaMallocHost(&memory_, bytes);
    if (error != cudaSuccess) return error;
    return cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming | cudaEventBlockingSync);
  }
  std::byte* memory() const { return static_cast<std::byte*>(memory_); }
  cudaError_t wait() const { return cudaEventSynchronize(copied_); }
  cudaError_t copy_to(void* device, std::size_t bytes, cudaStream_t stream) const {
    const cudaError_t error =
        cudaMemcpyAsync(device, memory_, bytes, cudaMemcpyHostToDevice, stream);
    return error != cudaSuccess ? error : cudaEventRecord(copied_, stream);
  }

 private:
  void* memory_ = nullptr;
  cudaEvent_t copied_ = nullptr;
};

}  // namespace

// From begin_upload to finish_upload.
class WeightStore::Upload {
 public:
  Upload(const CudaContext& context, std::span<TensorView* const> tensors, ArenaLayout layout,
         std::byte* arena, HostReader read_host)
      : context_(context),
        layout_(std::move(layout)),
        arena_(arena),
        read_host_(std::move(read_host)) {
    for (const TensorView* tensor : tensors) {
      sources_.push_back(static_cast<const std::byte*>(tensor->data));
    }
  }
  ~Upload() {
    next_.store(layout_.bytes);  // nothing is left to do
    join();
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  cudaError_t begin() {
    const cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    if (error != cudaSuccess) return error;
    const std::size_t chunks = (layout_.bytes + kChunkBytes - 1) / kChunkBytes;
    const std::size_t processors = std::max(1U, std::thread::hardware_concurrency());
    running_ = std::min({chunks, processors, kMostReaders});
    for (std::size_t i = 0, count = running_; i < count; ++i) {
      readers_.emplace_back([this] { read(); });
    }
    return cudaSuccess;
  }

  // What went wrong first, if anything.
  cudaError_t finish(const UploadProgress& progress) {
    {
      std::unique_lock lock(mutex_);
      while (!ended_.wait_for(lock, kReportEvery, [this] { return running_ == 0; })) {
        if (progress) progress(bytes_done_.load(), layout_.bytes);
      }
    }
    join();
    if (error_ == cudaSuccess) error_ = cudaStreamSynchronize(stream_);
    if (progress && error_ == cudaSuccess) progress(layout_.bytes, layout_.bytes);
    return error_;
  }

  const ArenaLayout& layout() const { return layout_; }

 private:
  void join() {
    for (std::thread& reader : readers_) reader.join();
    readers_.clear();
  }

  void read() {
    const cudaError_t error = copy_chunks();
    std::lock_guard lock(mutex_);
    if (error_ == cudaSuccess) error_ = error;
    if (error != cudaSuccess) next_.store(layout_.bytes);  // the others have nothing left to do
    if (--running_ == 0) ended_.notify_one();
  }

  cudaError_t copy_chunks() {
    context_.use_device();
    std::array<PinnedChunk, kBuffersOfReader> ring;
    for (PinnedChunk& chunk : ring) {
      const cudaError_t error = chunk.allocate(chunk_bytes(layout_));
      if (error != cudaSuccess) return error;
    }
    for (std::size_t turn = 0;; ++turn) {
      const std::size_t begin = next_.fetch_add(kChunkBytes);
      if (begin >= layout_.bytes) return cudaSuccess;
      const std::size_t end = std::min(begin + kChunkBytes, layout_.bytes);
      const PinnedChunk& chunk = ring[turn % ring.size()];
      if (const cudaError_t error = chunk.wait(); error != cudaSuccess) return error;
      gather(begin, end, chunk.memory());
      const cudaError_t error = chunk.copy_to(arena_ + begin, end - begin, stream_);
      if (error != cudaSuccess) return error;
      bytes_done_ += end - begin;
    }
  }

  void gather(std::size_t begin, std::size_t end, std::byte* chunk) const {
    layout_.for_each_piece(
        begin, end,
        [&](std::size_t tensor, std::size_t first, std::size_t in_arena, std::size_t bytes) {
          const std::byte* source = sources_[tensor] + first;
          std::byte* to = chunk + (in_arena - begin);
          if (!read_host_ || !read_host_(source, {to, bytes})) std::memcpy(to, source, bytes);
        });
  }

  const CudaContext& context_;
  const ArenaLayout layout_;
  std::byte* const arena_;
  const HostReader read_host_;  // may be empty
  std::vector<const std::byte*> sources_;
  cudaStream_t stream_ = nullptr;
  std::vector<std::thread> readers_;
  std::atomic<std::size_t> next_{0};  // first byte of the arena that nobody has taken
  std::atomic<std::size_t> bytes_done_{0};
  std::mutex mutex_;
  std::condition_variable ended_;
  std::size_t running_ = 0;          // guarded by mutex_
  cudaError_t error_ = cudaSuccess;  // guarded by mutex_
};

WeightStore::WeightStore(CudaContext& context) : context_(context) {}
WeightStore::~WeightStore() = default;

Result<std::byte*> WeightStore::place(const ArenaLayout& layout) {
  LATENTD_ASSIGN_OR_RETURN(auto arena,
                           allocate_buffer(context_, MemoryKind::kDevice, layout.bytes, "weights"));
  arenas_.push_back(std::move(arena));
  return static_cast<std::byte*>(arenas_.back()->data());
}

Status WeightStore::begin_upload(std::span<TensorView* const> tensors, const HostReader& read) {
  LATENTD_CHECK(upload_ == nullptr, "an upload is running");
  std::vector<std::size_t> sizes;
  for (const TensorView* view : tensors) sizes.push_back(view->num_bytes());
  ArenaLayout layout = ArenaLayout::of(sizes);
  if (layout.bytes == 0) return ok_status();
  LATENTD_ASSIGN_OR_RETURN(std::byte * arena, place(layout));
  const std::vector<std::size_t> offsets = layout.offsets;
  upload_ = std::make_unique<Upload>(context_, tensors, std::move(layout), arena, read);
  if (!context_.check(upload_->begin(), "uploading weights")) return context_.status();
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i]->data = arena + offsets[i];
  return ok_status();
}

Status WeightStore::finish_upload(const UploadProgress& progress) {
  if (upload_ == nullptr) return ok_status();
  const cudaError_t error = upload_->finish(progress);
  const std::string doing =
      fmt::format("uploading weights in pinned chunks of {} bytes", chunk_bytes(upload_->layout()));
  upload_ = nullptr;
  context_.check(error, doing);
  return context_.status();
}

Status WeightStore::create_random(std::span<const RandomTensor> tensors) {
  std::vector<std::size_t> sizes;
  for (const RandomTensor& tensor : tensors) sizes.push_back(tensor.view->num_bytes());
  const ArenaLayout layout = ArenaLayout::of(sizes);
  if (layout.bytes == 0) return ok_status();
  LATENTD_ASSIGN_OR_RETURN(std::byte * arena, place(layout));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::byte* data = arena + layout.offsets[i];
    if (!context_.check(launch_fill_random(context_.stream(), tensors[i], data),
                        "filling weights")) {
      return context_.status();
    }
    tensors[i].view->data = data;
  }
  return context_.synchronize();
}

}  // namespace latentd::cuda
