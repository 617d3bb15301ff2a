// ModelConfig: what a checkpoint's config.json says, as plain data. A model variant is a row of
// data, not a class.
//
// Field names follow the published config.json where it has one (given in the comments). The
// forward pass reads nothing else; whatever a config leaves out is filled from the architecture's
// row in arch_table.
//
// Contract: an immutable value after load_model_config; safe from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/result.h"

namespace latentd {

// What is cached of a token: one latent for all heads (MLA, arXiv:2405.04434), or the keys and
// values of num_kv_heads heads, each shared by a group of query heads (arXiv:2305.13245; MHA and
// MQA are its two ends).
enum class AttentionKind : std::uint8_t { kLatent, kGrouped };

enum class RopeKind : std::uint8_t { kPlain, kLinear, kLlama3, kYarn };

struct RopeConfig {
  RopeKind kind = RopeKind::kPlain;
  double theta = 10000.0;   // rope_theta
  bool interleaved = true;  // pairs (2i, 2i+1); otherwise (i, i + dim/2)
  // rope_scaling
  double factor = 1.0;
  int original_max_position = 0;  // original_max_position_embeddings: yarn, llama3
  // llama3: pairs that turn more often than high_freq_factor times over the original context are
  // kept, those that turn less often than low_freq_factor times are stretched
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // yarn (arXiv:2309.00071)
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 1.0;  // cos and sin are multiplied by m(mscale) / m(mscale_all_dim)
  double mscale_all_dim =
      0.0;  // the softmax scale by m(mscale_all_dim)^2; m(s) = 0.1 s ln(factor) + 1
};

enum class GateScoring : std::uint8_t { kSoftmax, kSigmoid };  // scoring_func

// topk_method. A group's score: its best expert (V2) or the sum of its two best biased scores (V3).
enum class ExpertSelection : std::uint8_t { kGreedy, kGroupLimitedMax, kGroupLimitedTop2 };

struct MoeConfig {
  int num_experts = 0;  // n_routed_experts; 0 = every layer is dense
  int num_shared_experts =
      0;                      // n_shared_experts: one MLP of num_shared_experts * intermediate_size
  int experts_per_token = 0;  // num_experts_per_tok
  int intermediate_size = 0;  // moe_intermediate_size
  int first_dense_layers = 0;  // first_k_dense_replace
  int layer_frequency = 1;     // moe_layer_freq
  int num_groups = 1;          // n_group
  int groups_per_token = 1;    // topk_group
  GateScoring scoring = GateScoring::kSoftmax;
  ExpertSelection selection = ExpertSelection::kGreedy;
  bool correction_bias = false;    // e_score_correction_bias takes part in the selection only
  bool normalize_weights = false;  // norm_topk_prob
  float weight_scale = 1.0F;       // routed_scaling_factor
};

struct ModelConfig {
  std::string architecture;  // architectures[0]
  std::string model_type;

  int num_layers = 0;  // num_hidden_layers
  int hidden_size = 0;
  int num_heads = 0;  // num_attention_heads
  AttentionKind attention = AttentionKind::kLatent;
  int num_kv_heads = 0;  // num_key_value_heads; latent attention: num_heads
  int q_lora_rank = 0;   // 0 when null: queries come straight from the hidden state
  int kv_lora_rank = 0;  // 0 in grouped attention
  // Grouped attention rotates whole heads: 0, head_dim and head_dim.
  int qk_nope_head_dim = 0;
  int qk_rope_head_dim = 0;
  int v_head_dim = 0;
  int intermediate_size = 0;  // of dense layers
  int vocab_size = 0;         // the width of the logits
  int max_position_embeddings = 0;
  float rms_norm_eps = 1e-6F;
  float latent_norm_eps = 1e-6F;  // of q_a_layernorm and kv_a_layernorm: fixed by the architecture
  bool tie_word_embeddings = false;
  DType dtype = DType::kBF16;  // torch_dtype / dtype

  RopeConfig rope;
  MoeConfig moe;
  float softmax_scale = 0.0F;  // (nope + rope)^-1/2, times yarn's mscale squared

  TokenId bos_token_id = -1;
  std::vector<TokenId> eos_token_ids;

  int qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  // Elements that latent attention caches a token and layer.
  int latent_dim() const { return kv_lora_rank + qk_rope_head_dim; }
  bool is_moe_layer(int layer) const {
    return moe.num_experts > 0 && layer >= moe.first_dense_layers &&
           layer % moe.layer_frequency == 0;
  }
};

// Reads and checks `directory`/config.json. Errors name the file, every field at fault and its
// limit, all in one report: kNotFound, kInvalidArgument (malformed or inconsistent), kUnimplemented
// (an architecture or a feature, such as a quantization, that we do not run).
Result<ModelConfig> load_model_config(const std::filesystem::path& directory);

// The same from the text of a config.json.
Result<ModelConfig> parse_model_config(std::string_view json);

// "MLA", "MHA", "GQA" or "MQA".
std::string_view attention_name(const ModelConfig& config);

// The architectures that parse_model_config accepts, for error messages and documentation.
std::vector<std::string> supported_architectures();

}  // namespace latentd
