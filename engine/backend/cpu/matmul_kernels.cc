#include "engine/backend/cpu/matmul_kernels.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/backend/cpu/matmul_kernels.cc"
#include "hwy/foreach_target.h"  // includes this file once a target
// clang-format off
#include "hwy/highway.h"
#include "engine/backend/cpu/vector_load-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace latentd::cpu {
namespace HWY_NAMESPACE {
namespace {

// Accumulators that fit the register file beside the operands.
constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64;
constexpr int kDotColumns = 4;
constexpr int kDotRows = kManyRegisters ? 6 : 3;
// Rows of x that stay in the second-level cache while all columns pass over them.
constexpr int kRowBlock = 96;

// How far ahead columns are fetched, and where to: into the second-level cache, because too few
// lines can be on their way to the first (measured: 24 GB/s instead of 11 with four rows).
constexpr std::size_t kPrefetchBytes = 8192;
constexpr int kSecondLevel = 2;  // __builtin_prefetch's locality

// acc[r][c] += x_r * w_c over one vector of k.
template <int kRows, int kColumns, class V>
HWY_INLINE void fma_outer(V (&acc)[kRows][kColumns], const V (&x)[kRows], V w, int c) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) acc[r][c] = hn::MulAdd(x[r], w, acc[r][c]);
}

template <int kRows, int kColumns, bool kPrefetch, class T>
HWY_NOINLINE void dot_tile(const DotProduct& p, int first_row, const T* const* w, int column,
                           std::size_t ahead) {
  const DF df;
  using V = hn::Vec<DF>;
  const std::size_t lanes = hn::Lanes(df);
  const auto k_size = static_cast<std::size_t>(p.k);
  const float* const* x = p.x + first_row;

  V acc[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) acc[r][c] = hn::Zero(df);
  }
  std::size_t k = 0;
  for (; k + lanes <= k_size; k += lanes) {
    V xv[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) xv[r] = hn::LoadU(df, x[r] + k);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      if constexpr (kPrefetch) __builtin_prefetch(w[c] + k + ahead, 0, kSecondLevel);
      fma_outer(acc, xv, load_vector(df, w[c] + k), c);
    }
  }
  if (k < k_size) {
    V xv[kRows];
    for (int r = 0; r < kRows; ++r) xv[r] = load_partial(df, x[r] + k, k_size - k);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      fma_outer(acc, xv, load_partial(df, w[c] + k, k_size - k), c);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const float scale = p.scale == nullptr ? 1.0F : p.scale[first_row + r];
    float* out = p.out[first_row + r] + p.out_column + column;
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const float sum = scale * hn::GetLane(hn::SumOfLanes(df, acc[r][c]));
      out[c] = p.accumulate ? out[c] + sum : sum;
    }
  }
}

// `rows` < kDotRows rows.
template <int kColumns, bool kPrefetch, class T>
HWY_INLINE void dot_last_rows(const DotProduct& p, int row, int rows, const T* const* w, int column,
                              std::size_t ahead) {
  switch (rows) {
    case 1:
      return dot_tile<1, kColumns, kPrefetch>(p, row, w, column, ahead);
    case 2:
      return dot_tile<2, kColumns, kPrefetch>(p, row, w, column, ahead);
    case 3:
      if constexpr (kDotRows > 3) return dot_tile<3, kColumns, kPrefetch>(p, row, w, column, ahead);
      break;
    case 4:
      if constexpr (kDotRows > 4) return dot_tile<4, kColumns, kPrefetch>(p, row, w, column, ahead);
      break;
    case 5:
      if constexpr (kDotRows > 5) return dot_tile<5, kColumns, kPrefetch>(p, row, w, column, ahead);
      break;
    default:
      break;
  }
}

// The first tile of rows brings the columns into the cache, and fetches the next ones meanwhile.
template <int kColumns, class T>
HWY_INLINE void dot_rows(const DotProduct& p, int row, int rows, const T* const* w, int column,
                         std::size_t ahead) {
  if (rows < kDotRows) return dot_last_rows<kColumns, true>(p, row, rows, w, column, ahead);
  dot_tile<kDotRows, kColumns, true>(p, row, w, column, ahead);
  for (row += kDotRows, rows -= kDotRows; rows >= kDotRows; row += kDotRows, rows -= kDotRows) {
    dot_tile<kDotRows, kColumns, false>(p, row, w, column, ahead);
  }
  dot_last_rows<kColumns, false>(p, row, rows, w, column, ahead);
}

template <class T>
HWY_INLINE const T* row_of(const MatrixRows& w, int row) {
  const auto index = static_cast<std::size_t>(row);
  if (w.rows != nullptr) return static_cast<const T*>(w.rows[index]);
  return reinterpret_cast<const T*>(static_cast<const char*>(w.base) + index * w.row_bytes);
}

// Bound by memory alone. Reading the matrix front to back, a column at a time, suits the
// processor's own prefetching, which reaches the speed of a plain copy.
template <class T>
void dot_one_row(const DotProduct& p) {
  for (int column = 0; column < p.n; ++column) {
    const T* w = row_of<T>(p.w, column);
    dot_tile<1, 1, false>(p, 0, &w, column, 0);
  }
}

template <class T>
void dot_typed(const DotProduct& p) {
  if (p.m == 1) return dot_one_row<T>(p);
  // As many tiles of columns ahead as make the distance.
  const std::size_t tile = std::max<std::size_t>(1, kDotColumns * p.w.row_bytes);
  const std::size_t ahead =
      p.w.rows != nullptr ? std::size_t{0} : (kPrefetchBytes + tile - 1) / tile * tile / sizeof(T);
  for (int first = 0; first < p.m; first += kRowBlock) {
    const int rows = std::min(kRowBlock, p.m - first);
    int column = 0;
    const T* w[kDotColumns];
    for (; column + kDotColumns <= p.n; column += kDotColumns) {
      for (int c = 0; c < kDotColumns; ++c) w[c] = row_of<T>(p.w, column + c);
      dot_rows<kDotColumns>(p, first, rows, w, column, ahead);
    }
    for (; column < p.n; ++column) {
      w[0] = row_of<T>(p.w, column);
      dot_rows<1>(p, first, rows, w, column, 0);
    }
  }
}

constexpr int kAxpyAccumulators = kManyRegisters ? 16 : 8;

// kVectors vectors of columns from `column`; the last one is partial when `width` says so.
template <int kRows, int kVectors, bool kPartial, class T>
HWY_NOINLINE void axpy_tile(const AxpyProduct& p, int first_row, std::size_t column,
                            std::size_t width) {
  const DF df;
  using V = hn::Vec<DF>;
  const std::size_t lanes = hn::Lanes(df);
  static_assert(!kPartial || kVectors == 1);

  V acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      if (p.keep == nullptr) {
        acc[r][v] = hn::Zero(df);
        continue;
      }
      const float* out = p.out[first_row + r] + column + static_cast<std::size_t>(v) * lanes;
      const V old = kPartial ? load_partial(df, out, width) : hn::LoadU(df, out);
      acc[r][v] = hn::Mul(old, hn::Set(df, p.keep[first_row + r]));
    }
  }
  for (int k = 0; k < p.k; ++k) {
    const T* w = row_of<T>(p.w, k) + column;
    V xv[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) xv[r] = hn::Set(df, p.x[first_row + r][k]);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      const V wv = kPartial ? load_partial(df, w, width)
                            : load_vector(df, w + static_cast<std::size_t>(v) * lanes);
      fma_outer(acc, xv, wv, v);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* out = p.out[first_row + r] + column;
    if constexpr (kPartial) {
      store_partial(df, acc[r][0], out, width);
    } else {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        hn::StoreU(acc[r][v], df, out + static_cast<std::size_t>(v) * lanes);
      }
    }
  }
}

template <int kRows, class T>
HWY_INLINE void axpy_columns(const AxpyProduct& p, int row) {
  constexpr int kVectors = kAxpyAccumulators / kRows;
  const std::size_t lanes = hn::Lanes(DF());
  const auto n = static_cast<std::size_t>(p.n);
  std::size_t column = 0;
  for (; column + kVectors * lanes <= n; column += kVectors * lanes) {
    axpy_tile<kRows, kVectors, false, T>(p, row, column, 0);
  }
  for (; column + lanes <= n; column += lanes) axpy_tile<kRows, 1, false, T>(p, row, column, 0);
  if (column < n) axpy_tile<kRows, 1, true, T>(p, row, column, n - column);
}

template <class T>
void axpy_typed(const AxpyProduct& p) {
  int row = 0;
  for (; row + 4 <= p.m; row += 4) axpy_columns<4, T>(p, row);
  for (; row + 2 <= p.m; row += 2) axpy_columns<2, T>(p, row);
  for (; row < p.m; ++row) axpy_columns<1, T>(p, row);
}

}  // namespace

void dot_product(const DotProduct& p) {
  if (p.w.dtype == DType::kBF16) return dot_typed<std::uint16_t>(p);
  dot_typed<float>(p);
}

void axpy_product(const AxpyProduct& p) {
  if (p.w.dtype == DType::kBF16) return axpy_typed<std::uint16_t>(p);
  axpy_typed<float>(p);
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latentd::cpu {

HWY_EXPORT(dot_product);
HWY_EXPORT(axpy_product);

void multiply_dot(const DotProduct& product) { HWY_DYNAMIC_DISPATCH(dot_product)(product); }
void multiply_axpy(const AxpyProduct& product) { HWY_DYNAMIC_DISPATCH(axpy_product)(product); }

}  // namespace latentd::cpu
#endif
