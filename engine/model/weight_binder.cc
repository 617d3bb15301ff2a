#include "engine/model/weight_binder.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/safetensors.h"

namespace latentd {
namespace {

enum class Transform : std::uint8_t {
  kNone,    // the view points into the mapped file
  kToFp32,  // the view points to an owned copy in fp32
};

// One row of the binding table: a published tensor and the view it fills.
struct Binding {
  std::string name;
  std::vector<std::int64_t> shape;  // in the checkpoint
  TensorView* target = nullptr;
  std::vector<std::int64_t> view_shape;  // same elements
  Transform transform = Transform::kNone;
};

// Writes the table for a config. Targets lie in `weights`, whose vectors are sized first.
class BindingTable {
 public:
  BindingTable(const ModelConfig& config, ModelWeights& weights) : config_(config) {
    weights.layers.resize(static_cast<std::size_t>(config.num_layers));
    add("model.embed_tokens.weight", {config.vocab_size, config.hidden_size}, weights.embedding);
    for (int layer = 0; layer < config.num_layers; ++layer) {
      add_layer(fmt::format("model.layers.{}.", layer), config.is_moe_layer(layer),
                weights.layers[static_cast<std::size_t>(layer)]);
    }
    add("model.norm.weight", {config.hidden_size}, weights.final_norm);
    if (!config.tie_word_embeddings) {
      add("lm_head.weight", {config.vocab_size, config.hidden_size}, weights.lm_head);
    }
  }

  const std::vector<Binding>& rows() const { return rows_; }

 private:
  void add(std::string name, const std::vector<std::int64_t>& shape, TensorView& target) {
    rows_.push_back({std::move(name), shape, &target, shape, Transform::kNone});
  }

  void add_layer(const std::string& prefix, bool is_moe, LayerWeights& layer) {
    add(prefix + "input_layernorm.weight", {config_.hidden_size}, layer.attention.input_norm);
    add_attention(prefix + "self_attn.", layer.attention);
    add(prefix + "post_attention_layernorm.weight", {config_.hidden_size},
        layer.post_attention_norm);
    if (is_moe) {
      add_moe(prefix + "mlp.", layer.moe);
    } else {
      add_mlp(prefix + "mlp.", config_.intermediate_size, layer.mlp);
    }
  }

  void add_attention(const std::string& prefix, MlaWeights& mla) {
    const std::int64_t heads = config_.num_heads;
    const std::int64_t q_rows = heads * config_.qk_head_dim();
    if (config_.q_lora_rank == 0) {
      add(prefix + "q_proj.weight", {q_rows, config_.hidden_size}, mla.q);
    } else {
      add(prefix + "q_a_proj.weight", {config_.q_lora_rank, config_.hidden_size}, mla.q_a);
      add(prefix + "q_a_layernorm.weight", {config_.q_lora_rank}, mla.q_a_norm);
      add(prefix + "q_b_proj.weight", {q_rows, config_.q_lora_rank}, mla.q_b);
    }
    add(prefix + "kv_a_proj_with_mqa.weight", {config_.latent_dim(), config_.hidden_size},
        mla.kv_a);
    add(prefix + "kv_a_layernorm.weight", {config_.kv_lora_rank}, mla.kv_a_norm);
    const std::int64_t kv_rows = config_.qk_nope_head_dim + config_.v_head_dim;
    rows_.push_back({prefix + "kv_b_proj.weight",
                     {heads * kv_rows, config_.kv_lora_rank},
                     &mla.kv_b,
                     {heads, kv_rows, config_.kv_lora_rank},
                     Transform::kNone});
    add(prefix + "o_proj.weight", {config_.hidden_size, heads * config_.v_head_dim}, mla.o);
  }

  void add_mlp(const std::string& prefix, std::int64_t intermediate, MlpWeights& mlp) {
    add(prefix + "gate_proj.weight", {intermediate, config_.hidden_size}, mlp.gate);
    add(prefix + "up_proj.weight", {intermediate, config_.hidden_size}, mlp.up);
    add(prefix + "down_proj.weight", {config_.hidden_size, intermediate}, mlp.down);
  }

  void add_moe(const std::string& prefix, MoeWeights& moe) {
    const MoeConfig& shape = config_.moe;
    add(prefix + "gate.weight", {shape.num_experts, config_.hidden_size}, moe.router);
    if (shape.correction_bias) {
      rows_.push_back({prefix + "gate.e_score_correction_bias",
                       {shape.num_experts},
                       &moe.correction_bias,
                       {shape.num_experts},
                       Transform::kToFp32});
    }
    moe.experts.resize(static_cast<std::size_t>(shape.num_experts));
    for (std::size_t expert = 0; expert < moe.experts.size(); ++expert) {
      add_mlp(fmt::format("{}experts.{}.", prefix, expert), shape.intermediate_size,
              moe.experts[expert]);
    }
    if (shape.num_shared_experts > 0) {
      add_mlp(prefix + "shared_experts.",
              std::int64_t{shape.num_shared_experts} * shape.intermediate_size, moe.shared);
    }
  }

  const ModelConfig& config_;
  std::vector<Binding> rows_;
};

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
  std::string bind(const Binding& row) {
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
    if (row.transform == Transform::kToFp32) {
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
  const BindingTable table(config, state->weights);
  std::vector<std::string> faults;
  for (const Binding& row : table.rows()) {
    if (auto fault = state->bind(row); !fault.empty()) faults.push_back(std::move(fault));
  }
  if (!faults.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: {} of {} tensors do not fit the config:\n{}", directory.string(),
                              faults.size(), table.rows().size(), fmt::join(faults, "\n")));
  }
  if (config.tie_word_embeddings) state->weights.lm_head = state->weights.embedding;
  state->num_unbound = static_cast<int>(state->files.table().size() - table.rows().size());
  return Checkpoint(std::move(state));
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

const ModelWeights& Checkpoint::weights() const { return state_->weights; }
std::size_t Checkpoint::weight_bytes() const { return state_->weight_bytes; }
int Checkpoint::num_unbound_tensors() const { return state_->num_unbound; }

}  // namespace latentd
