#include "engine/backend/cuda/expert_tables.h"

#include <utility>

#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/tensor_map.h"

namespace latentd::cuda {
namespace {

const void* at(const TensorView& tensor, std::int64_t element) {
  return static_cast<const char*>(tensor.data) +
         static_cast<std::size_t>(element) * dtype_size(tensor.dtype);
}

ExpertMatrices matrices(const MlpWeights& mlp) {
  ExpertMatrices result;
  result.gate = mlp.gate.data;
  result.up = mlp.up.data;
  result.down = mlp.down.data;
  result.down_stride = mlp.down.dim(1);
  return result;
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

bool ExpertTables::upload(const void* host, std::size_t bytes, std::unique_ptr<Buffer>& device) {
  auto buffer = allocate_buffer(context_, MemoryKind::kDevice, bytes, "tables of experts");
  if (!buffer.ok()) {
    context_.fail(buffer.status());
    return false;
  }
  device = std::move(buffer).value();
  return context_.check(cudaMemcpyAsync(device->data(), host, bytes, cudaMemcpyHostToDevice,
                                        context_.stream()),
                        "uploading tables of experts") &&
         context_.synchronize().ok();
}

bool ExpertTables::make_maps(const MoeWeights& weights, Table& table) {
  const TensorView& gate = weights.experts[0].gate;
  if (!context_.has_warp_group_products() || gate.dtype != DType::kBF16) return true;
  const std::int64_t inner = gate.dim(0);
  const std::int64_t hidden = gate.dim(1);
  std::vector<CUtensorMap> maps(table.host.size() * kExpertMaps);
  for (std::size_t e = 0; e < table.host.size(); ++e) {
    const ExpertMatrices& m = table.host[e];
    CUtensorMap* of_expert = &maps[e * kExpertMaps];
    if (!make_tensor_map(of_expert[kGateMap], m.gate, hidden, inner, kTileK, kExpertBoxRows) ||
        !make_tensor_map(of_expert[kUpMap], m.up, hidden, inner, kTileK, kExpertBoxRows) ||
        !make_tensor_map(of_expert[kDownMap], m.down, inner, hidden, kTileK, kExpertBoxRows,
                         m.down_stride)) {
      return true;  // such as odd widths: the other kernels do without
    }
  }
  if (!upload(maps.data(), maps.size() * sizeof(CUtensorMap), table.maps)) return false;
  for (std::size_t e = 0; e < table.host.size(); ++e) {
    table.host[e].maps = static_cast<const CUtensorMap*>(table.maps->data()) + e * kExpertMaps;
  }
  return true;
}

bool ExpertTables::make(const MoeWeights& weights, Table& table) {
  for (const MlpWeights& expert : weights.experts) table.host.push_back(matrices(expert));
  const std::int64_t inner = weights.experts[0].gate.dim(0);
  const std::int64_t width = weights.experts[0].gate.dim(1);
  for (int s = 0; s < shared_experts_of(weights); ++s) {
    const MlpWeights& mlp = weights.shared;
    ExpertMatrices slice;
    slice.gate = at(mlp.gate, s * inner * width);
    slice.up = at(mlp.up, s * inner * width);
    slice.down = at(mlp.down, s * inner);
    slice.down_stride = mlp.down.dim(1);
    table.host.push_back(slice);
  }
  return make_maps(weights, table) &&
         upload(table.host.data(), table.host.size() * sizeof(ExpertMatrices), table.device);
}

ExpertTable ExpertTables::table(const MoeWeights& weights) {
  Table& table = tables_[&weights];
  if (table.device == nullptr || !describes(table.host, weights)) {
    // Operations before this one may still read the old table.
    if (!context_.synchronize().ok()) return {};
    table = {};
    if (!make(weights, table)) return {};
  }
  return {static_cast<const ExpertMatrices*>(table.device->data()), table.maps != nullptr};
}

}  // namespace latentd::cuda
