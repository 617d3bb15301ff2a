// Test programs that need a CUDA device.
#pragma once

namespace latentd::test {

// Makes GoogleTest skip every test of the program when no device answers. Call it before main;
// returns true.
bool skip_without_cuda();

}  // namespace latentd::test
