#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernels/product_generic.cuh"
#include "engine/backend/cuda/kernels/product_stream.cuh"
#include "engine/backend/cuda/kernels/product_tiles.cuh"
#include "engine/backend/cuda/kernels/stream_launch.cuh"
#include "engine/backend/cuda/launch.h"
#include "engine/backend/cuda/tensor_map.h"

namespace latentd::cuda {
namespace {

unsigned tiles(int size) { return static_cast<unsigned>((size + kTile - 1) / kTile); }

}  // namespace

cudaError_t launch_product(cudaStream_t stream, const Product& p) {
  if (p.rows == 0 || p.columns == 0 || p.batch == 0) return cudaSuccess;
  const dim3 grid(tiles(p.columns), tiles(p.rows), static_cast<unsigned>(p.batch));
  product_kernel<<<grid, kTileThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_product_on_tensor_cores(cudaStream_t stream, const Product& p, int tile_rows) {
  if (p.rows == 0 || p.columns == 0 || p.batch == 0) return cudaSuccess;
  if (tile_rows == kTilePart && p.batch == 1) {
    MappedProduct mapped{p, {}};
    if (make_tensor_map(mapped.map, p.w, p.inner, p.columns, kTileK, kTileBoxRows,
                        p.w_row_stride)) {
      return launch_tiles(/*early=*/false, product_tiles_kernel, stream, mapped);
    }
  }
  return with_stream_shape(tile_rows, [&](auto shape) {
    using Shape = decltype(shape);
    return launch_stream<Shape>(/*early=*/false, product_stream_kernel<Shape>, stream, p);
  });
}

}  // namespace latentd::cuda
