// Parameters of the device's operations: plain structs of pointers, sizes and scalars.
//
// Pointers are memory of the backend that receives them (host memory for the CPU). Activations have
// Backend::activation_dtype() (the CPU: fp32) unless said otherwise; matrices carry their own
// dtype. All arrays are dense and row-major; T = tokens of the step, R = rows of the plan, H =
// heads, D = hidden size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/tensor_view.h"
#include "engine/model/weights.h"

namespace latentd {

struct ModelConfig;

// A tensor that no checkpoint gives: element i is random_element(seed, i, limit)
// (random_element.h), or `constant` when limit is 0.
struct RandomTensor {
  TensorView* view = nullptr;
  std::uint64_t seed = 0;
  float limit = 0.0F;
  float constant = 0.0F;
};

struct MlaGeometry {
  std::int32_t num_heads = 0;
  std::int32_t q_lora_rank = 0;  // 0: none
  std::int32_t kv_lora_rank = 0;
  std::int32_t nope_dim = 0;
  std::int32_t rope_dim = 0;
  std::int32_t v_dim = 0;
  std::int32_t hidden_size = 0;
  float softmax_scale = 0.0F;
  float norm_eps = 0.0F;          // of the norms of the hidden state
  float latent_norm_eps = 1e-6F;  // of q_a_norm and kv_a_norm (ModelConfig::latent_norm_eps)
  bool rope_interleaved = true;

  std::int32_t qk_dim() const { return nope_dim + rope_dim; }
  std::int32_t latent_dim() const { return kv_lora_rank + rope_dim; }
};

// The largest step that operations will meet. Everything outlives the backend's use of it.
struct ReserveParams {
  const ModelConfig* config = nullptr;
  const ModelWeights* weights = nullptr;  // device views
  MlaGeometry geometry;
  std::int32_t max_tokens = 0;
  std::int32_t max_rows = 0;        // of a plan
  std::int32_t max_logit_rows = 0;  // of one sample
  std::int32_t max_positions = 0;   // of a sequence
  std::int32_t page_tokens = 0;
  DType cache_dtype = DType::kF32;
  bool shares_prefixes = false;  // steps may come with BatchView::prefixes
  bool expands = false;          // whether expanded_attention is called
};

// A row of the plan as the device sees it: `count` tokens from `first_token` of the step's token
// arrays, at positions start .. start + count - 1 of the sequence in `slot`. They attend to
// positions 0 .. their own.
struct RowView {
  std::int32_t slot = 0;
  std::int32_t first_token = 0;
  std::int32_t count = 0;
  std::int32_t start = 0;
};

// Rows [first_row, first_row + num_rows), of one token each, that read the same keys [first_key,
// last_key) before any of their own: the page tables of their slots agree there.
struct PrefixView {
  std::int32_t first_row = 0;
  std::int32_t num_rows = 0;  // 0: none
  std::int32_t first_key = 0;
  std::int32_t last_key = 0;  // at most the start of any of the rows
  std::int32_t parent = -1;   // the prefix that ends at first_key and whose rows contain these
};
// Prefixes around one row.
inline constexpr std::int32_t kMaxPrefixDepth = 3;

// One step's inputs. All arrays are device memory, filled before the forward pass begins.
//
// A step that replays a captured graph is padded to its bucket: rows past the plan's have count 0
// and tokens past them have token_slots[t] = -1, id 0 and position 0. Operations leave the cache
// alone for such tokens, compute anything finite for them, and nothing of another token depends on
// them.
struct BatchView {
  std::int32_t num_tokens = 0;                // T
  std::int32_t num_rows = 0;                  // R
  const TokenId* tokens = nullptr;            // [T]
  const std::int32_t* positions = nullptr;    // [T]
  const std::int32_t* token_slots = nullptr;  // [T]
  const RowView* rows = nullptr;              // [R]
  // The same rows in host memory, for work that the host divides; valid while an operation is
  // called, and not kept. May be null; nothing that a captured graph replays may depend on it.
  const RowView* host_rows = nullptr;  // [R]
  // Keys that rows have in common, for operations that read them once for all; others do not look.
  // Null, or both are there. Prefixes come first in their array, then empty ones; row_prefixes[r]
  // is the innermost that holds row r, -1: none.
  const PrefixView* prefixes = nullptr;        // [R]
  const std::int32_t* row_prefixes = nullptr;  // [R]
  const std::int32_t* page_table =
      nullptr;                 // [slots, max_pages]; entries past a sequence's end are undefined
  std::int32_t max_pages = 0;  // row stride of page_table
};

// The cached latents of one layer (planes: kvcache/cache_layout.h). The row of token t of page p
// starts at pool + p * page_stride + layer_offset + t * row bytes; row bytes =
// (kv_lora_rank + rope) * dtype_size(dtype) in fp32 and bf16, kv_lora_rank in fp8, whose scales
// [groups] fp32 and rope values [rope] bf16 lie in the same way behind scales_offset and
// rope_offset. Unused slots hold anything, NaN included.
struct CacheView {
  void* pool = nullptr;
  std::size_t page_stride = 0;    // bytes
  std::size_t layer_offset = 0;   // bytes from the start of a page
  std::size_t scales_offset = 0;  // the same; fp8 only
  std::size_t rope_offset = 0;    // the same; fp8 only
  std::int32_t page_tokens = 0;
  std::int32_t num_pages = 0;
  DType dtype = DType::kF32;
};

// The cached keys and values of one layer. Those of token t of page p start at pool + p *
// page_stride + the plane's offset + t * row bytes, row bytes = kv_dim() * dtype_size(dtype);
// unused slots hold anything, NaN included.
struct KeyValueView {
  void* pool = nullptr;
  std::size_t page_stride = 0;    // bytes
  std::size_t keys_offset = 0;    // bytes
  std::size_t values_offset = 0;  // bytes
  std::int32_t page_tokens = 0;
  std::int32_t num_pages = 0;
  DType dtype = DType::kF32;
};

// Multi-head, grouped-query and multi-query attention: query head h reads the keys and values of
// head h / group_size().
struct GqaGeometry {
  std::int32_t num_heads = 0;     // H
  std::int32_t num_kv_heads = 0;  // G, a divisor of H
  std::int32_t head_dim = 0;      // even
  std::int32_t hidden_size = 0;
  float softmax_scale = 0.0F;
  float norm_eps = 0.0F;
  bool rope_interleaved = false;

  std::int32_t group_size() const { return num_heads / num_kv_heads; }
  std::int32_t kv_dim() const { return num_kv_heads * head_dim; }  // elements of a cached row
};

struct EmbedParams {
  const TokenId* tokens = nullptr;  // [T]
  TensorView table;                 // [vocab, D]
  void* out = nullptr;              // [T, D]
  std::int32_t num_tokens = 0;
};

// out = x / sqrt(mean(x^2) + eps) * weight, computed in fp32.
struct RmsNormParams {
  const void* x = nullptr;  // [rows, dim], rows x_stride elements apart
  TensorView weight;        // [dim]
  void* out = nullptr;      // [rows, dim], rows out_stride elements apart; may be x
  std::int32_t num_rows = 0;
  std::int32_t dim = 0;
  std::int32_t x_stride = 0;
  std::int32_t out_stride = 0;
  float eps = 0.0F;
};

// out = x W^T, or out += x W^T.
struct LinearParams {
  const void* x = nullptr;  // [rows, inputs]
  TensorView weight;        // [outputs, inputs]
  void* out = nullptr;      // [rows, outputs]; fp32 when out_fp32
  std::int32_t num_rows = 0;
  bool accumulate = false;
  bool out_fp32 = false;
};

// Normalises the latents, rotates the decoupled rope parts of queries and keys, and writes latents
// and rotated keys into the cache at each token's position.
struct RopeAppendParams {
  BatchView batch;
  CacheView cache;
  MlaGeometry geometry;
  void* q = nullptr;                // [T, H, nope + rope]: the rope parts are rotated in place
  const void* kv_a = nullptr;       // [T, kv_lora + rope]
  TensorView kv_a_norm;             // [kv_lora]
  const float* rope_cos = nullptr;  // [positions, rope / 2]
  const float* rope_sin = nullptr;  // [positions, rope / 2]
};

// absorbed[t, h] = [W_UK(h)^T q_nope(t, h) | q_rope(t, h)]
struct AbsorbQueryParams {
  MlaGeometry geometry;
  const void* q = nullptr;   // [T, H, nope + rope], rotated
  TensorView kv_b;           // [H, nope + v, kv_lora]
  void* absorbed = nullptr;  // [T, H, kv_lora + rope]
  std::int32_t num_tokens = 0;
};

struct PlanAttentionParams {
  BatchView batch;  // as given to absorbed_attention
  MlaGeometry geometry;
  std::int32_t page_tokens = 0;
  DType cache_dtype = DType::kF32;
};

// Softmax attention of absorbed queries over the cached latents: out[t, h] = sum_j p_j latent_j.
struct AbsorbedAttentionParams {
  BatchView batch;
  CacheView cache;
  MlaGeometry geometry;
  const void* absorbed = nullptr;  // [T, H, kv_lora + rope]
  void* out = nullptr;             // [T, H, kv_lora]
};

// out[t, h] = W_UV(h) latent(t, h)
struct ProjectValueParams {
  MlaGeometry geometry;
  const void* latent = nullptr;  // [T, H, kv_lora]
  TensorView kv_b;               // [H, nope + v, kv_lora]
  void* out = nullptr;           // [T, H, v]
  std::int32_t num_tokens = 0;
};

// Attention with keys and values expanded from the cached latents (k = W_UK c, v = W_UV c), for
// rows of many tokens: 320 multiply-adds a pair and head instead of 1088 at 128 + 64 / 128.
struct ExpandedAttentionParams {
  BatchView batch;
  CacheView cache;
  MlaGeometry geometry;
  const void* q = nullptr;  // [T, H, nope + rope], rotated
  TensorView kv_b;          // [H, nope + v, kv_lora]
  void* out = nullptr;      // [T, H, v]
};

// Rotates queries in place and keys on their way, and writes rotated keys and values into the cache
// at each token's position.
struct AppendKeysValuesParams {
  BatchView batch;
  KeyValueView cache;
  GqaGeometry geometry;
  void* q = nullptr;                // [T, H, head_dim]
  const void* k = nullptr;          // [T, G, head_dim], not rotated
  const void* v = nullptr;          // [T, G, head_dim]
  const float* rope_cos = nullptr;  // [positions, head_dim / 2]
  const float* rope_sin = nullptr;  // [positions, head_dim / 2]
};

// out[t, h] = sum over positions j up to the token's own of softmax(scale q . k_j) v_j
struct GroupedAttentionParams {
  BatchView batch;
  KeyValueView cache;
  GqaGeometry geometry;
  const void* q = nullptr;  // [T, H, head_dim], rotated
  void* out = nullptr;      // [T, H, head_dim]; zero for padding
};

struct RoutingParams {
  std::int32_t num_experts = 0;
  std::int32_t experts_per_token = 0;
  std::int32_t num_groups = 1;
  std::int32_t groups_per_token = 1;
  bool sigmoid = false;           // scores: sigmoid, otherwise softmax over all experts
  bool group_score_top2 = false;  // a group's score: sum of its two best, otherwise its best
  bool normalize = false;
  float weight_scale = 1.0F;
};

// Picks experts_per_token experts a token. Ties go to the lower index; ids come out ascending, so
// that whoever sums over them does it in index order.
struct RouteParams {
  RoutingParams routing;
  const float* logits = nullptr;       // [T, experts] fp32
  TensorView correction_bias;          // [experts] fp32 or unset; selection only
  std::int32_t* expert_ids = nullptr;  // [T, experts_per_token]
  float* expert_weights = nullptr;     // [T, experts_per_token]
  std::int32_t num_tokens = 0;
};

// hidden += sum over the token's experts, in index order, of weight * mlp_e(x), + shared mlp(x)
// when there is one.
struct ExpertsParams {
  const void* x = nullptr;  // [T, D]
  const MoeWeights* weights = nullptr;
  const std::int32_t* expert_ids = nullptr;  // [T, experts_per_token]
  const float* expert_weights = nullptr;     // [T, experts_per_token]
  void* hidden = nullptr;                    // [T, D]
  void* gate_up = nullptr;                   // scratch, FfnScratch::gate_up
  std::int32_t num_tokens = 0;
  std::int32_t hidden_size = 0;
  std::int32_t num_experts = 0;
  std::int32_t experts_per_token = 0;
};

// hidden += down(silu(gate x) * up x)
struct MlpParams {
  const void* x = nullptr;  // [T, D]
  const MlpWeights* weights = nullptr;
  void* hidden = nullptr;   // [T, D]
  void* gate_up = nullptr;  // scratch, FfnScratch::gate_up
  std::int32_t num_tokens = 0;
  std::int32_t hidden_size = 0;
};

struct FfnScratch {
  void* normed = nullptr;          // [T, D]
  void* gate_up = nullptr;         // [T, 2 * widest intermediate size of a token's MLPs together]
  float* router_logits = nullptr;  // [T, experts]
  std::int32_t* expert_ids = nullptr;  // [T, experts_per_token]
  float* expert_weights = nullptr;     // [T, experts_per_token]
};

// hidden += mlp(norm(hidden)), dense or of experts.
struct FfnBlockParams {
  std::int32_t num_tokens = 0;
  std::int32_t hidden_size = 0;
  float norm_eps = 0.0F;
  const LayerWeights* weights = nullptr;
  RoutingParams routing;   // MoE layers
  void* hidden = nullptr;  // [T, D]
  FfnScratch scratch;
};

// Applies the plan's changes to what the device knows of the slots, and completes the step's
// inputs.
struct SlotUpdate {
  std::int32_t slot = 0;
  std::int32_t index = 0;  // of the slot's page table
  std::int32_t page = 0;
};

struct PrepareParams {
  const SlotUpdate* updates = nullptr;  // [num_updates]
  std::int32_t num_updates = 0;
  std::int32_t* page_table = nullptr;  // [slots, max_pages]
  std::int32_t max_pages = 0;
  TokenId* tokens =
      nullptr;  // [T]: entries of -1 are replaced by the last token sampled in the token's slot
  const std::int32_t* token_slots = nullptr;  // [T]
  const TokenId* last_tokens = nullptr;       // [slots]
  std::int32_t num_tokens = 0;
};

// out[i] = hidden[token_indices[i]]
struct GatherParams {
  const void* hidden = nullptr;                 // [T, D]
  const std::int32_t* token_indices = nullptr;  // [num_rows]
  void* out = nullptr;                          // [num_rows, D]
  std::int32_t num_rows = 0;
  std::int32_t hidden_size = 0;
};

// Most alternatives whose logprobs a row may ask for.
inline constexpr std::int32_t kMaxTopLogprobs = 20;

// How one row of logits is turned into a token. Plain data, uploaded each step.
struct SampleRow {
  std::int32_t slot = 0;
  std::int32_t position = 0;  // of the token that is drawn: keys the draw together with `seed`
  TokenId target = -1;        // >= 0: no draw, only the logprob of this token (prompt logprobs)
  std::int32_t num_top =
      -1;                  // -1: no logprobs; else alternatives to report, at most kMaxTopLogprobs
  std::int32_t mask = -1;  // >= 0: index of the row's bit mask of allowed tokens
  std::int32_t first_edit = 0;  // the row's logit edits
  std::int32_t num_edits = 0;
  std::int32_t top_k = 0;
  float temperature = 1.0F;
  float top_p = 1.0F;
  float min_p = 0.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  float repetition_penalty = 1.0F;
  std::uint64_t seed = 0;
};

// logits[token] += bias; -infinity bans the token.
struct LogitEdit {
  TokenId token = 0;
  float bias = 0.0F;
};

struct SampleOutcome {
  TokenId token = -1;    // -1 when the row failed
  float logprob = 0.0F;  // of `token` under softmax(logits as the model gave them)
  // 0: nothing was drawn, because the logits held a NaN or an infinity, or because edits and mask
  // left no token to draw.
  std::int32_t finite = 1;
  std::int32_t num_top = 0;
  TokenId top_tokens[kMaxTopLogprobs] = {};  // most likely first; ties by lower id
  float top_logprobs[kMaxTopLogprobs] = {};
};

// Counts of tokens per slot, for penalties: the low 15 bits count generated tokens, the top bit
// marks prompt tokens.
inline constexpr std::uint16_t kInPrompt = 0x8000;

struct SampleParams {
  const float* logits = nullptr;  // [num_rows, vocab] fp32; may be overwritten
  std::int32_t num_rows = 0;
  std::int32_t vocab_size = 0;
  const SampleRow* rows = nullptr;       // [num_rows]
  const std::uint32_t* masks = nullptr;  // [masks, mask_words]
  std::int32_t mask_words = 0;
  const LogitEdit* edits = nullptr;
  // [slots, vocab]; rows with penalties read it, every draw is counted. The counts of generated
  // tokens stop at their highest value.
  std::uint16_t* token_counts = nullptr;
  TokenId* last_tokens = nullptr;     // [slots]: receives every draw
  SampleOutcome* outcomes = nullptr;  // [num_rows]
};

}  // namespace latentd
