// The CPU backend: a product for machines without a GPU, and the reference for numerics.
//
// Computes in fp32 from fp32 or bf16 weights and caches, in place: uploading a tensor copies
// nothing. Every output row has the same bits whatever shares its step, however its prompt is cut
// and however many threads compute (DESIGN rule 4): bits depend on the processor's instruction set
// alone.
//
// Contract: see Backend; every operation is complete when it returns, fences are always passed.
#pragma once

#include <memory>

#include "base/result.h"
#include "engine/backend/backend.h"

namespace latentd {

struct CpuBackendOptions {
  int threads = 0;  // that compute, the caller included; 0: usable_cpu_count()
};

// kInvalidArgument for a negative or absurd number of threads.
Result<std::unique_ptr<Backend>> make_cpu_backend(const CpuBackendOptions& options);

}  // namespace latentd
