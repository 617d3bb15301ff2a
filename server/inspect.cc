#include "server/inspect.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <concepts>
#include <nlohmann/json.hpp>

#include "engine/memory_plan.h"
#include "engine/model/weight_binder.h"
#include "kvcache/cache_layout.h"

namespace latentd {
namespace {

// Matrices of one layer's attention and its norms (engine/model/weights.h has the shapes).
std::int64_t grouped_attention_parameters(const ModelConfig& c) {
  const std::int64_t heads = 2 * (std::int64_t{c.num_heads} + c.num_kv_heads);  // q and o; k and v
  return heads * c.qk_head_dim() * c.hidden_size + 2 * std::int64_t{c.hidden_size};
}

std::int64_t latent_attention_parameters(const ModelConfig& c) {
  const std::int64_t hidden = c.hidden_size;
  const std::int64_t heads = c.num_heads;
  const std::int64_t query = heads * c.qk_head_dim();
  const std::int64_t queries =
      c.q_lora_rank > 0 ? c.q_lora_rank * (hidden + 1 + query) : hidden * query;
  const std::int64_t latent = hidden * c.latent_dim() + c.kv_lora_rank;
  const std::int64_t expand =
      std::int64_t{c.kv_lora_rank} * heads * (c.qk_nope_head_dim + c.v_head_dim);
  return queries + latent + expand + heads * c.v_head_dim * hidden + 2 * hidden;
}

std::int64_t attention_parameters(const ModelConfig& c) {
  return c.attention == AttentionKind::kLatent ? latent_attention_parameters(c)
                                               : grouped_attention_parameters(c);
}

std::int64_t mlp_parameters(const ModelConfig& c, std::int64_t intermediate) {
  return 3 * intermediate * c.hidden_size;
}

std::int64_t count(const ModelConfig& c, bool active_only) {
  const std::int64_t table = std::int64_t{c.vocab_size} * c.hidden_size;
  // The embedding is looked up, not multiplied: for one token it is a row of nothing much.
  std::int64_t total = (c.tie_word_embeddings || active_only ? table : 2 * table) + c.hidden_size;
  for (int layer = 0; layer < c.num_layers; ++layer) {
    total += attention_parameters(c);
    if (!c.is_moe_layer(layer)) {
      total += mlp_parameters(c, c.intermediate_size);
      continue;
    }
    const std::int64_t experts = active_only ? c.moe.experts_per_token : c.moe.num_experts;
    total += (experts + c.moe.num_shared_experts) * mlp_parameters(c, c.moe.intermediate_size);
    total += std::int64_t{c.moe.num_experts} * (c.hidden_size + (c.moe.correction_bias ? 1 : 0));
  }
  return total;
}

// 8 as in most published models; fewer than all where a model has few heads.
int grouped_heads(int heads) { return heads > 8 ? 8 : std::max(1, heads / 4); }

CacheCost cost_of(std::string name, int num_kv_heads, const CacheLayout& layout,
                  std::size_t budget) {
  const auto pages = static_cast<std::int64_t>(budget / layout.page_bytes());
  return {std::move(name), num_kv_heads, layout.bytes_per_token(), pages * layout.page_tokens()};
}

void compare_caches(int page_tokens, Inspection& out) {
  const ModelConfig& c = out.config;
  const auto add = [&](std::string_view name, int heads, const CacheLayout& layout) {
    out.caches.push_back(cost_of(std::string(name), heads, layout, out.cache_budget_bytes));
  };
  const bool latent = c.attention == AttentionKind::kLatent;
  add(attention_name(c), latent ? 0 : c.num_kv_heads,
      cache_layout(c, out.kv_cache_dtype, page_tokens));
  const auto kv = [&](const char* name, int heads) {
    if (!latent && heads == c.num_kv_heads) return;  // the model itself
    const auto layout = CacheLayout::kv_heads(c.num_layers, heads, c.qk_head_dim(), c.v_head_dim,
                                              out.kv_cache_dtype, page_tokens);
    add(name, heads, layout);
  };
  kv("MHA", c.num_heads);
  kv("GQA", grouped_heads(c.num_heads));
  kv("MQA", 1);
}

bool has_weights(const std::filesystem::path& directory) {
  std::error_code error;
  return std::filesystem::exists(directory / "model.safetensors", error) ||
         std::filesystem::exists(directory / "model.safetensors.index.json", error);
}

template <std::integral Integer>
std::string with_commas(Integer value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string in_binary_units(std::size_t bytes) {
  constexpr double kKiB = 1024.0;
  double value = static_cast<double>(bytes) / kKiB;
  for (const char* unit : {"KiB", "MiB", "GiB"}) {
    if (value < kKiB) return fmt::format("{:.1f} {}", value, unit);
    value /= kKiB;
  }
  return fmt::format("{:.1f} TiB", value);
}

std::string in_millions(std::int64_t count) {
  const double value = static_cast<double>(count);
  return value >= 1e9 ? fmt::format("{:.3f} G", value * 1e-9)
                      : fmt::format("{:.3f} M", value * 1e-6);
}

std::string describe_attention(const ModelConfig& c) {
  if (c.attention == AttentionKind::kGrouped) {
    return fmt::format("{}, {} head{} of keys and values; heads of {}", attention_name(c),
                       c.num_kv_heads, c.num_kv_heads == 1 ? "" : "s", c.qk_head_dim());
  }
  return fmt::format("MLA, latents {} + rope {}; heads of {} + {}, values {}; queries {}",
                     c.kv_lora_rank, c.qk_rope_head_dim, c.qk_nope_head_dim, c.qk_rope_head_dim,
                     c.v_head_dim,
                     c.q_lora_rank > 0 ? fmt::format("through {}", c.q_lora_rank) : "direct");
}

// How the context was made longer than it was trained with.
std::string describe_stretch(const RopeConfig& rope) {
  switch (rope.kind) {
    case RopeKind::kPlain:
      return "";
    case RopeKind::kLinear:
      return fmt::format(" (linear x{:g})", rope.factor);
    case RopeKind::kLlama3:
      return fmt::format(" (llama3 x{:g} of {})", rope.factor,
                         with_commas(rope.original_max_position));
    case RopeKind::kYarn:
      return fmt::format(" (yarn x{:g} of {})", rope.factor,
                         with_commas(rope.original_max_position));
  }
  return "";
}

std::string describe_model(const Inspection& in) {
  const ModelConfig& c = in.config;
  std::string text = fmt::format("{}\n", in.directory.string());
  const auto line = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("  {:<13}{}\n", name, value);
  };
  line("model", fmt::format("{}: {} layers, hidden {}, {} heads, vocabulary {}", c.architecture,
                            c.num_layers, c.hidden_size, c.num_heads, with_commas(c.vocab_size)));
  line("attention", describe_attention(c));
  if (c.moe.num_experts > 0) {
    line("experts",
         fmt::format("{} routed, {} a token, {} shared; {} dense layers first", c.moe.num_experts,
                     c.moe.experts_per_token, c.moe.num_shared_experts, c.moe.first_dense_layers));
  }
  line("context", with_commas(c.max_position_embeddings) + " tokens" + describe_stretch(c.rope));
  line("parameters", fmt::format("{}, of which a token passes {}", in_millions(in.num_parameters),
                                 in_millions(in.num_active_parameters)));
  line("weights", fmt::format("{} bytes ({}), {}", with_commas(in.weight_bytes),
                              in_binary_units(in.weight_bytes),
                              in.weights_present ? std::string(dtype_name(c.dtype))
                                                 : "computed: no model.safetensors here"));
  if (in.num_unbound_tensors > 0) {
    line("", fmt::format("{} tensors besides that are not used", in.num_unbound_tensors));
  }
  if (!in.tokenizer_present) line("tokenizer", "none: tokenizer.json is missing");
  return text;
}

}  // namespace

std::int64_t count_parameters(const ModelConfig& config) { return count(config, false); }

std::int64_t count_active_parameters(const ModelConfig& config) { return count(config, true); }

Result<Inspection> inspect_checkpoint(const InspectOptions& options) {
  Inspection out;
  out.directory = options.model;
  LATENTD_ASSIGN_OR_RETURN(out.config, load_model_config(options.model));
  out.num_parameters = count_parameters(out.config);
  out.num_active_parameters = count_active_parameters(out.config);
  out.weights_present = has_weights(options.model);
  if (out.weights_present) {
    LATENTD_ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                             Checkpoint::open(options.model, out.config));
    out.weight_bytes = checkpoint.weight_bytes();
    out.num_unbound_tensors = checkpoint.num_unbound_tensors();
  } else {
    out.weight_bytes = static_cast<std::size_t>(out.num_parameters) * dtype_size(out.config.dtype);
  }
  std::error_code error;
  out.tokenizer_present = std::filesystem::exists(options.model / "tokenizer.json", error);
  out.kv_cache_dtype = options.kv_cache_dtype.value_or(out.config.dtype);
  LATENTD_RETURN_IF_ERROR(check_cached_in(out.config, out.kv_cache_dtype));
  out.memory_bytes = options.memory_bytes > 0 ? options.memory_bytes : memory_limit_bytes();
  const auto usable =
      static_cast<std::size_t>(static_cast<double>(out.memory_bytes) * (1.0 - kReservedShare));
  out.cache_budget_bytes = usable > out.weight_bytes ? usable - out.weight_bytes : 0;
  compare_caches(options.page_tokens, out);
  return out;
}

std::string inspection_text(const Inspection& in) {
  const ModelConfig& c = in.config;
  std::string text = describe_model(in);
  text += fmt::format(
      "\nCache of a token, {} layers, {}; what fits into {} after weights and {:.0f} %"
      " for the rest\n",
      c.num_layers, dtype_name(in.kv_cache_dtype), in_binary_units(in.memory_bytes),
      kReservedShare * 100.0);
  text += fmt::format("  {:<18}{:>14}{:>10}{:>18}{:>20}\n", "", "bytes a token",
                      fmt::format("of {}", in.caches.front().name), "tokens fit",
                      "of the full context");
  const CacheCost& own = in.caches.front();
  for (const CacheCost& cache : in.caches) {
    const std::string name = cache.num_kv_heads == 0
                                 ? cache.name
                                 : fmt::format("{}, {} KV head{}", cache.name, cache.num_kv_heads,
                                               cache.num_kv_heads == 1 ? "" : "s");
    text += fmt::format(
        "  {:<18}{:>14}{:>9.2f}x{:>18}{:>20}\n", name, with_commas(cache.bytes_per_token),
        static_cast<double>(cache.bytes_per_token) / static_cast<double>(own.bytes_per_token),
        with_commas(cache.tokens_that_fit),
        with_commas(cache.tokens_that_fit / c.max_position_embeddings));
  }
  if (in.cache_budget_bytes == 0) {
    text += fmt::format("The weights alone do not fit: {} of {}.\n",
                        in_binary_units(in.weight_bytes), in_binary_units(in.memory_bytes));
  } else {
    text += fmt::format("To use it all: latentd serve --model {} --kv-cache-tokens {}\n",
                        in.directory.string(), own.tokens_that_fit);
  }
  return text;
}

std::string inspection_json(const Inspection& in) {
  using Json = nlohmann::ordered_json;
  const ModelConfig& c = in.config;
  Json caches = Json::array();
  for (const CacheCost& cache : in.caches) {
    caches.push_back({{"name", cache.name},
                      {"num_kv_heads", cache.num_kv_heads},
                      {"bytes_per_token", cache.bytes_per_token},
                      {"tokens_that_fit", cache.tokens_that_fit}});
  }
  const Json json = {{"directory", in.directory.string()},
                     {"architecture", c.architecture},
                     {"num_layers", c.num_layers},
                     {"hidden_size", c.hidden_size},
                     {"num_heads", c.num_heads},
                     {"attention", std::string(attention_name(c))},
                     {"num_kv_heads", c.num_kv_heads},
                     {"kv_lora_rank", c.kv_lora_rank},
                     {"qk_rope_head_dim", c.qk_rope_head_dim},
                     {"max_position_embeddings", c.max_position_embeddings},
                     {"num_parameters", in.num_parameters},
                     {"num_active_parameters", in.num_active_parameters},
                     {"weights_present", in.weights_present},
                     {"weight_bytes", in.weight_bytes},
                     {"dtype", std::string(dtype_name(c.dtype))},
                     {"tokenizer_present", in.tokenizer_present},
                     {"kv_cache_dtype", std::string(dtype_name(in.kv_cache_dtype))},
                     {"memory_bytes", in.memory_bytes},
                     {"cache_budget_bytes", in.cache_budget_bytes},
                     {"caches", std::move(caches)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace latentd
