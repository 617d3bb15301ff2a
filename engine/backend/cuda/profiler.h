// What a profiler looks at that was told to wait (ncu --profile-from-start off).
//
// Contract: calls may come from any thread; without a profiler they do nothing.
#pragma once

namespace latentd::cuda {

void begin_profile();
void end_profile();

}  // namespace latentd::cuda
