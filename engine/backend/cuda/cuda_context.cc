#include "engine/backend/cuda/cuda_context.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

namespace latentd::cuda {

Status to_status(cudaError_t error, std::string_view doing) {
  if (error == cudaSuccess) return ok_status();
  const StatusCode code = error == cudaErrorMemoryAllocation ? StatusCode::kResourceExhausted
                                                             : StatusCode::kUnavailable;
  return Status(
      code, fmt::format("{}: {} ({})", doing, cudaGetErrorString(error), cudaGetErrorName(error)));
}

Result<std::unique_ptr<CudaContext>> CudaContext::make(int device) {
  int count = 0;
  LATENTD_RETURN_IF_ERROR(to_status(cudaGetDeviceCount(&count), "looking for CUDA devices"));
  if (device < 0 || device >= count) {
    return invalid_argument(
        "device", fmt::format("CUDA device {} does not exist, there are {}", device, count));
  }
  std::unique_ptr<CudaContext> context(new CudaContext);
  context->device_ = device;
  context->use_device();
  LATENTD_RETURN_IF_ERROR(context->create_streams());
  cudaDeviceProp properties{};
  LATENTD_RETURN_IF_ERROR(
      to_status(cudaGetDeviceProperties(&properties, device), "asking a CUDA device what it is"));
  context->device_name_ = properties.name;
  context->processors_ = properties.multiProcessorCount;
  int bytes = 0;
  LATENTD_RETURN_IF_ERROR(
      to_status(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                "reading a CUDA attribute"));
  context->shared_bytes_ = static_cast<std::size_t>(bytes);
  const Capability capability{properties.major, properties.minor};
  context->kernels_ =
      choose_kernels(LATENTD_CUDA_ARCHITECTURES, capability, context->shared_bytes_);
  if (!context->kernels_.any) {
    return Status(StatusCode::kUnimplemented,
                  no_code_message(LATENTD_CUDA_ARCHITECTURES, properties.name, capability))
        .with_field("device");
  }
  context->free_at_start_ = context->memory().free;
  return context;
}

Status CudaContext::create_streams() {
  for (cudaStream_t* stream : {&stream_, &uploads_, &downloads_}) {
    LATENTD_RETURN_IF_ERROR(to_status(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
                                      "creating a CUDA stream"));
  }
  for (cudaEvent_t* event : {&uploaded_, &computed_}) {
    LATENTD_RETURN_IF_ERROR(to_status(cudaEventCreateWithFlags(event, cudaEventDisableTiming),
                                      "creating a CUDA event"));
  }
  return ok_status();
}

CudaContext::~CudaContext() {
  // Errors of the end have nobody left to tell.
  for (cudaStream_t stream : {uploads_, stream_, downloads_}) {
    if (stream != nullptr) cudaStreamSynchronize(stream);
  }
  for (cudaEvent_t event : {uploaded_, computed_}) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  for (const Recorded& recorded : recorded_) cudaEventDestroy(recorded.event);
  for (cudaEvent_t event : free_events_) cudaEventDestroy(event);
  for (cudaStream_t stream : {uploads_, stream_, downloads_}) {
    if (stream != nullptr) cudaStreamDestroy(stream);
  }
}

void CudaContext::use_device() const {
  thread_local int current = 0;  // what the runtime gives to a new thread
  if (current == device_) return;
  cudaSetDevice(device_);  // it existed when the context was made
  current = device_;
}

DeviceMemory CudaContext::memory() const {
  DeviceMemory memory;
  if (cudaMemGetInfo(&memory.free, &memory.total) != cudaSuccess) return {};
  memory.used_by_process = free_at_start_ - std::min(memory.free, free_at_start_);
  return memory;
}

bool CudaContext::check(cudaError_t error, std::string_view doing) {
  if (error != cudaSuccess) fail(to_status(error, doing));
  return ok();
}

void CudaContext::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void CudaContext::upload(void* device, const void* staging, std::size_t bytes) {
  if (bytes == 0 || !ok()) return;
  check(cudaMemcpyAsync(device, staging, bytes, cudaMemcpyHostToDevice, uploads_),
        "copying to the GPU");
  uploads_pending_ = true;
}

void CudaContext::join_uploads() {
  if (!uploads_pending_ || !ok()) return;
  uploads_pending_ = false;
  if (check(cudaEventRecord(uploaded_, uploads_), "recording a CUDA event")) {
    check(cudaStreamWaitEvent(stream_, uploaded_), "waiting for copies to the GPU");
  }
}

bool CudaContext::follow_stream() {
  return check(cudaEventRecord(computed_, stream_), "recording a CUDA event") &&
         check(cudaStreamWaitEvent(downloads_, computed_), "waiting for operations");
}

void CudaContext::download(void* staging, const void* device, std::size_t bytes) {
  if (bytes == 0 || !ok() || !follow_stream()) return;
  check(cudaMemcpyAsync(staging, device, bytes, cudaMemcpyDeviceToHost, downloads_),
        "copying from the GPU");
}

Fence CudaContext::record() {
  const Fence fence{++last_fence_};
  join_uploads();
  if (!ok() || !follow_stream()) return fence;
  cudaEvent_t event = nullptr;
  if (free_events_.empty()) {
    if (!check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync),
               "creating a CUDA event")) {
      return fence;
    }
  } else {
    event = free_events_.back();
    free_events_.pop_back();
  }
  recorded_.push_back({fence.value, event});
  check(cudaEventRecord(event, downloads_), "recording a CUDA event");
  return fence;
}

Status CudaContext::wait(Fence fence) {
  // The event of the fence completes after those before it: one wait serves them all.
  cudaEvent_t event = nullptr;
  while (!recorded_.empty() && recorded_.front().value <= fence.value) {
    event = recorded_.front().event;
    free_events_.push_back(event);
    recorded_.pop_front();
  }
  if (event != nullptr && ok()) check(cudaEventSynchronize(event), "waiting for the GPU");
  return status_;
}

Status CudaContext::synchronize() {
  join_uploads();
  if (ok()) check(cudaStreamSynchronize(stream_), "waiting for the GPU");
  if (ok()) check(cudaStreamSynchronize(downloads_), "waiting for the GPU");
  return status_;
}

}  // namespace latentd::cuda
