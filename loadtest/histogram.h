// Histogram: counts of values in buckets whose width grows with the value, as in HdrHistogram.
//
// Values are whole numbers of whatever unit the owner names (microseconds here). Below 256 they are
// kept exactly; above, a bucket is at most 1/128 of its values wide and stands for its middle, so a
// quantile is off by at most kRelativeError. Memory is fixed; histograms merge by addition, so each
// thread fills its own. Values beyond kMaxValue count as kMaxValue.
//
// Contract: plain value; one writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace latentd::loadtest {

class Histogram final {
 public:
  static constexpr double kRelativeError = 1.0 / 256.0;
  static constexpr std::uint64_t kMaxValue = (std::uint64_t{1} << 40) - 1;  // 12 days in us

  Histogram();

  void record(std::uint64_t value, std::uint64_t times = 1);
  void merge(const Histogram& other);

  std::uint64_t count() const { return count_; }
  std::uint64_t min() const { return count_ == 0 ? 0 : min_; }
  std::uint64_t max() const { return max_; }
  double mean() const;

  // The smallest value that at least `fraction` of all values do not exceed; 0 when empty. Exact at
  // the ends: quantile(0) is min(), quantile(1) is max().
  double quantile(double fraction) const;
  // How many of the values are at most `value`, to the width of a bucket.
  std::uint64_t count_at_most(std::uint64_t value) const;

 private:
  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0;
  std::uint64_t min_ = kMaxValue;
  std::uint64_t max_ = 0;
  double sum_ = 0.0;
};

}  // namespace latentd::loadtest
