#include "loadtest/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace latentd::loadtest {
namespace {

constexpr int kExactBits = 8;                                          // values below 2^8 are exact
constexpr std::uint64_t kHalf = std::uint64_t{1} << (kExactBits - 1);  // buckets a power of two
constexpr int kMaxBits = 40;
constexpr std::size_t kNumBuckets = (kMaxBits - kExactBits + 2) * kHalf;

int shift_of(std::uint64_t value) {
  return std::max(0, static_cast<int>(std::bit_width(value)) - kExactBits);
}

std::size_t bucket_of(std::uint64_t value) {
  const int shift = shift_of(value);
  return static_cast<std::size_t>(static_cast<std::uint64_t>(shift) * kHalf + (value >> shift));
}

// The middle of a bucket's values.
double middle_of(std::size_t bucket) {
  const std::uint64_t index = bucket;
  if (index < 2 * kHalf) return static_cast<double>(index);
  const auto shift = static_cast<int>(index / kHalf) - 1;
  const std::uint64_t first = (index - static_cast<std::uint64_t>(shift) * kHalf) << shift;
  return static_cast<double>(first) + static_cast<double>((std::uint64_t{1} << shift) - 1) / 2.0;
}

}  // namespace

Histogram::Histogram() : buckets_(kNumBuckets) {}

void Histogram::record(std::uint64_t value, std::uint64_t times) {
  if (times == 0) return;
  value = std::min(value, kMaxValue);
  buckets_[bucket_of(value)] += times;
  count_ += times;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value) * static_cast<double>(times);
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

double Histogram::mean() const { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }

double Histogram::quantile(double fraction) const {
  if (count_ == 0) return 0.0;
  if (fraction <= 0.0) return static_cast<double>(min_);
  const auto rank =
      static_cast<std::uint64_t>(std::ceil(std::min(fraction, 1.0) * static_cast<double>(count_)));
  if (rank >= count_) return static_cast<double>(max_);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) {
      return std::clamp(middle_of(i), static_cast<double>(min_), static_cast<double>(max_));
    }
  }
  return static_cast<double>(max_);
}

std::uint64_t Histogram::count_at_most(std::uint64_t value) const {
  const std::size_t last = bucket_of(std::min(value, kMaxValue));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i <= last; ++i) seen += buckets_[i];
  return seen;
}

}  // namespace latentd::loadtest
