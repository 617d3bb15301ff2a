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

std::int32_t entries_of(const ExpertStep& step) {
  return step.num_entries + step.shared_experts * step.num_tokens;
}

}  // namespace

Experts::Experts(CudaContext& context, DType activation)
    : context_(context),
      activation_(activation),
      tables_(context),
      given_(context),
      shared_(context),
      order_(context) {}

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
  bool shared_apart = false;
  for (const LayerWeights& layer : p.weights->layers) {
    if (layer.moe.experts.empty()) continue;
    if (tables_.table(layer.moe) == nullptr) return;
    // Dtypes decide whether they join the others: small enough to be taken in any case.
    shared_apart = shared_apart || layer.moe.shared.gate.is_set();
  }
  if (!take_scratch(step)) return;
  if (shared_apart) shared_.take<float>(elements(step.num_tokens, step.hidden_size));
  for (Scratch* scratch : {&given_, &shared_, &order_}) scratch->freeze();
}

bool Experts::take_scratch(ExpertStep& step) {
  step.given = given_.take<float>(elements(entries_of(step), step.hidden_size));
  const auto parts = elements(
      most_expert_parts(entries_of(step), step.num_experts + step.shared_experts, step.part_tokens),
      1);
  constexpr std::size_t kPartInts = sizeof(ExpertPart) / sizeof(std::int32_t);
  auto* order = order_.take<std::int32_t>(1 + parts * kPartInts + elements(step.num_entries, 1));
  if (step.given == nullptr || order == nullptr) return false;
  step.num_parts = order;
  step.parts = reinterpret_cast<ExpertPart*>(order + 1);
  step.order = order + 1 + parts * kPartInts;
  return true;
}

bool Experts::on_tensor_cores(const ExpertsParams& p) const {
  if (activation_ != DType::kBF16 || !context_.has_tensor_cores()) return false;
  const bool shared_joins = !p.weights->shared.gate.is_set() ||
                            shared_experts_of(*p.weights) == 0 || streams(p.weights->shared);
  return shared_joins && in_pieces(p.x, std::int64_t{p.hidden_size} * 2) &&
         in_pieces(p.gate_up, 0) && in_pieces(p.hidden, 0) &&
         std::all_of(p.weights->experts.begin(), p.weights->experts.end(), streams);
}

void Experts::run(const ExpertsParams& p, const SharedMlp& shared_mlp) {
  for (std::int32_t first = 0; first < p.num_tokens; first += kMostExpertTokens) {
    run_chunk(p, first, std::min(kMostExpertTokens, p.num_tokens - first), shared_mlp);
  }
}

void Experts::run_chunk(const ExpertsParams& p, std::int32_t first_token, std::int32_t num_tokens,
                        const SharedMlp& shared_mlp) {
  const MoeWeights& weights = *p.weights;
  const TensorView& gate = weights.experts[0].gate;
  LATENTD_CHECK(gate.dtype == DType::kF32 || gate.dtype == DType::kBF16,
                "experts: fp32 or bf16 expected, got {}", gate.to_string());
  const bool tensor_cores = on_tensor_cores(p);
  ExpertStep step;
  step.activation = activation_;
  step.weights = gate.dtype;
  step.num_tokens = num_tokens;
  step.num_entries = num_tokens * p.experts_per_token;
  step.num_experts = p.num_experts;
  step.shared_experts = tensor_cores ? shared_experts_of(weights) : 0;
  step.experts_per_token = p.experts_per_token;
  step.hidden_size = p.hidden_size;
  step.inner = static_cast<std::int32_t>(gate.dim(0));
  step.part_tokens = tensor_cores ? expert_tile(num_tokens, p.experts_per_token, p.num_experts,
                                                context_.has_warp_group_products())
                                  : kGenericPart;
  const std::int64_t first_hidden = std::int64_t{first_token} * p.hidden_size;
  step.x = advance(p.x, first_hidden, activation_);
  step.hidden = advance(p.hidden, first_hidden, activation_);
  step.expert_ids = p.expert_ids + std::int64_t{first_token} * p.experts_per_token;
  step.expert_weights = p.expert_weights + std::int64_t{first_token} * p.experts_per_token;
  // Tokens of other chunks are done or not begun: each chunk has all of the scratch.
  step.act = p.gate_up;
  step.experts = tables_.table(weights);
  if (step.experts == nullptr || !take_scratch(step)) return;
  if (weights.shared.gate.is_set() && step.shared_experts == 0) {
    auto* shared = shared_.take<float>(elements(num_tokens, p.hidden_size));
    if (shared == nullptr) return;
    void* behind = advance(p.gate_up, std::int64_t{step.num_entries} * step.inner, activation_);
    shared_mlp(weights.shared, step.x, behind, shared, num_tokens);
    step.shared = shared;
  }
  if (!context_.ok()) return;
  context_.check(tensor_cores ? launch_experts_on_tensor_cores(context_.stream(), step)
                              : launch_experts(context_.stream(), step),
                 "experts");
}

}  // namespace latentd::cuda
