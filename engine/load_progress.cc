#include "engine/load_progress.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>

namespace latentd {
namespace {

constexpr std::size_t kCells = 24;
constexpr Duration kFrame = std::chrono::milliseconds(100);
constexpr Duration kLine = std::chrono::seconds(1);

}  // namespace

std::string progress_text(std::size_t done, std::size_t total, double seconds) {
  const double gigabytes = static_cast<double>(done) * 1e-9;
  return fmt::format("{:.2f} of {:.2f} GB, {:.1f} GB/s", gigabytes,
                     static_cast<double>(total) * 1e-9, seconds > 0.0 ? gigabytes / seconds : 0.0);
}

std::string progress_bar(std::size_t done, std::size_t total, double seconds) {
  const double share = total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total);
  const auto full = static_cast<std::size_t>(share * kCells);
  return fmt::format("weights [{}{}] {:3.0f} %  {}", std::string(full, '#'),
                     std::string(kCells - full, '-'), share * 100.0,
                     progress_text(done, total, seconds));
}

LoadProgress::LoadProgress()
    : terminal_(isatty(STDERR_FILENO) == 1), begin_(steady_now()), shown_(begin_) {}

void LoadProgress::show(std::size_t done, std::size_t total) {
  const TimePoint now = steady_now();
  const bool last = done == total;
  if (!last && now - shown_ < (terminal_ ? kFrame : kLine)) return;
  shown_ = now;
  const double seconds = to_seconds(now - begin_);
  if (!terminal_) {
    spdlog::info("weights: {}", progress_text(done, total, seconds));
    return;
  }
  // Over the line before; what is left of a longer one is erased.
  std::fprintf(stderr, "\r%s\x1b[K%s", progress_bar(done, total, seconds).c_str(),
               last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace latentd
