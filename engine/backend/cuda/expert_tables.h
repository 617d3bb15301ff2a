// ExpertTables: where the matrices of each layer's experts lie, as arrays that kernels read.
//
// Experts are tensors of their own, so a layer's table is three pointers an expert. It is made when
// a layer is first seen and made anew when its weights have moved.
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

class ExpertTables {
 public:
  explicit ExpertTables(CudaContext& context) : context_(context) {}

  // [experts] in device memory; null after an error, which the context keeps.
  const ExpertMatrices* table(const MoeWeights& weights);

 private:
  struct Table {
    std::vector<ExpertMatrices> host;
    std::unique_ptr<Buffer> staging;
    std::unique_ptr<Buffer> device;
  };

  CudaContext& context_;
  std::map<const MoeWeights*, Table> tables_;
};

}  // namespace latentd::cuda
