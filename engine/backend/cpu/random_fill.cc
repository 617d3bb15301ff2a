#include <algorithm>

#include "base/check.h"
#include "base/dtype.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/random_element.h"

namespace latentd::cpu {

void fill_random(CpuContext& context, const RandomTensor& tensor, void* data) {
  constexpr std::size_t kBlock = 1 << 16;
  const DType dtype = tensor.view->dtype;
  LATENTD_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "random {}", dtype_name(dtype));
  const auto count = static_cast<std::size_t>(tensor.view->num_elements());
  const auto element = [&tensor](std::size_t i) {
    return tensor.limit == 0.0F ? tensor.constant : random_element(tensor.seed, i, tensor.limit);
  };
  const auto fill = [&](int block, int /*worker*/) {
    const std::size_t begin = static_cast<std::size_t>(block) * kBlock;
    const std::size_t end = std::min(begin + kBlock, count);
    for (std::size_t i = begin; i < end; ++i) {
      if (dtype == DType::kBF16) {
        static_cast<BFloat16*>(data)[i] = to_bfloat16(element(i));
      } else {
        static_cast<float*>(data)[i] = element(i);
      }
    }
  };
  context.pool.parallel_for(static_cast<int>((count + kBlock - 1) / kBlock), fill);
}

}  // namespace latentd::cpu
