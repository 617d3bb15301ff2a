#include "engine/backend/cuda/experts.h"

#include <algorithm>

#include "base/check.h"
#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/launch.h"
#include "engine/model/model_config.h"

namespace latentd::cuda {
namespace {

std::size_t elements(std::int64_t a, std::int64_t b) { return static_cast<std::size_t>(a * b); }

const void* advance(const void* data, std::int64_t elements, DType dtype) {
  return static_cast<const char*>(data) + static_cast<std::size_t>(elements) * dtype_size(dtype);
}

void* advance(void* data, std::int64_t elements, DType dtype) {
  return static_cast<char*>(data) + static_cast<std::size_t>(elements) * dtype_size(dtype);
}

bool streams(const MlpWeights& mlp) {
  const auto good = [](const TensorView& w) {
    return w.dtype == DType::kBF16 && in_pieces(w.data, w.dim(1) * 2);
  };
  return good(mlp.gate) && good(mlp.up) && good(mlp.down);
}

}  // namespace

Experts::Experts(CudaContext& context, DType activation)
    : context_(context),
      activation_(activation),
      tables_(context),
      given_(context),
      shared_(context),
      order_(context),
      arrived_(context) {}

void Experts::reserve(const ReserveParams& p) {
  const MoeConfig& moe = p.config->moe;
  if (moe.num_experts == 0) return;
  ExpertStep step;
  step.num_tokens = std::min(p.max_tokens, kMostExpertTokens);
  step.num_entries = step.num_tokens * moe.experts_per_token;
  step.num_experts = moe.num_experts;
  step.shared_experts = moe.num_shared_experts;
  step.hidden_size = p.config->hidden_size;
  step.part_tokens = 1;
  step.tensor_cores = true;
  bool shared_apart = false;
  for (const LayerWeights& layer : p.weights->layers) {
    if (layer.moe.experts.empty()) continue;
    if (tables_.table(layer.moe).experts == nullptr) return;
    const bool tensor_cores = on_tensor_cores(layer.moe);
    const bool joins = tensor_cores && shared_experts_of(layer.moe) > 0;
    step.tensor_cores = step.tensor_cores && tensor_cores;
    shared_apart = shared_apart || (layer.moe.shared.gate.is_set() && !joins);
  }
  if (!take_scratch(step) || arrived_.take<std::int32_t>(1) == nullptr) return;
  if (shared_apart) shared_.take<float>(elements(step.num_tokens, step.hidden_size));
}

bool Experts::take_scratch(ExpertStep& step) {
  constexpr std::size_t kPartInts = sizeof(ExpertPart) / sizeof(std::int32_t);
  const ExpertScratch sizes = expert_scratch(step.num_tokens, step.num_entries, step.num_experts,
                                             step.shared_experts, step.part_tokens);
  step.given = given_.take_bytes(elements(sizes.given_rows, step.hidden_size) *
                                 (step.tensor_cores ? sizeof(BFloat16) : sizeof(float)));
  const auto parts = static_cast<std::size_t>(sizes.parts);
  auto* order = order_.take<std::int32_t>((1 + parts) * kPartInts + elements(step.num_entries, 1));
  if (step.given == nullptr || order == nullptr) return false;
  step.most_parts = sizes.parts;
  step.num_parts = order;
  step.parts = reinterpret_cast<ExpertPart*>(order + kPartInts);
  step.order = order + (1 + parts) * kPartInts;
  return true;
}

bool Experts::on_tensor_cores(const MoeWeights& weights) const {
  if (activation_ != DType::kBF16 || !context_.has_tensor_cores()) return false;
  const bool shared_joins = shared_experts_of(weights) == 0 || streams(weights.shared);
  return shared_joins && std::all_of(weights.experts.begin(), weights.experts.end(), streams);
}

void Experts::run(const ExpertsParams& p, const SharedMlp& shared_mlp) {
  for (std::int32_t first = 0; first < p.num_tokens; first += kMostExpertTokens) {
    run_chunk(p, first, std::min(kMostExpertTokens, p.num_tokens - first), shared_mlp);
  }
}

ExpertStep Experts::describe(const ExpertsParams& p, const ExpertTable& table,
                             std::int32_t first_token, std::int32_t num_tokens) const {
  const MoeWeights& weights = *p.weights;
  const TensorView& gate = weights.experts[0].gate;
  LATENTD_CHECK(gate.dtype == DType::kF32 || gate.dtype == DType::kBF16,
                "experts: fp32 or bf16 expected, got {}", gate.to_string());
  ExpertStep step;
  step.tensor_cores = on_tensor_cores(weights);
  step.early =
      step.tensor_cores && context_.has_warp_group_products() && launches_early(num_tokens);
  step.activation = activation_;
  step.weights = gate.dtype;
  step.num_tokens = num_tokens;
  step.num_entries = num_tokens * p.experts_per_token;
  step.num_experts = p.num_experts;
  step.shared_experts = step.tensor_cores ? shared_experts_of(weights) : 0;
  step.experts_per_token = p.experts_per_token;
  step.hidden_size = p.hidden_size;
  step.inner = static_cast<std::int32_t>(gate.dim(0));
  step.experts = table.experts;
  step.part_tokens = step.tensor_cores ? expert_tile(num_tokens, p.experts_per_token, p.num_experts,
                                                     table.has_maps)
                                       : kGenericPart;
  const std::int64_t first_hidden = std::int64_t{first_token} * p.hidden_size;
  step.x = advance(p.x, first_hidden, activation_);
  step.hidden = advance(p.hidden, first_hidden, activation_);
  step.expert_ids = p.expert_ids + std::int64_t{first_token} * p.experts_per_token;
  step.expert_weights = p.expert_weights + std::int64_t{first_token} * p.experts_per_token;
  // Tokens of other chunks are done or not begun: each chunk has all of the scratch.
  step.act = p.gate_up;
  return step;
}

void Experts::run_chunk(const ExpertsParams& p, std::int32_t first_token, std::int32_t num_tokens,
                        const SharedMlp& shared_mlp) {
  const MlpWeights& shared_weights = p.weights->shared;
  const ExpertTable table = tables_.table(*p.weights);
  if (table.experts == nullptr) return;
  ExpertStep step = describe(p, table, first_token, num_tokens);
  if (!take_scratch(step)) return;
  if (shared_weights.gate.is_set() && step.shared_experts == 0) {
    auto* shared = shared_.take<float>(elements(num_tokens, p.hidden_size));
    if (shared == nullptr) return;
    void* behind = advance(p.gate_up, std::int64_t{step.num_entries} * step.inner, activation_);
    shared_mlp(shared_weights, step.x, behind, shared, num_tokens);
    step.shared = shared;
  }
  if (!context_.ok()) return;
  context_.check(step.tensor_cores ? launch_experts_on_tensor_cores(context_.stream(), step)
                                   : launch_experts(context_.stream(), step),
                 "experts");
}

bool Experts::run_block(const FfnBlockParams& p) {
  const LayerWeights& w = *p.weights;
  const RoutingParams& r = p.routing;
  const bool shared_joins = !w.moe.shared.gate.is_set() || shared_experts_of(w.moe) > 0;
  if (!context_.has_warp_group_products() || !on_tensor_cores(w.moe) || !shared_joins ||
      !fits_gate(p.num_tokens, p.hidden_size, r.num_experts) ||
      w.post_attention_norm.dtype != DType::kBF16 || w.moe.router.dtype != DType::kBF16) {
    return false;
  }
  const FfnScratch& s = p.scratch;
  const ExpertTable table = tables_.table(w.moe);
  if (table.experts == nullptr) return true;
  GateStep gate;
  gate.experts = describe({s.normed, &w.moe, s.expert_ids, s.expert_weights, p.hidden, s.gate_up,
                           p.num_tokens, p.hidden_size, r.num_experts, r.experts_per_token},
                          table, 0, p.num_tokens);
  if (!take_scratch(gate.experts)) return true;
  auto* arrived = arrived_.take<std::int32_t>(1);
  if (arrived == nullptr) return true;
  gate.hidden = p.hidden;
  gate.norm = w.post_attention_norm.data;
  gate.router = w.moe.router.data;
  gate.correction_bias = static_cast<const float*>(w.moe.correction_bias.data);
  gate.normed = s.normed;
  gate.expert_ids = s.expert_ids;
  gate.expert_weights = s.expert_weights;
  gate.arrived = arrived;
  gate.routing = r;
  gate.norm_eps = p.norm_eps;
  if (!context_.check(launch_gate(context_.stream(), gate), "gate of experts")) return true;
  gate.experts.sorted = true;
  context_.check(launch_experts_on_tensor_cores(context_.stream(), gate.experts), "experts");
  return true;
}

}  // namespace latentd::cuda
