#include "engine/runner_memory.h"

#include <algorithm>

#include "engine/backend/geometry.h"
#include "engine/model/rope_tables.h"
#include "engine/model_runner.h"

namespace latentd {
namespace {

// Allocates device buffers and adds up their sizes by purpose.
class Allocator {
 public:
  Allocator(Backend& backend, std::vector<MemoryUse>& uses) : backend_(backend), uses_(uses) {}

  Status device(std::unique_ptr<Buffer>& buffer, std::size_t bytes, std::string_view purpose) {
    LATENTD_ASSIGN_OR_RETURN(
        buffer, backend_.allocate(MemoryKind::kDevice, std::max<std::size_t>(bytes, 1), purpose));
    count(bytes, purpose);
    return ok_status();
  }
  void count(std::size_t bytes, std::string_view purpose) {
    if (uses_.empty() || uses_.back().purpose != purpose) {
      uses_.push_back({std::string(purpose), 0});
    }
    uses_.back().bytes += bytes;
  }

 private:
  Backend& backend_;
  std::vector<MemoryUse>& uses_;
};

// Allocates scratch of `elements` a token for the most tokens of a step.
class ScratchAllocator {
 public:
  ScratchAllocator(Allocator& allocator, const Backend& backend, std::size_t max_tokens,
                   RunnerMemory& memory)
      : allocator_(allocator),
        activation_(dtype_size(backend.activation_dtype())),
        max_tokens_(max_tokens),
        memory_(memory) {}

  // Of the backend's activation dtype.
  Status activations(void*& pointer, std::int64_t elements) {
    return take(pointer, static_cast<std::size_t>(elements) * activation_);
  }
  template <typename T>
  Status array(T*& pointer, std::int64_t elements) {
    return take(pointer, static_cast<std::size_t>(elements) * sizeof(T));
  }

 private:
  template <typename T>
  Status take(T*& pointer, std::size_t bytes_per_token) {
    std::unique_ptr<Buffer> buffer;
    LATENTD_RETURN_IF_ERROR(
        allocator_.device(buffer, max_tokens_ * bytes_per_token, "activations"));
    pointer = static_cast<T*>(buffer->data());
    memory_.scratch_buffers.push_back(std::move(buffer));
    return ok_status();
  }

  Allocator& allocator_;
  const std::size_t activation_;
  const std::size_t max_tokens_;
  RunnerMemory& memory_;
};

Status allocate_mla_scratch(ScratchAllocator& allocator, const ModelConfig& c, MlaScratch& mla) {
  const std::int64_t heads = c.num_heads;
  LATENTD_RETURN_IF_ERROR(allocator.activations(mla.normed, c.hidden_size));
  LATENTD_RETURN_IF_ERROR(allocator.activations(mla.q_a, c.q_lora_rank));
  LATENTD_RETURN_IF_ERROR(allocator.activations(mla.q, heads * c.qk_head_dim()));
  LATENTD_RETURN_IF_ERROR(allocator.activations(mla.kv_a, c.latent_dim()));
  LATENTD_RETURN_IF_ERROR(allocator.activations(mla.absorbed, heads * c.latent_dim()));
  LATENTD_RETURN_IF_ERROR(allocator.activations(mla.latent, heads * c.kv_lora_rank));
  return allocator.activations(mla.heads, heads * c.v_head_dim);
}

Status allocate_gqa_scratch(ScratchAllocator& allocator, const ModelConfig& c, GqaScratch& gqa) {
  const std::int64_t heads = c.num_heads;
  const std::int64_t kv_heads = c.num_kv_heads;
  LATENTD_RETURN_IF_ERROR(allocator.activations(gqa.normed, c.hidden_size));
  LATENTD_RETURN_IF_ERROR(allocator.activations(gqa.q, heads * c.qk_head_dim()));
  LATENTD_RETURN_IF_ERROR(allocator.activations(gqa.k, kv_heads * c.qk_head_dim()));
  LATENTD_RETURN_IF_ERROR(allocator.activations(gqa.v, kv_heads * c.v_head_dim));
  return allocator.activations(gqa.heads, heads * c.v_head_dim);
}

Status allocate_scratch(ScratchAllocator allocator, const ModelConfig& config,
                        ForwardScratch& scratch) {
  LATENTD_RETURN_IF_ERROR(allocator.activations(scratch.hidden, config.hidden_size));
  FfnScratch& ffn = scratch.ffn;
  // The two blocks of a layer never run at once.
  if (config.attention == AttentionKind::kLatent) {
    LATENTD_RETURN_IF_ERROR(allocate_mla_scratch(allocator, config, scratch.mla));
    ffn.normed = scratch.mla.normed;
  } else {
    LATENTD_RETURN_IF_ERROR(allocate_gqa_scratch(allocator, config, scratch.gqa));
    ffn.normed = scratch.gqa.normed;
  }
  LATENTD_RETURN_IF_ERROR(allocator.activations(
      ffn.gate_up, static_cast<std::int64_t>(gate_up_elements_per_token(config))));
  LATENTD_RETURN_IF_ERROR(allocator.array(ffn.router_logits, config.moe.num_experts));
  LATENTD_RETURN_IF_ERROR(allocator.array(ffn.expert_ids, config.moe.experts_per_token));
  return allocator.array(ffn.expert_weights, config.moe.experts_per_token);
}

Status upload_rope_tables(Backend& backend, Allocator& allocator, const ModelConfig& config,
                          int max_positions, RunnerMemory& memory) {
  const RopeTables tables = make_rope_tables(config.rope, config.qk_rope_head_dim, max_positions);
  const std::size_t bytes = tables.cos.size() * sizeof(float);
  LATENTD_RETURN_IF_ERROR(allocator.device(memory.rope_cos, bytes, "rope tables"));
  LATENTD_RETURN_IF_ERROR(allocator.device(memory.rope_sin, bytes, "rope tables"));
  backend.copy_in(memory.rope_cos->data(), tables.cos.data(), bytes);
  backend.copy_in(memory.rope_sin->data(), tables.sin.data(), bytes);
  return backend.wait(backend.record());
}

Status reserve(Backend& backend, const ModelConfig& config, const ModelWeights& weights,
               const CacheLayout& layout, const RunnerOptions& options) {
  ReserveParams params;
  params.config = &config;
  params.weights = &weights;
  params.geometry = mla_geometry(config);
  params.max_tokens = options.max_num_batched_tokens;
  params.max_rows = options.max_num_seqs;
  params.max_logit_rows = ModelRunner::kLogitsSlice;
  params.max_positions = options.max_model_len;
  params.page_tokens = layout.page_tokens();
  params.cache_dtype = layout.dtype();
  params.shares_prefixes = options.shares_prefixes;
  params.expands = options.expansion.any();
  return backend.reserve(params);
}

std::size_t free_bytes(const Backend& backend) {
  const auto memory = backend.memory();
  return memory.has_value() ? memory->free : 0;
}

}  // namespace

Result<RunnerMemory> RunnerMemory::create(Backend& backend, const ModelConfig& config,
                                          ModelWeights weights, const CacheLayout& layout,
                                          const RunnerOptions& options) {
  RunnerMemory memory;
  Allocator allocator(backend, memory.workspace);
  memory.weights = std::make_unique<const ModelWeights>(std::move(weights));
  // Operations allocate through the backend alone: what is gone afterwards is theirs.
  const std::size_t before = free_bytes(backend);
  LATENTD_RETURN_IF_ERROR(reserve(backend, config, *memory.weights, layout, options));
  allocator.count(before - std::min(free_bytes(backend), before), "scratch of operations");

  const auto slots = static_cast<std::size_t>(options.max_num_seqs);
  const auto tokens = static_cast<std::size_t>(options.max_num_batched_tokens);
  const auto vocab = static_cast<std::size_t>(config.vocab_size);
  const auto max_pages = static_cast<std::size_t>(layout.pages_for_tokens(options.max_model_len));
  const std::size_t slice = ModelRunner::kLogitsSlice;

  LATENTD_RETURN_IF_ERROR(
      allocator.device(memory.page_table, slots * max_pages * sizeof(std::int32_t), "slots"));
  LATENTD_RETURN_IF_ERROR(allocator.device(memory.last_tokens, slots * sizeof(TokenId), "slots"));
  LATENTD_RETURN_IF_ERROR(
      allocator.device(memory.token_counts, slots * vocab * sizeof(std::uint16_t), "slots"));
  LATENTD_ASSIGN_OR_RETURN(
      memory.count_staging,
      backend.allocate(MemoryKind::kStaging, kCountRows * vocab * sizeof(std::uint16_t),
                       "token counts of new sequences"));
  LATENTD_RETURN_IF_ERROR(
      upload_rope_tables(backend, allocator, config, options.max_model_len, memory));
  LATENTD_RETURN_IF_ERROR(allocator.device(
      memory.gathered,
      slice * static_cast<std::size_t>(config.hidden_size) * dtype_size(backend.activation_dtype()),
      "logits"));
  LATENTD_RETURN_IF_ERROR(allocator.device(memory.logits, slice * vocab * sizeof(float), "logits"));
  LATENTD_RETURN_IF_ERROR(
      allocate_scratch({allocator, backend, tokens, memory}, config, memory.scratch));

  StepLimits limits;
  limits.max_tokens = tokens;
  limits.max_seqs = slots;
  limits.max_page_updates = slots * max_pages;
  limits.mask_words = (vocab + 31) / 32;
  limits.max_edits = slots * ModelRunner::kMaxLogitEdits;
  for (StepBuffers& buffers : memory.ring) {
    LATENTD_ASSIGN_OR_RETURN(buffers, StepBuffers::create(backend, limits));
    allocator.count(buffers.device_bytes(), "inputs and outcomes of steps");
  }
  return memory;
}

Status RunnerMemory::allocate_cache(Backend& backend, const CacheLayout& layout, int num_pages) {
  LATENTD_ASSIGN_OR_RETURN(
      cache_pool,
      backend.allocate(MemoryKind::kDevice,
                       static_cast<std::size_t>(num_pages) * layout.page_bytes(), "cache"));
  return ok_status();
}

std::size_t RunnerMemory::workspace_bytes() const {
  std::size_t bytes = 0;
  for (const MemoryUse& use : workspace) bytes += use.bytes;
  return bytes;
}

}  // namespace latentd
