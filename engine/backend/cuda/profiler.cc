#include "engine/backend/cuda/profiler.h"

#include <cuda_profiler_api.h>

namespace latentd::cuda {

void begin_profile() { cudaProfilerStart(); }
void end_profile() { cudaProfilerStop(); }

}  // namespace latentd::cuda
