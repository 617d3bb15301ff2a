#include "engine/backend/cuda/expert_tables.h"

#include <cstring>
#include <utility>

namespace latentd::cuda {
namespace {

bool describes(const std::vector<ExpertMatrices>& table, const MoeWeights& weights) {
  if (table.size() != weights.experts.size()) return false;
  for (std::size_t e = 0; e < table.size(); ++e) {
    const MlpWeights& expert = weights.experts[e];
    if (table[e].gate != expert.gate.data || table[e].up != expert.up.data ||
        table[e].down != expert.down.data) {
      return false;
    }
  }
  return true;
}

}  // namespace

const ExpertMatrices* ExpertTables::table(const MoeWeights& weights) {
  Table& table = tables_[&weights];
  if (table.device != nullptr && describes(table.host, weights)) {
    return static_cast<const ExpertMatrices*>(table.device->data());
  }
  // Operations before this one may still read the old table.
  if (!context_.synchronize().ok()) return nullptr;
  table = {};
  for (const MlpWeights& expert : weights.experts) {
    table.host.push_back({expert.gate.data, expert.up.data, expert.down.data});
  }
  const std::size_t bytes = table.host.size() * sizeof(ExpertMatrices);
  auto staging = allocate_buffer(context_, MemoryKind::kStaging, bytes, "table of experts");
  auto device = allocate_buffer(context_, MemoryKind::kDevice, bytes, "table of experts");
  if (!staging.ok() || !device.ok()) {
    context_.fail(staging.ok() ? device.status() : staging.status());
    return nullptr;
  }
  table.staging = std::move(staging).value();
  std::memcpy(table.staging->data(), table.host.data(), bytes);
  if (!context_.check(cudaMemcpyAsync(device.value()->data(), table.staging->data(), bytes,
                                      cudaMemcpyHostToDevice, context_.stream()),
                      "uploading the table of experts")) {
    return nullptr;
  }
  table.device = std::move(device).value();
  return static_cast<const ExpertMatrices*>(table.device->data());
}

}  // namespace latentd::cuda
