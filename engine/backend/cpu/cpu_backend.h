// The CPU backend: a product for machines without a GPU, and the reference for numerics.
//
// Computes in fp32 from fp32 or bf16 weights and caches. Uploading a tensor copies nothing, unless
// copy_weights asks for it. Every output row has the same bits whatever shares its step, however
// its prompt is cut and however many threads compute (DESIGN rule 4): bits depend on the
// processor's instruction set alone.
//
// Contract: see Backend; every operation is complete when it returns, fences are always passed.
#pragma once

#include <memory>

#include "base/result.h"
#include "engine/backend/backend.h"

namespace latentd {

struct CpuBackendOptions {
  int threads = 0;  // that compute, the caller included; 0: usable_cpu_count()
  // Weights are copied into memory of huge pages, where the system grants them. A core reads those
  // up to 1.7 times as fast as a mapped file's small ones; the price is their size once more.
  bool copy_weights = false;
};

// kInvalidArgument for a negative or absurd number of threads.
Result<std::unique_ptr<Backend>> make_cpu_backend(const CpuBackendOptions& options);

}  // namespace latentd
