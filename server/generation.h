// Generation: one validated request on its way back: engine events in, what a client hears out.
//
// Detokenises, matches stop strings, counts usage. Tokens after a stop string are dropped and
// unbilled, and the engine is told to stop. A request of n choices and p prompts is n x p engine
// requests, choice c's being request_id(id, c); its choices belong to prompt c / n.
//
// Contract: used by one thread at a time, its egress thread. `model` and `metrics` outlive it.
// Offsets count Unicode characters.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "scheduler/scheduler.h"
#include "server/generation_request.h"
#include "server/intake.h"
#include "server/text/detokenizer.h"
#include "server/text/stop_matcher.h"

namespace latentd {

class Metrics;

using GenerationId = StrongId<struct GenerationIdTag, std::uint64_t>;

inline RequestId request_id(GenerationId id, int choice) {
  return RequestId(id.value() * kMaxChoices + static_cast<std::uint64_t>(choice));
}
inline GenerationId generation_of(RequestId id) { return GenerationId(id.value() / kMaxChoices); }
inline int choice_of(RequestId id) { return static_cast<int>(id.value() % kMaxChoices); }

struct TokenPiece {
  TokenLogprob token;
  std::vector<TokenLogprob> top;  // most likely first, when asked for
  int text_offset = 0;            // characters of generated text before it
};

enum class FinishKind : std::uint8_t { kStop, kLength, kCancelled };

struct Finish {
  FinishKind kind = FinishKind::kStop;
  std::string stop_string;  // that ended the choice, if one did
  TokenId stop_token = -1;  // likewise
};

// What is new of one choice. Text may lag behind the tokens.
struct ChoiceDelta {
  int choice = 0;
  std::string text;
  std::vector<TokenPiece> tokens;
  std::vector<TokenPiece> prompt_tokens;  // logprobs of prompt tokens 1 .. n - 1, when asked for
  std::optional<Finish> finish;
};

// What a generation took of the server, final with its last update.
struct Cost {
  double queue_seconds = 0.0;        // from arrival to the first slot
  double first_token_seconds = 0.0;  // from arrival to the first token; 0 when none came
  double prefill_seconds = 0.0;      // from a slot to its first token; the slowest choice's
  double decode_seconds = 0.0;       // from the first token to the end; the slowest choice's
  std::int64_t steps = 0;            // of the engine, for each choice that had a part in them
  // Cache held over time: each choice's tokens from when they were there to its end, as if nothing
  // were shared.
  double kv_byte_seconds = 0.0;
};

struct Usage {
  int prompt_tokens = 0;  // each prompt once, however many choices it has
  int completion_tokens = 0;
  int cached_tokens = 0;
  Cost cost = {};
  std::vector<FinishKind> finishes = {};  // of each choice; with the last update, if none failed
};

struct GenerationUpdate {
  std::vector<ChoiceDelta> choices;  // at most one a choice
  bool done = false;                 // the last update; usage is final
  Status error;                      // done, and the whole generation failed
  Usage usage;
};

// Called on an egress thread, in order; must not block.
using UpdateSink = std::function<void(GenerationUpdate update)>;

class Generation final {
 public:
  // REQUIRES: StopMatcher takes the request's stop strings (validate has seen to it).
  Generation(GenerationId id, PreparedGeneration prepared, const ServingModel& model,
             Metrics& metrics, IntakeSlot slot, UpdateSink sink, TimePoint arrival);

  GenerationId id() const { return id_; }

  // Applies one event of `choice`. Ids of engine requests that have to be cancelled for it are
  // appended to `cancels`.
  void on_event(int choice, Event& event, TimePoint now, std::vector<RequestId>& cancels);

  // The client is no longer interested, or somebody aborted it.
  void cancel(std::vector<RequestId>& cancels);

  // Hands the sink what came since the last call, if anything.
  void flush();

  // Every engine request has finished: nothing more comes.
  bool over() const { return engine_unfinished_ == 0; }

 private:
  struct Choice {
    Choice(const ServingModel& model, const GenerationRequest& request);

    Detokenizer detokenizer;
    StopMatcher stops;
    int generated = 0;
    int steps = 0;
    int text_chars = 0;            // detokenised so far
    TokenId held_stop_token = -1;  // a stop token: text only if the choice goes on after it
    bool started = false;
    bool finished = false;  // as far as the client hears
    FinishKind finish = FinishKind::kStop;
    bool engine_finished = false;  // kFinished came
    TimePoint admitted{};
    TimePoint first_token{};
    TimePoint last_token{};
    double token_seconds = 0.0;  // generated tokens, each from its arrival to last_token
    ChoiceDelta delta;
    bool touched = false;  // delta holds something
  };

  void on_started(int choice, const Event& event, TimePoint now);
  void on_token(int choice, Event& event, TimePoint now, std::vector<RequestId>& cancels);
  void on_finished(int choice, Event& event, TimePoint now, std::vector<RequestId>& cancels);
  void add_text(int choice, TokenId token);
  void add_cost(const Choice& state, TimePoint now);
  void finish_choice(int choice, Finish finish, TimePoint now);
  void fail(Status error, TimePoint now, std::vector<RequestId>& cancels);
  bool is_stop_token(TokenId token) const;

  const GenerationId id_;
  Metrics& metrics_;
  const double kv_bytes_per_token_;
  IntakeSlot slot_;
  UpdateSink sink_;
  const TimePoint arrival_;
  const GenerationRequest request_;  // without its prompts
  std::vector<TokenId> stop_tokens_;
  std::vector<int> prompt_tokens_;  // of each prompt
  std::vector<Choice> choices_;
  Usage usage_;
  Status error_;
  bool anything_started_ = false;
  bool cancelled_ = false;
  bool told_done_ = false;
  int unfinished_ = 0;
  int engine_unfinished_ = 0;
};

}  // namespace latentd
