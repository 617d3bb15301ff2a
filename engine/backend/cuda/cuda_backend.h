// The CUDA backend: one NVIDIA GPU.
//
// Computes in fp32 (never TF32) or with bf16 activations and fp32 sums; logits, routing and
// sampling are fp32 and stay on the device. Every operation is enqueued on one stream; inputs and
// outcomes of steps are copied beside it. Buckets are captured as CUDA graphs. A result
// repeats from run to run on one card: algorithms are a function of the shape, sums have a fixed
// order. Its last bits change with the number of tokens in the step unless batch_invariant is set.
//
// Contract: see Backend. The first CUDA error is kept: `run` and `wait` return it from then on and
// operations do nothing. Compiled with LATENTD_CUDA only.
#pragma once

#include <memory>

#include "base/dtype.h"
#include "base/result.h"
#include "engine/backend/backend.h"

namespace latentd {

namespace cuda {
class RunTimer;
}

struct CudaBackendOptions {
  int device = 0;
  DType activation = DType::kBF16;  // kF32 or kBF16
  // A row has the same bits whatever shares its step (DESIGN rule 4, neighbours) and however its
  // prompt is cut. Products then avoid cuBLASLt, whose sums depend on the number of rows.
  bool batch_invariant = false;
  // Times what `run` enqueues; null: nothing. REQUIRES: outlives the backend.
  cuda::RunTimer* run_timer = nullptr;
};

// kInvalidArgument for a device that does not exist or another dtype, kUnavailable when the driver
// is missing or fails, kResourceExhausted when the GPU's memory is full.
Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions& options);

// Devices that the driver shows; 0 without a driver.
int cuda_device_count();

}  // namespace latentd
