// A kernel that ends in a trap.
#pragma once

namespace latentd::test {

// Leaves the device of this process in a sticky error. Returns before the kernel has run.
void launch_trap();

}  // namespace latentd::test
