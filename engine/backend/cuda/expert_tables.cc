#include "engine/backend/cuda/expert_tables.h"

#include <utility>

namespace latentd::cuda {
namespace {

const void* at(const TensorView& tensor, std::int64_t element) {
  return static_cast<const char*>(tensor.data) +
         static_cast<std::size_t>(element) * dtype_size(tensor.dtype);
}

ExpertMatrices matrices(const MlpWeights& mlp) {
  return {mlp.gate.data, mlp.up.data, mlp.down.data, mlp.down.dim(1)};
}

bool same(const ExpertMatrices& a, const ExpertMatrices& b) {
  return a.gate == b.gate && a.up == b.up && a.down == b.down && a.down_stride == b.down_stride;
}

bool describes(const std::vector<ExpertMatrices>& table, const MoeWeights& weights) {
  const std::size_t experts = weights.experts.size();
  if (table.size() != experts + static_cast<std::size_t>(shared_experts_of(weights))) return false;
  for (std::size_t e = 0; e < experts; ++e) {
    if (!same(table[e], matrices(weights.experts[e]))) return false;
  }
  return table.size() == experts || same(table[experts], matrices(weights.shared));
}

}  // namespace

int shared_experts_of(const MoeWeights& weights) {
  if (!weights.shared.gate.is_set() || weights.experts.empty()) return 0;
  const TensorView& gate = weights.experts[0].gate;
  const std::int64_t inner = gate.dim(0);
  const bool alike = weights.shared.gate.dtype == gate.dtype &&
                     weights.shared.up.dtype == gate.dtype &&
                     weights.shared.down.dtype == gate.dtype;
  const std::int64_t shared = weights.shared.gate.dim(0);
  return alike && shared % inner == 0 ? static_cast<int>(shared / inner) : 0;
}

const ExpertMatrices* ExpertTables::table(const MoeWeights& weights) {
  Table& table = tables_[&weights];
  if (table.device != nullptr && describes(table.host, weights)) {
    return static_cast<const ExpertMatrices*>(table.device->data());
  }
  // Operations before this one may still read the old table.
  if (!context_.synchronize().ok()) return nullptr;
  table = {};
  for (const MlpWeights& expert : weights.experts) table.host.push_back(matrices(expert));
  const std::int64_t inner = weights.experts[0].gate.dim(0);
  const std::int64_t width = weights.experts[0].gate.dim(1);
  for (int s = 0; s < shared_experts_of(weights); ++s) {
    const MlpWeights& mlp = weights.shared;
    table.host.push_back({at(mlp.gate, s * inner * width), at(mlp.up, s * inner * width),
                          at(mlp.down, s * inner), mlp.down.dim(1)});
  }
  const std::size_t bytes = table.host.size() * sizeof(ExpertMatrices);
  auto device = allocate_buffer(context_, MemoryKind::kDevice, bytes, "table of experts");
  if (!device.ok()) {
    context_.fail(device.status());
    return nullptr;
  }
  if (!context_.check(cudaMemcpyAsync(device.value()->data(), table.host.data(), bytes,
                                      cudaMemcpyHostToDevice, context_.stream()),
                      "uploading the table of experts") ||
      !context_.synchronize().ok()) {
    return nullptr;
  }
  table.device = std::move(device).value();
  return static_cast<const ExpertMatrices*>(table.device->data());
}

}  // namespace latentd::cuda
