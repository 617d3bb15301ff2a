#include "engine/runner_memory.h"

#include <algorithm>

#include "engine/model/rope_tables.h"
#include "engine/model_runner.h"

namespace latentd {
namespace {

// Allocates device buffers and adds up their sizes.
class Allocator {
 public:
  Allocator(Backend& backend, std::size_t& total) : backend_(backend), total_(total) {}

  Status device(std::unique_ptr<Buffer>& buffer, std::size_t bytes, std::string_view purpose) {
    LATENTD_ASSIGN_OR_RETURN(
        buffer, backend_.allocate(MemoryKind::kDevice, std::max<std::size_t>(bytes, 1), purpose));
    total_ += bytes;
    return ok_status();
  }

 private:
  Backend& backend_;
  std::size_t& total_;
};

Status allocate_scratch(Allocator& allocator, const Backend& backend, const ModelConfig& config,
                        std::size_t max_tokens, RunnerMemory& memory) {
  const std::size_t activation = dtype_size(backend.activation_dtype());
  const auto heads = static_cast<std::size_t>(config.num_heads);
  const auto add = [&](auto*& pointer, std::size_t elements_per_token, std::size_t element_bytes,
                       std::string_view purpose) {
    std::unique_ptr<Buffer> buffer;
    LATENTD_RETURN_IF_ERROR(
        allocator.device(buffer, max_tokens * elements_per_token * element_bytes, purpose));
    pointer = static_cast<std::remove_reference_t<decltype(pointer)>>(buffer->data());
    memory.scratch_buffers.push_back(std::move(buffer));
    return ok_status();
  };
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  AttentionScratch& attention = memory.scratch.attention;
  FfnScratch& ffn = memory.scratch.ffn;
  LATENTD_RETURN_IF_ERROR(add(memory.scratch.hidden, hidden, activation, "hidden states"));
  LATENTD_RETURN_IF_ERROR(add(attention.normed, hidden, activation, "normed hidden states"));
  ffn.normed = attention.normed;  // the two blocks never run at once
  LATENTD_RETURN_IF_ERROR(add(attention.q_a, static_cast<std::size_t>(config.q_lora_rank),
                              activation, "query latents"));
  LATENTD_RETURN_IF_ERROR(add(attention.q, heads * static_cast<std::size_t>(config.qk_head_dim()),
                              activation, "queries"));
  LATENTD_RETURN_IF_ERROR(add(attention.kv_a, static_cast<std::size_t>(config.latent_dim()),
                              activation, "new latents"));
  LATENTD_RETURN_IF_ERROR(add(attention.absorbed,
                              heads * static_cast<std::size_t>(config.latent_dim()), activation,
                              "absorbed queries"));
  LATENTD_RETURN_IF_ERROR(add(attention.latent,
                              heads * static_cast<std::size_t>(config.kv_lora_rank), activation,
                              "attended latents"));
  LATENTD_RETURN_IF_ERROR(add(attention.heads, heads * static_cast<std::size_t>(config.v_head_dim),
                              activation, "attended values"));
  LATENTD_RETURN_IF_ERROR(
      add(ffn.gate_up, gate_up_elements_per_token(config), activation, "gate and up"));
  const auto chosen = static_cast<std::size_t>(config.moe.experts_per_token);
  LATENTD_RETURN_IF_ERROR(add(ffn.router_logits, static_cast<std::size_t>(config.moe.num_experts),
                              sizeof(float), "router logits"));
  LATENTD_RETURN_IF_ERROR(add(ffn.expert_ids, chosen, sizeof(std::int32_t), "expert ids"));
  return add(ffn.expert_weights, chosen, sizeof(float), "expert weights");
}

Status upload_rope_tables(Backend& backend, Allocator& allocator, const ModelConfig& config,
                          int max_positions, RunnerMemory& memory) {
  const RopeTables tables = make_rope_tables(config.rope, config.qk_rope_head_dim, max_positions);
  const std::size_t bytes = tables.cos.size() * sizeof(float);
  LATENTD_RETURN_IF_ERROR(allocator.device(memory.rope_cos, bytes, "rope cosines"));
  LATENTD_RETURN_IF_ERROR(allocator.device(memory.rope_sin, bytes, "rope sines"));
  backend.copy_in(memory.rope_cos->data(), tables.cos.data(), bytes);
  backend.copy_in(memory.rope_sin->data(), tables.sin.data(), bytes);
  return backend.wait(backend.record());
}

}  // namespace

Result<RunnerMemory> RunnerMemory::create(Backend& backend, const ModelConfig& config,
                                          const CacheLayout& layout, const RunnerOptions& options) {
  RunnerMemory memory;
  Allocator allocator(backend, memory.workspace_bytes);
  const auto slots = static_cast<std::size_t>(options.max_num_seqs);
  const auto tokens = static_cast<std::size_t>(options.max_num_batched_tokens);
  const auto vocab = static_cast<std::size_t>(config.vocab_size);
  const auto max_pages = static_cast<std::size_t>(layout.pages_for_tokens(options.max_model_len));
  const std::size_t slice = ModelRunner::kLogitsSlice;

  LATENTD_ASSIGN_OR_RETURN(
      memory.cache_pool,
      backend.allocate(MemoryKind::kDevice,
                       static_cast<std::size_t>(options.num_pages) * layout.page_bytes(),
                       "latent cache"));
  LATENTD_RETURN_IF_ERROR(
      allocator.device(memory.page_table, slots * max_pages * sizeof(std::int32_t), "page tables"));
  LATENTD_RETURN_IF_ERROR(
      allocator.device(memory.last_tokens, slots * sizeof(TokenId), "last tokens"));
  LATENTD_RETURN_IF_ERROR(
      allocator.device(memory.token_counts, slots * vocab * sizeof(std::uint16_t), "token counts"));
  LATENTD_ASSIGN_OR_RETURN(
      memory.count_staging,
      backend.allocate(MemoryKind::kStaging, kCountRows * vocab * sizeof(std::uint16_t),
                       "token counts of new sequences"));
  LATENTD_RETURN_IF_ERROR(
      upload_rope_tables(backend, allocator, config, options.max_model_len, memory));
  LATENTD_RETURN_IF_ERROR(allocator.device(
      memory.gathered,
      slice * static_cast<std::size_t>(config.hidden_size) * dtype_size(backend.activation_dtype()),
      "hidden states of logits"));
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
    memory.workspace_bytes += buffers.device_bytes();
  }
  return memory;
}

}  // namespace latentd
