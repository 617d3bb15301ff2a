#include "tests/engine/trap.h"

namespace latentd::test {
namespace {

__global__ void trap_kernel() { __trap(); }

}  // namespace

void launch_trap() {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  trap_kernel<<<1, 1, 0, stream>>>();
}

}  // namespace latentd::test
