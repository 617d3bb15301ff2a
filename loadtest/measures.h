// Measures: what a run found out, and Recorder: how one thread collects it.
//
// Every latency counts from the moment at which the request was meant to be sent, not from when the
// client came to it: a client or a server that stalls cannot hide the requests that had to wait (no
// coordinated omission). How late the client was is reported beside it as client lag.
//
//   ttft  meant to be sent -> first token          itl   between one event with tokens and the next
//   e2e   meant to be sent -> end of the stream    tpot  (last token - first) / (tokens - 1)
//
// Requests meant for the warm-up are left out of everything but the curves over time.
//
// Contract: Measures is a value; merge adds another thread's. A Recorder belongs to one thread; its
// counters in `Live` are read by the progress line.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "loadtest/histogram.h"
#include "loadtest/scenario.h"
#include "loadtest/stream_reader.h"

namespace latentd::loadtest {

struct SecondBin {
  std::uint64_t sent = 0;
  std::uint64_t completed = 0;
  std::uint64_t failed = 0;
  std::uint64_t tokens = 0;
};

struct TenantMeasures {
  std::uint64_t sent = 0;
  std::uint64_t completed = 0;
  std::uint64_t failed = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t good = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t output_tokens = 0;
  // Pairs of a computed token and one that it attends to, of prompts and of answers.
  std::uint64_t prefill_pairs = 0;
  std::uint64_t decode_pairs = 0;
  Histogram ttft;  // us

  void merge(const TenantMeasures& other);
};

struct Sample {  // one request, for the plot
  float at_seconds = 0.0F;
  float ttft_ms = 0.0F;
  std::int32_t tenant = 0;
};

struct Measures {
  Histogram ttft, itl, tpot, e2e, lag;  // us
  std::map<std::string, std::uint64_t> errors;
  std::vector<SecondBin> seconds;
  std::vector<TenantMeasures> tenants;
  std::vector<Sample> samples;
  std::uint64_t window_tokens = 0;     // seen by events inside the measured window
  std::uint64_t window_completed = 0;  // ended well inside it
  std::uint64_t window_good = 0;
  std::uint64_t event_tokens = 0;          // seen by events, of all requests that ended well
  std::uint64_t usage_tokens = 0;          // what is known of the same, by `counted`
  std::array<std::uint64_t, 3> counted{};  // requests that ended well, by TokenCount
  double last_end_seconds = 0.0;

  void merge(const Measures& other);
  TenantMeasures total() const;
};

// Jain's index of fairness: (sum x)^2 / (n sum x^2); 1 when all are equal, 1/n when one has all.
double jain_index(const std::vector<double>& shares);

// How the tokens of an answer were counted, where an event may carry more or less than one.
enum class TokenCount : std::uint8_t {
  kUsage,   // the server said (usage, llama.cpp's timings)
  kLength,  // the answer ended by "length": max_tokens, by definition
  kEvents,  // as many as there were events with text: a guess when a server sends several in one
};

// One request in flight, filled in by its transport.
struct Progress {
  std::size_t index = 0;  // in the plan
  std::int32_t tenant = 0;
  TimePoint intended{}, sent{}, first{}, last{};
  int events = 0;  // with tokens
  int event_tokens = 0;
  int prompt_tokens = -1, completion_tokens = -1, cached_tokens = -1;
  std::uint64_t hash = kEmptyHash;
  bool listed_ids = false;  // the server listed token ids
  bool finished = false;    // a finish reason came
  bool at_length = false;   // ... and it was "length"
  bool measured = false;
};

struct Outcome {  // of one request, for --requests-out
  std::size_t index = 0;
  std::int32_t tenant = 0;
  double intended_s = 0.0, lag_ms = 0.0, ttft_ms = 0.0, e2e_ms = 0.0;
  int output_tokens = 0, cached_tokens = 0;
  std::uint64_t hash = 0;
  std::string error;  // empty: ended well; "cancelled": by the client
};

struct Live {
  std::atomic<std::uint64_t> sent{0}, completed{0}, failed{0}, tokens{0}, in_flight{0};
};

struct RecorderOptions {
  TimePoint start{};
  double warmup_s = 0.0;
  double end_s = 0.0;  // of the window; 0: it ends with the last request
  Slo slo;
  std::size_t num_tenants = 1;
  bool keep_outcomes = false;
};

class Recorder final {
 public:
  Recorder(const RecorderOptions& options, Live& live);

  // The request goes out now. Sets the progress's times.
  void on_sent(Progress& progress, TimePoint intended, TimePoint now);
  // An event with `tokens` new tokens came.
  void on_tokens(Progress& progress, int tokens, TimePoint now);
  // The request for `max_tokens` is over. `error` is its kind, empty when it ended well;
  // "cancelled" is the client's own doing. `exact`: other than max_tokens are "lost tokens".
  void on_end(const Progress& progress, std::string error, int max_tokens, bool exact,
              TimePoint now);

  const Measures& measures() const { return measures_; }
  const std::vector<Outcome>& outcomes() const { return outcomes_; }

 private:
  double seconds_since_start(TimePoint time) const;
  SecondBin& bin(double seconds);
  bool in_window(double seconds) const;
  bool good(const Progress& progress, int tokens, TimePoint now) const;
  void record_success(const Progress& progress, int tokens, TokenCount counted, TimePoint now);
  void keep_sample(const Progress& progress);

  RecorderOptions options_;
  Live& live_;
  Measures measures_;
  std::vector<Outcome> outcomes_;
  std::size_t sample_every_ = 1;
  std::size_t samples_seen_ = 0;
};

}  // namespace latentd::loadtest
