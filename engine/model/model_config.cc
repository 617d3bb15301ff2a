#include "engine/model/model_config.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/model/arch_table.h"
#include "engine/model/field_reader.h"
#include "engine/model/json.h"
#include "engine/model/rope_tables.h"

namespace latentd {
namespace {

// Bounds that keep every product of two sizes far inside int64 and catch nonsense early.
constexpr IntRange kLayers{1, 1024};
constexpr IntRange kWidth{1, 1 << 18};
constexpr IntRange kHeads{1, 4096};
constexpr IntRange kHeadDim{1, 4096};
constexpr IntRange kExperts{1, 1 << 14};
constexpr IntRange kVocab{1, 1 << 22};
constexpr IntRange kPositions{1, 1 << 24};

// What is being read: faults of both kinds are collected and reported together.
struct Reading {
  FaultList faults;
  bool unimplemented = false;  // a fault names a feature rather than a mistake
};

void refuse(FieldReader& fields, Reading& reading, std::string_view name, std::string_view reason) {
  fields.fault(name, reason);
  reading.unimplemented = true;
}

// "a, b, c": the names of a row's entries.
template <typename Entries, typename Name>
std::string names_of(const Entries& entries, Name name) {
  std::string names;
  for (const auto& entry : entries) {
    names += (names.empty() ? "" : ", ") + std::string(entry.*name);
  }
  return names;
}

void check_rotated(FieldReader& fields, std::string_view name, int dim) {
  if (fields.has(name) && dim % 2 != 0) {
    fields.fault(name, fmt::format("must be even, since pairs are rotated, got {}", dim));
  }
}

void read_latent_heads(FieldReader& fields, ModelConfig& config) {
  config.q_lora_rank = fields.read_int("q_lora_rank", kWidth, 0);
  config.kv_lora_rank = fields.require_int("kv_lora_rank", kWidth);
  config.qk_nope_head_dim = fields.require_int("qk_nope_head_dim", kHeadDim);
  config.qk_rope_head_dim = fields.require_int("qk_rope_head_dim", kHeadDim);
  config.v_head_dim = fields.require_int("v_head_dim", kHeadDim);
  check_rotated(fields, "qk_rope_head_dim", config.qk_rope_head_dim);
  if (config.num_kv_heads != config.num_heads) {
    fields.fault("num_key_value_heads", fmt::format("must equal num_attention_heads ({}), got {}",
                                                    config.num_heads, config.num_kv_heads));
  }
}

// head_dim may be absent: the hidden state is then divided among the heads.
int read_head_dim(FieldReader& fields, const ModelConfig& config) {
  if (fields.has("head_dim")) {
    const int head_dim = fields.read_int("head_dim", kHeadDim, 2);
    check_rotated(fields, "head_dim", head_dim);
    return head_dim;
  }
  const int head_dim = config.hidden_size / config.num_heads;
  if (config.hidden_size % (2 * config.num_heads) != 0 || head_dim > kHeadDim.high) {
    fields.fault("head_dim", fmt::format("is missing, and hidden_size ({}) divided among "
                                         "num_attention_heads ({}) is no even number up to {}",
                                         config.hidden_size, config.num_heads, kHeadDim.high));
  }
  return head_dim;
}

void read_grouped_heads(FieldReader& fields, Reading& reading, ModelConfig& config) {
  const int head_dim = read_head_dim(fields, config);
  config.qk_rope_head_dim = head_dim;
  config.v_head_dim = head_dim;
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.fault("num_key_value_heads", fmt::format("must divide num_attention_heads ({}), got {}",
                                                    config.num_heads, config.num_kv_heads));
  }
  if (fields.read_real("partial_rotary_factor", {-1e9, 1e9}, 1.0) != 1.0) {
    refuse(fields, reading, "partial_rotary_factor", "is not implemented");
  }
}

void read_shapes(FieldReader& fields, Reading& reading, const ArchitectureRow& row,
                 ModelConfig& config) {
  config.num_layers = fields.require_int("num_hidden_layers", kLayers);
  config.hidden_size = fields.require_int("hidden_size", kWidth);
  config.num_heads = fields.require_int("num_attention_heads", kHeads);
  config.num_kv_heads = fields.read_int("num_key_value_heads", kHeads, config.num_heads);
  config.vocab_size = fields.require_int("vocab_size", kVocab);
  config.max_position_embeddings = fields.require_int("max_position_embeddings", kPositions);
  config.rms_norm_eps = static_cast<float>(fields.read_real("rms_norm_eps", {1e-12, 1.0}, 1e-6));
  config.tie_word_embeddings = fields.read_bool("tie_word_embeddings", false);
  config.attention = row.attention;
  if (row.attention == AttentionKind::kLatent) {
    read_latent_heads(fields, config);
  } else {
    read_grouped_heads(fields, reading, config);
  }
  if (const auto act = fields.read_string("hidden_act", "silu"); act != "silu") {
    refuse(fields, reading, "hidden_act", fmt::format("only silu is implemented, got \"{}\"", act));
  }
  for (const std::string_view name : {"attention_bias", "mlp_bias"}) {
    if (fields.read_bool(name, false)) refuse(fields, reading, name, "biases are not implemented");
  }
  if (fields.has("quantization_config")) {
    refuse(fields, reading, "quantization_config",
           "quantized weights are not implemented; use a checkpoint in bf16 or fp32");
  }
}

void read_dtype(FieldReader& fields, Reading& reading, ModelConfig& config) {
  // transformers 5 writes dtype, everything older torch_dtype.
  const std::string_view name = fields.has("dtype") ? "dtype" : "torch_dtype";
  const std::string dtype = fields.read_string(name, "bfloat16");
  if (dtype == "float32") {
    config.dtype = DType::kF32;
  } else if (dtype == "bfloat16" || dtype == "auto") {
    config.dtype = DType::kBF16;
  } else {
    refuse(fields, reading, name, fmt::format("must be float32 or bfloat16, got \"{}\"", dtype));
  }
}

void read_yarn(FieldReader& fields, RopeConfig& rope) {
  rope.original_max_position = fields.require_int("original_max_position_embeddings", kPositions);
  rope.beta_fast = fields.read_real("beta_fast", {1e-3, 1e6}, 32.0);
  rope.beta_slow = fields.read_real("beta_slow", {1e-3, 1e6}, 1.0);
  // The defaults of the DeepSeek-V2 reference.
  rope.mscale = fields.read_real("mscale", {0.0, 100.0}, 1.0);
  rope.mscale_all_dim = fields.read_real("mscale_all_dim", {0.0, 100.0}, 0.0);
}

void read_llama3(FieldReader& fields, RopeConfig& rope) {
  rope.original_max_position = fields.require_int("original_max_position_embeddings", kPositions);
  for (const auto& [name, value] : {std::pair{"low_freq_factor", &rope.low_freq_factor},
                                    std::pair{"high_freq_factor", &rope.high_freq_factor}}) {
    if (!fields.has(name)) fields.fault(name, "is missing (a number from 0.001 to 1e6)");
    *value = fields.read_real(name, {1e-3, 1e6}, *value);
  }
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    fields.fault("high_freq_factor", fmt::format("must be above low_freq_factor ({:g}), got {:g}",
                                                 rope.low_freq_factor, rope.high_freq_factor));
  }
}

// What the kind needs besides theta.
void read_scaling(FieldReader& fields, RopeConfig& rope) {
  if (rope.kind == RopeKind::kPlain) return;
  if (!fields.has("factor")) fields.fault("factor", "is missing (a number from 1 to 1024)");
  rope.factor = fields.read_real("factor", {1.0, 1024.0}, 1.0);
  if (rope.kind == RopeKind::kYarn) read_yarn(fields, rope);
  if (rope.kind == RopeKind::kLlama3) read_llama3(fields, rope);
}

// rope_theta and rope_scaling as published, or transformers 5's rope_parameters, which holds both.
void read_rope(FieldReader& fields, Reading& reading, const ArchitectureRow& row,
               ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.interleaved = fields.read_bool("rope_interleave", row.rope_interleaved);
  rope.theta = fields.read_real("rope_theta", {1.0001, 1e12}, 10000.0);

  const std::string_view name = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* object = fields.find(name);
  if (object == nullptr) return;
  if (!object->is_object()) {
    fields.fault(name, fmt::format("must be an object, got {}", object->type_name()));
    return;
  }
  FieldReader scaling(*object, reading.faults, std::string(name) + ".");
  rope.theta = scaling.read_real("rope_theta", {1.0001, 1e12}, rope.theta);
  const std::string_view type_name = scaling.has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.read_string(type_name, "default");
  const auto known = std::find_if(row.rope_types.begin(), row.rope_types.end(),
                                  [&](const RopeType& t) { return t.name == type; });
  if (known != row.rope_types.end()) {
    rope.kind = known->kind;
    read_scaling(scaling, rope);
  } else {
    refuse(scaling, reading, type_name,
           fmt::format("must be one of {} for {}, got \"{}\"",
                       names_of(row.rope_types, &RopeType::name), row.name, type));
  }
  // Each would change the angles or magnitudes in ways that the published models do not use.
  for (const std::string_view other : {"attention_factor", "partial_rotary_factor"}) {
    if (scaling.read_real(other, {-1e9, 1e9}, 1.0) != 1.0) {
      refuse(scaling, reading, other, "is not implemented");
    }
  }
  if (!scaling.read_bool("truncate", true)) {
    refuse(scaling, reading, "truncate", "false is not implemented");
  }
}

void read_selection(FieldReader& fields, Reading& reading, const ArchitectureRow& row,
                    MoeConfig& moe) {
  const std::string scoring = fields.read_string("scoring_func", "");
  moe.scoring = row.scoring;
  if (scoring == "softmax") {
    moe.scoring = GateScoring::kSoftmax;
  } else if (scoring == "sigmoid") {
    moe.scoring = GateScoring::kSigmoid;
  } else if (!scoring.empty()) {
    refuse(fields, reading, "scoring_func",
           fmt::format("must be softmax or sigmoid, got \"{}\"", scoring));
  }

  const std::string method = fields.read_string("topk_method", row.topk_method);
  const auto known =
      std::find_if(row.selections.begin(), row.selections.end(),
                   [&](const SelectionMethod& s) { return s.topk_method == method; });
  if (known == row.selections.end()) {
    refuse(fields, reading, "topk_method",
           fmt::format("must be one of {} for {}, got \"{}\"",
                       names_of(row.selections, &SelectionMethod::topk_method), row.name, method));
    return;
  }
  moe.selection = known->selection;
  moe.correction_bias = known->correction_bias;
}

// The group rule: experts fall into equal groups, the chosen ones come from the best groups.
void check_groups(FieldReader& fields, MoeConfig& moe) {
  if (moe.selection == ExpertSelection::kGreedy) {
    moe.num_groups = 1;
    moe.groups_per_token = 1;
  }
  if (moe.num_experts % moe.num_groups != 0) {
    fields.fault("n_group", fmt::format("must divide n_routed_experts ({}), got {}",
                                        moe.num_experts, moe.num_groups));
    return;
  }
  const int group_size = moe.num_experts / moe.num_groups;
  if (moe.selection == ExpertSelection::kGroupLimitedTop2 && group_size < 2) {
    fields.fault("n_group", fmt::format("must leave two experts a group, got {} groups of {}",
                                        moe.num_groups, group_size));
  }
  if (moe.groups_per_token > moe.num_groups) {
    fields.fault("topk_group", fmt::format("must be at most n_group ({}), got {}", moe.num_groups,
                                           moe.groups_per_token));
  } else if (moe.experts_per_token > moe.groups_per_token * group_size) {
    fields.fault("num_experts_per_tok",
                 fmt::format("must be at most topk_group * n_routed_experts / n_group ({}), got {}",
                             moe.groups_per_token * group_size, moe.experts_per_token));
  }
}

void read_moe(FieldReader& fields, Reading& reading, const ArchitectureRow& row,
              ModelConfig& config) {
  MoeConfig& moe = config.moe;
  if (row.selections.empty()) return;
  moe.num_experts = fields.read_int("n_routed_experts", {0, kExperts.high}, 0);
  moe.first_dense_layers = fields.read_int("first_k_dense_replace", {0, kLayers.high}, 0);
  moe.layer_frequency = fields.read_int("moe_layer_freq", kLayers, 1);
  if (moe.num_experts > 0) {
    moe.num_shared_experts = fields.read_int("n_shared_experts", {0, 256}, 0);
    moe.experts_per_token = fields.require_int("num_experts_per_tok", kExperts);
    moe.intermediate_size = fields.require_int("moe_intermediate_size", kWidth);
    moe.num_groups = fields.read_int("n_group", kExperts, 1);
    moe.groups_per_token = fields.read_int("topk_group", kExperts, 1);
    moe.normalize_weights = fields.read_bool("norm_topk_prob", row.normalize_weights);
    moe.weight_scale = static_cast<float>(
        fields.read_real("routed_scaling_factor", {1e-6, 1e6}, row.weight_scale));
    read_selection(fields, reading, row, moe);
    check_groups(fields, moe);
    // The reference normalises only what there are several of.
    if (moe.experts_per_token == 1) moe.normalize_weights = false;
    if (moe.normalize_weights && !row.scales_normalized_weights) moe.weight_scale = 1.0F;
  }
}

void read_dense(FieldReader& fields, ModelConfig& config) {
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (config.is_moe_layer(layer)) continue;
    config.intermediate_size = fields.require_int("intermediate_size", kWidth);
    break;
  }
}

void read_tokens(FieldReader& fields, ModelConfig& config) {
  const IntRange ids{0, config.vocab_size - 1};
  config.bos_token_id = fields.read_int("bos_token_id", ids, -1);
  config.eos_token_ids = fields.read_token_ids("eos_token_id", ids);
}

Result<const ArchitectureRow*> read_architecture(const Json& document) {
  const auto field = document.find("architectures");
  if (field == document.end() || !field->is_array() || field->empty() ||
      !field->front().is_string()) {
    return invalid_argument("architectures", "must be a list that names the architecture");
  }
  const auto name = field->front().get<std::string>();
  const ArchitectureRow* row = find_architecture(name);
  if (row == nullptr) {
    return Status(StatusCode::kUnimplemented,
                  fmt::format("\"{}\" is not supported; supported are {}", name,
                              fmt::join(supported_architectures(), ", ")))
        .with_field("architectures");
  }
  return row;
}

}  // namespace

Result<ModelConfig> parse_model_config(std::string_view json) {
  LATENTD_ASSIGN_OR_RETURN(const Json document, parse_json(json));
  if (!document.is_object()) {
    return Status(StatusCode::kInvalidArgument, "a model config must be a JSON object");
  }
  LATENTD_ASSIGN_OR_RETURN(const ArchitectureRow* row, read_architecture(document));

  ModelConfig config;
  Reading reading;
  FieldReader fields(document, reading.faults);
  config.architecture = row->name;
  config.model_type = fields.read_string("model_type", "");
  config.latent_norm_eps = row->latent_norm_eps;
  read_shapes(fields, reading, *row, config);
  read_dtype(fields, reading, config);
  read_rope(fields, reading, *row, config);
  read_moe(fields, reading, *row, config);
  read_dense(fields, config);
  read_tokens(fields, config);
  if (!reading.faults.empty()) {
    return Status(reading.unimplemented ? StatusCode::kUnimplemented : StatusCode::kInvalidArgument,
                  reading.faults.to_string());
  }
  config.softmax_scale = static_cast<float>(rope_softmax_factor(config.rope) /
                                            std::sqrt(static_cast<double>(config.qk_head_dim())));
  return config;
}

Result<ModelConfig> load_model_config(const std::filesystem::path& directory) {
  const auto path = directory / "config.json";
  LATENTD_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, JsonLimits{}.max_bytes));
  auto config = parse_model_config(text);
  if (config.ok()) return config;
  const Status& status = config.status();
  return Status(status.code(), path.string() + ": " + status.message()).with_field(status.field());
}

std::string_view attention_name(const ModelConfig& config) {
  if (config.attention == AttentionKind::kLatent) return "MLA";
  if (config.num_kv_heads == config.num_heads) return "MHA";
  return config.num_kv_heads == 1 ? "MQA" : "GQA";
}

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (const ArchitectureRow& row : architecture_table()) names.emplace_back(row.name);
  return names;
}

}  // namespace latentd
