#include "engine/backend/cuda/absorbed_attention.h"

#include <algorithm>

#include "base/check.h"
#include "engine/backend/cuda/attention_policy.h"
#include "engine/backend/cuda/launch.h"

namespace latentd::cuda {

AbsorbedAttention::AbsorbedAttention(CudaContext& context, DType activation, int invariant_pieces)
    : context_(context),
      activation_(activation),
      invariant_pieces_(invariant_pieces),
      works_(context),
      prefix_(context),
      shares_(context),
      pieces_(context),
      pages_(context),
      unit_ends_(context),
      segments_(context),
      sums_(context),
      runs_(context),
      counters_(context) {
  hopper_ = context.has_warp_group_products();
}

bool AbsorbedAttention::fits(const MlaGeometry& g, std::int32_t page_tokens, DType cache) const {
  return hopper_ && mla_kernel_fits(g, page_tokens, activation_, cache);
}

// Row tiles that see the same keys walk them side by side, so that one of them finds the other's in
// the L2 cache. How many tokens the rows hold is only guessed from their mean, which batch
// invariance forbids.
MlaDivision AbsorbedAttention::division(const BatchView& batch, const MlaGeometry& g) const {
  MlaDivision d;
  d.heads = g.num_heads;
  d.invariant = invariant_pieces_;
  const bool several_tokens =
      invariant_pieces_ == 0 &&
      std::int64_t{batch.num_tokens} * g.num_heads > std::int64_t{batch.num_rows} * kMlaTileRows;
  d.group = g.num_heads > kMlaTileRows || several_tokens ? 2 : 1;
  d.shares = std::min(context_.processors() / d.group, kMlaMostShares);
  return d;
}

bool AbsorbedAttention::take_memory(const MlaDivision& division, std::int32_t max_tokens,
                                    std::int32_t max_rows, bool shares_prefixes) {
  const auto slots = static_cast<std::size_t>(mla_slots(division, max_rows) * division.group);
  const auto shares = static_cast<std::size_t>(context_.processors());
  const auto rows = static_cast<std::size_t>(max_rows);
  const auto places = static_cast<std::size_t>(mla_places(division, max_tokens, max_rows));
  plan_.works = works_.take<MlaWork>(rows);
  plan_.prefix = prefix_.take<MlaPrefix>(rows + 1);
  plan_.shares = shares_.take<MlaShare>(shares);
  plan_.pieces = pieces_.take<MlaPiece>(places);
  plan_.pages = pages_.take<std::int32_t>(shares * kMlaKnownPages);
  if (shares_prefixes) {
    plan_.unit_ends = unit_ends_.take<std::int32_t>(rows);
    plan_.segments =
        segments_.take<MlaSegment>(static_cast<std::size_t>(mla_most_segments(max_rows)));
  }
  const auto partial_rows = static_cast<std::size_t>(mla_partial_rows(division, max_rows));
  partials_.sums = sums_.take<uint4>(partial_rows * kMlaLatent * 2 / sizeof(uint4));
  partials_.runs = runs_.take<uint4>(partial_rows * 2);
  plan_.num_counters = static_cast<std::int32_t>(slots + shares);
  plan_.counters = counters_.take<std::uint32_t>(slots + shares);
  partials_.launches = plan_.counters;
  partials_.arrived = plan_.counters + shares;
  return context_.ok();
}

void AbsorbedAttention::reserve(const ReserveParams& p) {
  const MlaGeometry& g = p.geometry;
  if (!fits(g, p.page_tokens, p.cache_dtype)) return;
  // A token a row: single row tiles take the most shares, and so the most memory.
  BatchView decode;
  decode.num_rows = p.max_rows;
  decode.num_tokens = p.max_rows;
  take_memory(division(decode, g), p.max_tokens, p.max_rows,
              p.shares_prefixes && shares_prefixes(p.cache_dtype));
}

bool AbsorbedAttention::make_plan(const BatchView& batch, const MlaGeometry& g,
                                  std::int32_t page_tokens, DType cache) {
  plan_.batch = batch;
  known_ = false;
  if (!shares_prefixes(cache)) plan_.batch.prefixes = nullptr;
  const bool prefixes = plan_.batch.prefixes != nullptr;
  plan_.page_tokens = page_tokens;
  plan_.division = division(batch, g);
  if (!take_memory(plan_.division, batch.num_tokens, batch.num_rows, prefixes)) {
    return false;
  }
  return context_.check(launch_mla_plan(context_.stream(), plan_), "plan_attention");
}

void AbsorbedAttention::plan(const PlanAttentionParams& p) {
  planned_ = {};
  if (!context_.ok() || p.batch.num_rows == 0 || !fits(p.geometry, p.page_tokens, p.cache_dtype)) {
    return;
  }
  if (make_plan(p.batch, p.geometry, p.page_tokens, p.cache_dtype)) {
    planned_ = {p.batch.rows, p.batch.num_rows, p.batch.num_tokens, p.geometry.num_heads};
  }
}

void AbsorbedAttention::run(const AbsorbedAttentionParams& p) {
  LATENTD_CHECK(computes_cache(p.cache.dtype), "a cache of {} is not computed here",
                dtype_name(p.cache.dtype));
  if (!context_.ok() || p.batch.num_rows == 0) return;
  if (!fits(p.geometry, p.cache.page_tokens, p.cache.dtype)) {
    context_.check(launch_absorbed_attention(context_.stream(), p, activation_,
                                             context_.shared_bytes_of_block()),
                   "absorbed_attention");
    return;
  }
  const Planned wanted{p.batch.rows, p.batch.num_rows, p.batch.num_tokens, p.geometry.num_heads};
  if (wanted != planned_) {
    planned_ = {};
    if (!make_plan(p.batch, p.geometry, p.cache.page_tokens, p.cache.dtype)) return;
  }
  MlaAttentionParams params;
  params.attention = p;
  params.division = plan_.division;
  params.shares = plan_.shares;
  params.pieces = plan_.pieces;
  params.pages = plan_.pages;
  params.segments = plan_.segments;
  params.partials = partials_;
  params.known = known_;
  known_ = true;
  const auto launch =
      p.cache.dtype == DType::kF8E4M3 ? launch_mla_attention_fp8 : launch_mla_attention;
  context_.check(launch(context_.stream(), params), "absorbed_attention");
}

}  // namespace latentd::cuda
