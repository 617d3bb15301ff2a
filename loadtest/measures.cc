#include "loadtest/measures.h"

#include <algorithm>

namespace latentd::loadtest {
namespace {

constexpr std::size_t kMaxSamples = 4096;  // a thread

std::uint64_t microseconds(Duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return count < 0 ? 0 : static_cast<std::uint64_t>(count);
}

double milliseconds(Duration duration) { return to_seconds(duration) * 1e3; }

// Of the tokens at positions [begin, end), each of which attends to those before it and itself.
std::uint64_t pairs_of(int begin, int end) {
  const auto up_to = [](int tokens) {
    const auto n = static_cast<std::uint64_t>(std::max(tokens, 0));
    return n * (n + 1) / 2;
  };
  return up_to(std::max(begin, end)) - up_to(begin);
}

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

void TenantMeasures::merge(const TenantMeasures& other) {
  sent += other.sent;
  completed += other.completed;
  failed += other.failed;
  cancelled += other.cancelled;
  good += other.good;
  prompt_tokens += other.prompt_tokens;
  cached_tokens += other.cached_tokens;
  output_tokens += other.output_tokens;
  prefill_pairs += other.prefill_pairs;
  decode_pairs += other.decode_pairs;
  ttft.merge(other.ttft);
}

void Measures::merge(const Measures& other) {
  ttft.merge(other.ttft);
  itl.merge(other.itl);
  tpot.merge(other.tpot);
  e2e.merge(other.e2e);
  lag.merge(other.lag);
  for (const auto& [kind, count] : other.errors) errors[kind] += count;
  if (seconds.size() < other.seconds.size()) seconds.resize(other.seconds.size());
  for (std::size_t i = 0; i < other.seconds.size(); ++i) {
    seconds[i].sent += other.seconds[i].sent;
    seconds[i].completed += other.seconds[i].completed;
    seconds[i].failed += other.seconds[i].failed;
    seconds[i].tokens += other.seconds[i].tokens;
  }
  if (tenants.size() < other.tenants.size()) tenants.resize(other.tenants.size());
  for (std::size_t i = 0; i < other.tenants.size(); ++i) tenants[i].merge(other.tenants[i]);
  samples.insert(samples.end(), other.samples.begin(), other.samples.end());
  window_tokens += other.window_tokens;
  window_completed += other.window_completed;
  window_good += other.window_good;
  event_tokens += other.event_tokens;
  usage_tokens += other.usage_tokens;
  for (std::size_t i = 0; i < counted.size(); ++i) counted[i] += other.counted[i];
  last_end_seconds = std::max(last_end_seconds, other.last_end_seconds);
}

TenantMeasures Measures::total() const {
  TenantMeasures sum;
  for (const TenantMeasures& tenant : tenants) sum.merge(tenant);
  return sum;
}

double jain_index(const std::vector<double>& shares) {
  double sum = 0.0;
  double squares = 0.0;
  for (const double share : shares) {
    sum += share;
    squares += share * share;
  }
  return squares > 0.0 ? sum * sum / (static_cast<double>(shares.size()) * squares) : 1.0;
}

Recorder::Recorder(const RecorderOptions& options, Live& live) : options_(options), live_(live) {
  measures_.tenants.resize(options.num_tenants);
}

double Recorder::seconds_since_start(TimePoint time) const {
  return to_seconds(time - options_.start);
}

SecondBin& Recorder::bin(double seconds) {
  const auto index = static_cast<std::size_t>(std::max(0.0, seconds));
  if (measures_.seconds.size() <= index) measures_.seconds.resize(index + 1);
  return measures_.seconds[index];
}

bool Recorder::in_window(double seconds) const {
  return seconds >= options_.warmup_s && (options_.end_s <= 0.0 || seconds < options_.end_s);
}

void Recorder::on_sent(Progress& progress, TimePoint intended, TimePoint now) {
  progress.intended = intended;
  progress.sent = now;
  progress.measured = seconds_since_start(intended) >= options_.warmup_s;
  ++bin(seconds_since_start(now)).sent;
  live_.sent.fetch_add(1, kRelaxed);
  live_.in_flight.fetch_add(1, kRelaxed);
  if (!progress.measured) return;
  ++measures_.tenants[static_cast<std::size_t>(progress.tenant)].sent;
  measures_.lag.record(microseconds(now - intended));
}

void Recorder::on_tokens(Progress& progress, int tokens, TimePoint now) {
  if (progress.events == 0) {
    progress.first = now;
  } else if (progress.measured) {
    measures_.itl.record(microseconds(now - progress.last));
  }
  progress.last = now;
  ++progress.events;
  progress.event_tokens += tokens;
  const double seconds = seconds_since_start(now);
  bin(seconds).tokens += static_cast<std::uint64_t>(tokens);
  if (in_window(seconds)) measures_.window_tokens += static_cast<std::uint64_t>(tokens);
  live_.tokens.fetch_add(static_cast<std::uint64_t>(tokens), kRelaxed);
}

bool Recorder::good(const Progress& progress, int tokens, TimePoint now) const {
  const Slo& slo = options_.slo;
  const double ttft = milliseconds(progress.first - progress.intended);
  const double e2e = milliseconds(now - progress.intended);
  const double tpot =
      tokens > 1 ? milliseconds(progress.last - progress.first) / (tokens - 1) : 0.0;
  return (slo.ttft_ms <= 0.0 || ttft <= slo.ttft_ms) && (slo.itl_ms <= 0.0 || tpot <= slo.itl_ms) &&
         (slo.e2e_ms <= 0.0 || e2e <= slo.e2e_ms);
}

void Recorder::record_success(const Progress& progress, int tokens, TokenCount counted,
                              TimePoint now) {
  TenantMeasures& tenant = measures_.tenants[static_cast<std::size_t>(progress.tenant)];
  const bool is_good = good(progress, tokens, now);
  ++tenant.completed;
  tenant.good += is_good ? 1 : 0;
  const int prompt = std::max(progress.prompt_tokens, 0);
  const int cached = std::max(progress.cached_tokens, 0);
  tenant.prompt_tokens += static_cast<std::uint64_t>(prompt);
  tenant.cached_tokens += static_cast<std::uint64_t>(cached);
  tenant.output_tokens += static_cast<std::uint64_t>(tokens);
  tenant.prefill_pairs += pairs_of(cached, prompt);
  tenant.decode_pairs += pairs_of(prompt, prompt + tokens - 1);  // the last one is not computed
  if (progress.events > 0) {
    const std::uint64_t ttft = microseconds(progress.first - progress.intended);
    measures_.ttft.record(ttft);
    tenant.ttft.record(ttft);
    if (tokens > 1) {
      measures_.tpot.record(microseconds(progress.last - progress.first) /
                            static_cast<std::uint64_t>(tokens - 1));
    }
    keep_sample(progress);
  }
  measures_.e2e.record(microseconds(now - progress.intended));
  measures_.event_tokens += static_cast<std::uint64_t>(progress.event_tokens);
  measures_.usage_tokens += static_cast<std::uint64_t>(tokens);
  ++measures_.counted[static_cast<std::size_t>(counted)];
}

void Recorder::keep_sample(const Progress& progress) {
  if (samples_seen_++ % sample_every_ != 0) return;
  measures_.samples.push_back({static_cast<float>(seconds_since_start(progress.intended)),
                               static_cast<float>(milliseconds(progress.first - progress.intended)),
                               progress.tenant});
  if (measures_.samples.size() < kMaxSamples) return;
  // Full: keep every second one, and from now on one of twice as many.
  for (std::size_t i = 0; 2 * i < measures_.samples.size(); ++i) {
    measures_.samples[i] = measures_.samples[2 * i];
  }
  measures_.samples.resize((measures_.samples.size() + 1) / 2);
  sample_every_ *= 2;
}

void Recorder::on_end(const Progress& progress, std::string error, int max_tokens, bool exact,
                      TimePoint now) {
  TokenCount counted = TokenCount::kEvents;
  int tokens = progress.event_tokens;
  if (progress.completion_tokens >= 0) {
    counted = TokenCount::kUsage;
    tokens = progress.completion_tokens;
  } else if (progress.at_length) {
    counted = TokenCount::kLength;
    tokens = max_tokens;
  }
  if (error.empty()) {
    const bool lost =
        (progress.listed_ids && progress.event_tokens != tokens) || (exact && tokens != max_tokens);
    if (lost) error = "lost tokens";
  }
  const double seconds = seconds_since_start(now);
  measures_.last_end_seconds = std::max(measures_.last_end_seconds, seconds);
  live_.in_flight.fetch_sub(1, kRelaxed);
  const bool cancelled = error == "cancelled";
  // Throughput counts what ended in the window, whenever it began.
  if (error.empty() && in_window(seconds)) {
    ++measures_.window_completed;
    measures_.window_good += good(progress, tokens, now) ? 1 : 0;
  }
  SecondBin& second = bin(seconds);
  if (error.empty() || cancelled) {
    ++second.completed;
    live_.completed.fetch_add(1, kRelaxed);
  } else {
    ++second.failed;
    live_.failed.fetch_add(1, kRelaxed);
  }
  if (progress.measured) {
    TenantMeasures& tenant = measures_.tenants[static_cast<std::size_t>(progress.tenant)];
    if (error.empty()) {
      record_success(progress, tokens, counted, now);
    } else if (cancelled) {
      ++tenant.cancelled;
    } else {
      ++tenant.failed;
      ++measures_.errors[error];
    }
  }
  if (!options_.keep_outcomes) return;
  const bool any = progress.events > 0;
  outcomes_.push_back({progress.index, progress.tenant, seconds_since_start(progress.intended),
                       milliseconds(progress.sent - progress.intended),
                       any ? milliseconds(progress.first - progress.intended) : 0.0,
                       milliseconds(now - progress.intended), tokens,
                       std::max(progress.cached_tokens, 0), progress.hash, std::move(error)});
}

}  // namespace latentd::loadtest
