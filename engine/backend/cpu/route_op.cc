// route: the gates of DeepSeek-V2 and V3 (arXiv:2405.04434 section 2.2, arXiv:2412.19437 section
// 2.1.2) as their published code computes them, in fp32.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/check.h"
#include "engine/backend/cpu/cpu_ops.h"
#include "engine/backend/cpu/row_at.h"

namespace latentd::cpu {
namespace {

constexpr int kTokensPerItem = 16;
constexpr float kExcluded = -std::numeric_limits<float>::infinity();

void score_experts(const RoutingParams& r, const float* logits, float* scores) {
  const int n = r.num_experts;
  if (r.sigmoid) {
    for (int e = 0; e < n; ++e) scores[e] = 1.0F / (1.0F + std::exp(-logits[e]));
    return;
  }
  const float max = *std::max_element(logits, logits + n);
  float sum = 0.0F;
  for (int e = 0; e < n; ++e) {
    scores[e] = std::exp(logits[e] - max);
    sum += scores[e];
  }
  for (int e = 0; e < n; ++e) scores[e] /= sum;
}

float group_score(const float* choice, int size, bool top2) {
  float best = kExcluded;
  float second = kExcluded;
  for (int e = 0; e < size; ++e) {
    if (choice[e] > best) {
      second = best;
      best = choice[e];
    } else if (choice[e] > second) {
      second = choice[e];
    }
  }
  return top2 && size > 1 ? best + second : best;
}

// Index of the highest value; among equals, and when nothing exceeds -infinity, the lowest index
// whose entry is not taken.
int take_best(float* values, bool* taken, int n) {
  int best = -1;
  for (int i = 0; i < n; ++i) {
    if (!taken[i] && (best < 0 || values[i] > values[best])) best = i;
  }
  taken[best] = true;
  return best;
}

// Excludes the experts of all but the best groups. The published V2 code sets their scores to 0,
// below every softmax score; V3 and its successors to -infinity, because biased scores can be
// negative. Excluding them from the choice agrees with both, ties at an underflowed 0 aside.
void limit_groups(const RoutingParams& r, float* choice, float* group_scores, bool* taken) {
  const int size = r.num_experts / r.num_groups;
  for (int g = 0; g < r.num_groups; ++g) {
    group_scores[g] = group_score(row_at(choice, g, size), size, r.group_score_top2);
    taken[g] = false;
  }
  for (int i = 0; i < r.groups_per_token; ++i) take_best(group_scores, taken, r.num_groups);
  for (int g = 0; g < r.num_groups; ++g) {
    if (!taken[g]) std::fill_n(row_at(choice, g, size), size, kExcluded);
  }
}

void route_token(const RouteParams& p, int token, float* scores, float* choice, bool* taken) {
  const RoutingParams& r = p.routing;
  const auto n = static_cast<std::size_t>(r.num_experts);
  const auto top_k = static_cast<std::size_t>(r.experts_per_token);
  const auto t = static_cast<std::size_t>(token);
  score_experts(r, p.logits + t * n, scores);
  std::copy_n(scores, n, choice);
  if (p.correction_bias.is_set()) {
    const auto* bias = static_cast<const float*>(p.correction_bias.data);
    for (std::size_t e = 0; e < n; ++e) choice[e] += bias[e];
  }
  if (r.num_groups > 1) limit_groups(r, choice, choice + n, taken);

  std::int32_t* ids = p.expert_ids + t * top_k;
  std::fill_n(taken, n, false);
  for (std::size_t i = 0; i < top_k; ++i) ids[i] = take_best(choice, taken, r.num_experts);
  std::sort(ids, ids + top_k);

  float* weights = p.expert_weights + t * top_k;
  float sum = 0.0F;
  for (std::size_t i = 0; i < top_k; ++i) {
    weights[i] = scores[ids[i]];
    sum += weights[i];
  }
  const float denominator = r.normalize ? sum + 1e-20F : 1.0F;
  for (std::size_t i = 0; i < top_k; ++i) weights[i] = weights[i] / denominator * r.weight_scale;
}

}  // namespace

void route(CpuContext& context, const RouteParams& p) {
  const RoutingParams& r = p.routing;
  LATENTD_CHECK(r.experts_per_token > 0 && r.experts_per_token <= r.num_experts &&
                    r.num_groups > 0 && r.num_experts % r.num_groups == 0 &&
                    r.groups_per_token > 0 && r.groups_per_token <= r.num_groups,
                "{} of {} experts in {} of {} groups", r.experts_per_token, r.num_experts,
                r.groups_per_token, r.num_groups);
  LATENTD_CHECK(!p.correction_bias.is_set() || p.correction_bias.dtype == DType::kF32,
                "the correction bias is fp32, got {}", p.correction_bias.to_string());
  const auto n = static_cast<std::size_t>(r.num_experts);
  const int items = (p.num_tokens + kTokensPerItem - 1) / kTokensPerItem;
  context.pool.parallel_for(items, [&](int item, int worker) {
    WorkerScratch& scratch = context.scratch(worker);
    float* scores = scratch.scores.take<float>(3 * n);  // scores, choice, group scores
    bool* taken = scratch.state.take<bool>(n);
    const int end = std::min(p.num_tokens, (item + 1) * kTokensPerItem);
    for (int t = item * kTokensPerItem; t < end; ++t) {
      route_token(p, t, scores, scores + n, taken);
    }
  });
}

}  // namespace latentd::cpu
