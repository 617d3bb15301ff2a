#include "engine/model/weight_binder.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/safetensors.h"
#include "engine/model/weight_table.h"

namespace latentd {
namespace {

bool is_weight_dtype(const SafetensorsEntry& entry) {
  return entry.dtype == DType::kBF16 || entry.dtype == DType::kF32;
}

std::vector<float> to_fp32(const SafetensorsEntry& entry) {
  const std::size_t count = entry.bytes.size() / dtype_size(*entry.dtype);
  std::vector<float> values(count);
  if (entry.dtype == DType::kF32) {
    std::memcpy(values.data(), entry.bytes.data(), entry.bytes.size());
    return values;
  }
  for (std::size_t i = 0; i < count; ++i) {
    BFloat16 value{};
    std::memcpy(&value, entry.bytes.data() + i * sizeof(value), sizeof(value));
    values[i] = to_float(value);
  }
  return values;
}

}  // namespace

struct Checkpoint::State {
  explicit State(Safetensors opened) : files(std::move(opened)) {}

  // Fills the row's view, or says what is wrong with the tensor.
  std::string bind(const WeightRow& row) {
    const SafetensorsEntry* entry = files.find(row.name);
    const auto expected = [&] {
      return fmt::format("{}: expected BF16 or F32 [{}]", row.name, fmt::join(row.shape, ", "));
    };
    if (entry == nullptr) return expected() + ", but it is missing";
    if (!is_weight_dtype(*entry) || entry->shape != row.shape) {
      return fmt::format("{}, got {}", expected(), entry->to_string());
    }
    TensorView& view = *row.target;
    view.data = entry->bytes.data();
    view.dtype = *entry->dtype;
    if (row.fp32) {
      owned.push_back(to_fp32(*entry));
      view.data = owned.back().data();
      view.dtype = DType::kF32;
    }
    view.rank = static_cast<int>(row.view_shape.size());
    std::copy(row.view_shape.begin(), row.view_shape.end(), view.shape.begin());
    weight_bytes += view.num_bytes();
    return {};
  }

  Safetensors files;
  std::vector<std::vector<float>> owned;  // what a transform made
  ModelWeights weights;
  std::size_t weight_bytes = 0;
  int num_unbound = 0;
};

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& directory,
                                    const ModelConfig& config) {
  LATENTD_ASSIGN_OR_RETURN(Safetensors files, Safetensors::open_directory(directory));
  auto state = std::make_unique<State>(std::move(files));
  const std::vector<WeightRow> table = weight_table(config, state->weights);
  std::vector<std::string> faults;
  for (const WeightRow& row : table) {
    if (auto fault = state->bind(row); !fault.empty()) faults.push_back(std::move(fault));
  }
  if (!faults.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: {} of {} tensors do not fit the config:\n{}", directory.string(),
                              faults.size(), table.size(), fmt::join(faults, "\n")));
  }
  if (config.tie_word_embeddings) state->weights.lm_head = state->weights.embedding;
  state->num_unbound = static_cast<int>(state->files.table().size() - table.size());
  return Checkpoint(std::move(state));
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

const ModelWeights& Checkpoint::weights() const { return state_->weights; }
bool Checkpoint::read(const std::byte* from, std::span<std::byte> to) const {
  return state_->files.read(from, to);
}
std::size_t Checkpoint::weight_bytes() const { return state_->weight_bytes; }
int Checkpoint::num_unbound_tensors() const { return state_->num_unbound; }

}  // namespace latentd
