// CudaContext: one device, its streams and its sticky state.
//
// Operations share one stream. Beside it one stream brings inputs in and one brings outcomes out:
//
//   uploads    inputs of step n+1      |
//   stream     step n ................. prepare, step n+1 ....
//   downloads                          outcomes of step n
//
// The first CUDA error is kept for good: what is enqueued after it is dropped, and `status` reports
// it from then on (DESIGN rule 5: the engine fails what is in flight and ends).
//
// Contract: used by one thread.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/status.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/kernel_policy.h"

namespace latentd::cuda {

// kResourceExhausted for lack of memory, kUnavailable otherwise: a retry on another replica helps.
Status to_status(cudaError_t error, std::string_view doing);

class CudaContext {
 public:
  // kUnimplemented, with what the card is and what this build holds, when no code runs there.
  static Result<std::unique_ptr<CudaContext>> make(int device);
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  cudaStream_t stream() const { return stream_; }
  // Makes the device the calling thread's: the thread that makes a backend may hand it to another.
  void use_device() const;
  const std::string& device_name() const { return device_name_; }  // "NVIDIA H100 80GB HBM3"
  int processors() const { return processors_; }                   // multiprocessors
  // Zeroes after an error.
  DeviceMemory memory() const;
  // Most shared memory that one block may use, bytes.
  std::size_t shared_bytes_of_block() const { return shared_bytes_; }
  // Which kernels run here (kernel_policy.h).
  bool has_tensor_cores() const { return kernels_.tensor_cores; }
  bool has_warp_group_products() const { return kernels_.warp_group; }

  // Keeps the first error. Returns whether all is well so far.
  bool check(cudaError_t error, std::string_view doing);
  void fail(Status status);
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }

  // From now on scratch of operations that would grow is a fault: captured graphs hold addresses,
  // and nothing is allocated while the engine runs.
  void freeze_scratch() { scratch_frozen_ = true; }
  bool scratch_frozen() const { return scratch_frozen_; }

  // Enqueues a copy to the device beside the stream; `join_uploads` makes the stream wait for all
  // of them.
  void upload(void* device, const void* staging, std::size_t bytes);
  void join_uploads();
  // Enqueues a copy from the device that waits for the stream, but that the stream does not wait
  // for.
  void download(void* staging, const void* device, std::size_t bytes);

  // Of all that was enqueued on the stream and for download.
  Fence record();
  Status wait(Fence fence);
  Status synchronize();

 private:
  struct Recorded {
    std::uint64_t value;
    cudaEvent_t event;
  };

  CudaContext() = default;
  Status create_streams();
  // `downloads_` waits for all that the stream holds.
  bool follow_stream();

  int device_ = 0;
  std::string device_name_;
  int processors_ = 0;
  KernelChoice kernels_;
  cudaStream_t stream_ = nullptr;
  cudaStream_t uploads_ = nullptr;
  cudaStream_t downloads_ = nullptr;
  cudaEvent_t uploaded_ = nullptr;
  cudaEvent_t computed_ = nullptr;
  bool uploads_pending_ = false;  // not joined
  std::size_t shared_bytes_ = 0;
  std::size_t free_at_start_ = 0;
  bool scratch_frozen_ = false;
  Status status_;
  std::uint64_t last_fence_ = 0;
  std::deque<Recorded> recorded_;  // not waited for yet, oldest first
  std::vector<cudaEvent_t> free_events_;
};

}  // namespace latentd::cuda
