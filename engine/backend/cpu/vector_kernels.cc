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
