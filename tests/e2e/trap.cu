// A library to preload into latentd: when the file named by LATENTD_TEST_TRAP_FILE appears, a
// kernel traps, which leaves the process's CUDA device in a sticky error as a broken card does.
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

namespace {

__global__ void trap_kernel() { __trap(); }

void wait_and_trap(const std::string& path) {
  while (!std::filesystem::exists(path)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  trap_kernel<<<1, 1, 0, stream>>>();
}

[[maybe_unused]] const bool kStarted = [] {
  if (const char* path = std::getenv("LATENTD_TEST_TRAP_FILE")) {
    std::thread(wait_and_trap, std::string(path)).detach();
  }
  return true;
}();

}  // namespace
