// Counts what the program allocates: linking allocation_counter.cc replaces operator new.
#pragma once

#include <cstdint>

namespace latentd {

// Calls of operator new so far, of all threads.
std::uint64_t num_allocations();

}  // namespace latentd
