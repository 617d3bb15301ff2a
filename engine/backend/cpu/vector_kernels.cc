#include "engine/backend/cpu/vector_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/backend/cpu/vector_kernels.cc"
#include "hwy/foreach_target.h"  // includes this file once a target
// clang-format off
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "engine/backend/cpu/vector_load-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace latentd::cpu {
namespace HWY_NAMESPACE {
namespace {

using V = hn::Vec<DF>;
using DU16 = hn::ScalableTag<std::uint16_t>;

constexpr std::uint16_t kNaN = 0x7fc0;  // in bf16

HWY_INLINE V silu_product(DF df, V gate, V up) {
  const V one = hn::Set(df, 1.0F);
  return hn::Mul(hn::Div(gate, hn::Add(one, hn::Exp(df, hn::Neg(gate)))), up);
}

}  // namespace

void rms_norm(const float* x, const float* weight, float* out, std::size_t n, float eps) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  V sum0 = hn::Zero(df);
  V sum1 = hn::Zero(df);
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const V a = hn::LoadU(df, x + i);
    const V b = hn::LoadU(df, x + i + lanes);
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  for (; i < n; i += lanes) {
    const V a = load_partial(df, x + i, std::min(lanes, n - i));
    sum0 = hn::MulAdd(a, a, sum0);
  }
  const float sum = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum0, sum1)));
  const V inverse = hn::Set(df, 1.0F / std::sqrt(sum / static_cast<float>(n) + eps));
  for (i = 0; i + lanes <= n; i += lanes) {
    const V y = hn::Mul(hn::Mul(hn::LoadU(df, x + i), inverse), hn::LoadU(df, weight + i));
    hn::StoreU(y, df, out + i);
  }
  if (i < n) {
    const V y = hn::Mul(hn::Mul(load_partial(df, x + i, n - i), inverse),
                        load_partial(df, weight + i, n - i));
    store_partial(df, y, out + i, n - i);
  }
}

void silu(float* gate, const float* up, std::size_t n) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(silu_product(df, hn::LoadU(df, gate + i), hn::LoadU(df, up + i)), df, gate + i);
  }
  if (i < n) {
    const V y =
        silu_product(df, load_partial(df, gate + i, n - i), load_partial(df, up + i, n - i));
    store_partial(df, y, gate + i, n - i);
  }
}

void scale(float* x, float factor, std::size_t n) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  const V f = hn::Set(df, factor);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(df, x + i), f), df, x + i);
  for (; i < n; ++i) x[i] *= factor;
}

void widen(const std::uint16_t* x, float* out, std::size_t n) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(load_vector(df, x + i), df, out + i);
  if (i < n) store_partial(df, load_partial(df, x + i, n - i), out + i, n - i);
}

// A vector of codes times a power of two, whose bf16 pattern is `scale`, as bf16 patterns. A code's
// fields, shifted into place, are bf16's but for the bias, so the scale is added to the exponent.
// Subnormal codes have none: they are the integers 0 .. 7 times 2^-9, and get those integers'.
HWY_INLINE hn::Vec<DU16> scaled_codes(DU16 du16, const std::uint8_t* codes, hn::Vec<DU16> scale) {
  const hn::Rebind<std::uint8_t, DU16> du8;
  const auto set = [du16](std::uint16_t value) { return hn::Set(du16, value); };
  const auto wide = hn::PromoteTo(du16, hn::LoadU(du8, codes));
  const auto magnitude = hn::And(wide, set(0x7f));
  const auto sign = hn::ShiftLeft<8>(hn::Xor(wide, magnitude));
  const auto normal = hn::Add(hn::ShiftLeft<4>(magnitude), hn::Sub(scale, set(0x38 << 4)));

  const auto integer = hn::And(magnitude, set(7));
  auto fields = hn::Add(hn::ShiftLeft<5>(integer), set(0x80));                          // of 4 .. 7
  fields = hn::IfThenElse(hn::Lt(integer, set(4)), hn::ShiftLeft<6>(integer), fields);  // 2 and 3
  fields = hn::IfThenZeroElse(hn::Lt(integer, set(2)), fields);                         // 1
  const auto subnormal = hn::IfThenZeroElse(hn::Eq(integer, hn::Zero(du16)),
                                            hn::Add(fields, hn::Sub(scale, set(9 << 7))));

  const auto number = hn::IfThenElse(hn::Eq(magnitude, integer), subnormal, normal);
  return hn::Or(sign, hn::IfThenElse(hn::Eq(magnitude, set(0x7f)), set(kNaN), number));
}

// One group.
void widen_group(const std::uint8_t* codes, float scale, std::uint16_t* out, std::size_t n) {
  const DU16 du16;
  const std::size_t lanes = hn::Lanes(du16);
  if (std::isnan(scale)) {
    std::fill_n(out, n, kNaN);
    return;
  }
  const auto scales = hn::Set(du16, to_bfloat16(scale).bits);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(scaled_codes(du16, codes + i, scales), du16, out + i);
  }
  if (i == n) return;
  HWY_ALIGN std::uint8_t last[hn::MaxLanes(DU16())] = {};
  HWY_ALIGN std::uint16_t widened[hn::MaxLanes(DU16())];
  std::memcpy(last, codes + i, n - i);
  hn::Store(scaled_codes(du16, last, scales), du16, widened);
  std::copy_n(widened, n - i, out + i);
}

void widen_scaled(const std::uint8_t* codes, const float* scales, std::size_t group,
                  std::uint16_t* out, std::size_t n) {
  for (std::size_t first = 0; first < n; first += group) {
    widen_group(codes + first, scales[first / group], out + first, std::min(group, n - first));
  }
}

float softmax(float* scores, int count, bool first, SoftmaxState& state) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  const V lowest = hn::Set(df, -std::numeric_limits<float>::infinity());
  std::fill(scores + count, scores + kSoftmaxBlock, -std::numeric_limits<float>::infinity());
  V max_vector = lowest;
  for (std::size_t i = 0; i < kSoftmaxBlock; i += lanes) {
    max_vector = hn::Max(max_vector, hn::LoadU(df, scores + i));
  }
  float max = hn::GetLane(hn::MaxOfLanes(df, max_vector));
  if (!first) max = std::max(max, state.max);
  const V shift = hn::Set(df, max);
  V sum_vector = hn::Zero(df);
  for (std::size_t i = 0; i < kSoftmaxBlock; i += lanes) {
    const V p = hn::Exp(df, hn::Sub(hn::LoadU(df, scores + i), shift));
    hn::StoreU(p, df, scores + i);
    sum_vector = hn::Add(sum_vector, p);
  }
  const float sum = hn::GetLane(hn::SumOfLanes(df, sum_vector));
  const float keep = first ? 0.0F : hn::GetLane(hn::Exp(df, hn::Set(df, state.max - max)));
  state.sum =
      first ? sum
            : hn::GetLane(hn::MulAdd(hn::Set(df, state.sum), hn::Set(df, keep), hn::Set(df, sum)));
  state.max = max;
  return keep;
}

RowRange range(const float* x, std::size_t n) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  const V infinity = hn::Set(df, std::numeric_limits<float>::infinity());
  V max_vector = hn::Neg(infinity);
  auto all_finite = hn::Eq(max_vector, max_vector);
  auto all_bounded = all_finite;
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V a = hn::LoadU(df, x + i);
    max_vector = hn::Max(max_vector, a);
    all_finite = hn::And(all_finite, hn::Lt(hn::Abs(a), infinity));
    all_bounded = hn::And(all_bounded, hn::Lt(a, infinity));
  }
  RowRange result;
  result.max = hn::GetLane(hn::MaxOfLanes(df, max_vector));
  result.finite = hn::AllTrue(df, all_finite);
  result.has_nan_or_plus_infinity = !hn::AllTrue(df, all_bounded);
  for (; i < n; ++i) {
    result.max = std::max(result.max, x[i]);
    result.finite = result.finite && std::isfinite(x[i]);
    result.has_nan_or_plus_infinity =
        result.has_nan_or_plus_infinity || !(x[i] < std::numeric_limits<float>::infinity());
  }
  return result;
}

double exponentials(const float* x, float shift, float factor, std::size_t n, float* out,
                    double* block_sums) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  const V shift_vector = hn::Set(df, shift);
  const V factor_vector = hn::Set(df, factor);
  const V lowest = hn::Set(df, -std::numeric_limits<float>::infinity());
  double total = 0.0;
  for (std::size_t begin = 0; begin < n; begin += kExpBlock) {
    const std::size_t end = std::min(n, begin + kExpBlock);
    V sum_vector = hn::Zero(df);
    for (std::size_t i = begin; i < end; i += lanes) {
      const std::size_t count = std::min(lanes, end - i);
      const V a = count == lanes ? hn::LoadU(df, x + i) : load_partial(df, x + i, count);
      V e = hn::Exp(df, hn::Mul(hn::Sub(a, shift_vector), factor_vector));
      e = hn::IfThenZeroElse(hn::Eq(a, lowest), e);
      if (count < lanes) {
        e = hn::IfThenElseZero(hn::FirstN(df, count), e);
        if (out != nullptr) store_partial(df, e, out + i, count);
      } else if (out != nullptr) {
        hn::StoreU(e, df, out + i);
      }
      sum_vector = hn::Add(sum_vector, e);
    }
    const auto sum = static_cast<double>(hn::GetLane(hn::SumOfLanes(df, sum_vector)));
    if (block_sums != nullptr) block_sums[begin / kExpBlock] = sum;
    total += sum;
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latentd::cpu {

HWY_EXPORT(rms_norm);
HWY_EXPORT(silu);
HWY_EXPORT(scale);
HWY_EXPORT(widen);
HWY_EXPORT(widen_scaled);
HWY_EXPORT(softmax);
HWY_EXPORT(range);
HWY_EXPORT(exponentials);

void rms_norm_row(const float* x, const float* weight, float* out, std::size_t n, float eps) {
  HWY_DYNAMIC_DISPATCH(rms_norm)(x, weight, out, n, eps);
}

void silu_multiply(float* gate, const float* up, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(silu)(gate, up, n);
}

void scale_row(float* x, float factor, std::size_t n) { HWY_DYNAMIC_DISPATCH(scale)(x, factor, n); }

void load_as_f32(const void* x, DType dtype, float* out, std::size_t n) {
  if (dtype == DType::kBF16) {
    HWY_DYNAMIC_DISPATCH(widen)(static_cast<const std::uint16_t*>(x), out, n);
  } else {
    std::memcpy(out, x, n * sizeof(float));
  }
}

void store_from_f32(const float* x, DType dtype, void* out, std::size_t n) {
  if (dtype == DType::kBF16) {
    auto* bits = static_cast<BFloat16*>(out);
    for (std::size_t i = 0; i < n; ++i) bits[i] = to_bfloat16(x[i]);
  } else {
    std::memcpy(out, x, n * sizeof(float));
  }
}

void load_scaled_e4m3(const std::uint8_t* x, const float* scales, std::size_t group, BFloat16* out,
                      std::size_t n) {
  HWY_DYNAMIC_DISPATCH(widen_scaled)
  (x, scales, group, reinterpret_cast<std::uint16_t*>(out), n);
}

float softmax_block(float* scores, int count, bool first, SoftmaxState& state) {
  return HWY_DYNAMIC_DISPATCH(softmax)(scores, count, first, state);
}

RowRange row_range(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(range)(x, n); }

double exp_row(const float* x, float shift, float factor, std::size_t n, float* out,
               double* block_sums) {
  return HWY_DYNAMIC_DISPATCH(exponentials)(x, shift, factor, n, out, block_sums);
}

}  // namespace latentd::cpu
#endif
