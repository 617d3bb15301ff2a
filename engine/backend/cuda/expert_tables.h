// ExpertTables: where the matrices of each layer's experts lie, as arrays that kernels read.
//
// Experts are tensors of their own, so a layer's table is three pointers an expert. It is made when
// a layer is first seen, and made anew when its weights have moved.
//
// Contract: used by the backend's thread.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/expert_params.h"
#include "engine/model/weights.h"

namespace latentd::cuda {

// MLPs of the experts' shape that the shared one is the sum of: 0 when there is none or its inner
// size is not a multiple of theirs.
int shared_experts_of(const MoeWeights& weights);

struct ExpertTable {
  const ExpertMatrices* experts = nullptr;  // [experts + shared_experts_of] in device memory
  bool has_maps = false;                    // for warp-group products
};

class ExpertTables {
 public:
  explicit ExpertTables(CudaContext& context) : context_(context) {}

  // Allocates and waits for the GPU unless the layer's table exists. No experts after an error,
  // which the context keeps.
  ExpertTable table(const MoeWeights& weights);

 private:
  struct Table {
    std::vector<ExpertMatrices> host;
    std::unique_ptr<Buffer> device;
    std::unique_ptr<Buffer> maps;  // [experts + shared][kExpertMaps]
  };

  bool make(const MoeWeights& weights, Table& table);
  // Tensor maps of bf16 matrices, where warp-group products run.
  bool make_maps(const MoeWeights& weights, Table& table);
  bool upload(const void* host, std::size_t bytes, std::unique_ptr<Buffer>& device);

  CudaContext& context_;
  std::map<const MoeWeights*, Table> tables_;
};

}  // namespace latentd::cuda
