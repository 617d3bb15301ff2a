#include "engine/backend/cuda/kernels/few_product.cuh"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {
namespace {

// Blocks along the columns of both matrices.
int column_blocks(const FewProduct& p, int columns) {
  int blocks = 0;
  for (const FewMatrix& matrix : p.matrices) blocks += (matrix.columns + columns - 1) / columns;
  return blocks;
}

template <int kSlabs, int kWarps>
cudaError_t launch(cudaStream_t stream, const FewProduct& p) {
  const dim3 grid(static_cast<unsigned>(column_blocks(p, kSlabs * kFewColumns)),
                  static_cast<unsigned>(p.num_heads));
  return launch_dependent(/*early=*/true, few_product_kernel<kSlabs, kWarps>, grid, kWarps * kWarp,
                          0, stream, p);
}

}  // namespace

cudaError_t launch_few_product(cudaStream_t stream, const FewProduct& p) {
  // As many warps as a round of k keeps busy. Normed states meet the most columns: twice as many a
  // block, so that all blocks are there at once.
  constexpr int kFewWarps = 4;
  constexpr int kManyWarps = 16;
  if (p.inner <= kFewRound * kFewWarps * kFewChunk) return launch<1, kFewWarps>(stream, p);
  return p.norm != nullptr ? launch<2, kManyWarps>(stream, p) : launch<1, kManyWarps>(stream, p);
}

}  // namespace latentd::cuda
