#include "engine/runner_memory.h"

#include <algorithm>

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

Status allocate_scratch(Allocator& allocator, const Backend& backend, const ModelConfig& config,
                        std::size_t max_tokens, RunnerMemory& memory) {
  const std::size_t activation = dtype_size(backend.activation_dtype());
  const auto heads = static_cast<std::size_t>(config.num_heads);
  const auto add = [&](auto*& pointer, std::size_t elements_per_token, std::size_t element_bytes) {
    std::unique_ptr<Buffer> buffer;
    LATENTD_RETURN_IF_ERROR(
        allocator.device(buffer, max_tokens * elements_per_token * element_bytes, "activations"));
    pointer = static_cast<std::remove_reference_t<decltype(pointer)>>(buffer->data());
    memory.scratch_buffers.push_back(std::move(buffer));
    return ok_status();
  };
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  AttentionScratch& attention = memory.scratch.attention;
  FfnScratch& ffn = memory.scratch.ffn;
  LATENTD_RETURN_IF_ERROR(add(memory.scratch.hidden, hidden, activation));
  LATENTD_RETURN_IF_ERROR(add(attention.normed, hidden, activation));
  ffn.normed = attention.normed;  // the two blocks never run at once
  LATENTD_RETURN_IF_ERROR(
      add(attention.q_a, static_cast<std::size_t>(config.q_lora_rank), activation));
  LATENTD_RETURN_IF_ERROR(
      add(attention.q, heads * static_cast<std::size_t>(config.qk_head_dim()), activation));
  LATENTD_RETURN_IF_ERROR(
      add(attention.kv_a, static_cast<std::size_t>(config.latent_dim()), activation));
  LATENTD_RETURN_IF_ERROR(
      add(attention.absorbed, heads * static_cast<std::size_t>(config.latent_dim()), activation));
  LATENTD_RETURN_IF_ERROR(
      add(attention.latent, heads * static_cast<std::size_t>(config.kv_lora_rank), activation));
  LATENTD_RETURN_IF_ERROR(
      add(attention.heads, heads * static_cast<std::size_t>(config.v_head_dim), activation));
  LATENTD_RETURN_IF_ERROR(add(ffn.gate_up, gate_up_elements_per_token(config), activation));
  const auto chosen = static_cast<std::size_t>(config.moe.experts_per_token);
  LATENTD_RETURN_IF_ERROR(
      add(ffn.router_logits, static_cast<std::size_t>(config.moe.num_experts), sizeof(float)));
  LATENTD_RETURN_IF_ERROR(add(ffn.expert_ids, chosen, sizeof(std::int32_t)));
  return add(ffn.expert_weights, chosen, sizeof(float));
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
  LATENTD_RETURN_IF_ERROR(allocate_scratch(allocator, backend, config, tokens, memory));

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
                       static_cast<std::size_t>(num_pages) * layout.page_bytes(), "latent cache"));
  return ok_status();
}

std::size_t RunnerMemory::workspace_bytes() const {
  std::size_t bytes = 0;
  for (const MemoryUse& use : workspace) bytes += use.bytes;
  return bytes;
}

}  // namespace latentd
