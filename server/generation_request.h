// GenerationRequest: what a client asked for, behind whichever door. validate and prepare are the
// one validator.
//
// Errors name the field as both doors spell it, the limit and what was given:
//   kInvalidArgument  a field is wrong
//   kOutOfRange       prompt and max_tokens are longer than the context (HTTP: 400 with the code
//                     context_length_exceeded; gRPC: INVALID_ARGUMENT)
//   kNotFound         no model of that name
//
// Contract: plain values; functions are pure and safe from any thread. prepare tokenises: never on
// a door's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "scheduler/request.h"
#include "server/request_limits.h"
#include "server/serving_model.h"
#include "server/tool_use.h"

namespace latentd {

inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopBytes = 256;
inline constexpr int kMaxStopTokens = 128;
inline constexpr int kMaxLogitBias = 300;
inline constexpr int kMaxAllowedTokens = 4096;
inline constexpr int kMaxCacheSalt = 256;  // bytes
inline constexpr int kMaxBadWords = 128;
inline constexpr int kMaxBadWordBytes = 256;

// A text, token ids that are taken as they are, or a conversation that the model's template
// renders.
using Prompt = std::variant<std::string, std::vector<TokenId>, ChatPrompt>;

// What the text has to be. Choices that are cut by max_tokens are the start of that.
enum class OutputFormat : std::uint8_t { kText, kJsonObject, kJsonSchema };

struct GenerationRequest {
  std::string model;  // empty: the one that is served
  std::vector<Prompt> prompts;
  bool is_conversation = false;    // prepare sets it: the prompts were no texts
  bool add_special_tokens = true;  // around texts, as tokenizer.json says
  int n = 1;

  std::optional<int> max_tokens;
  int default_max_tokens = 16;  // when max_tokens is unset, as far as the context reaches
  int min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_in_output = false;

  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::optional<std::uint64_t> seed;
  std::vector<std::pair<TokenId, double>> logit_bias;
  std::optional<std::vector<TokenId>> allowed_token_ids;  // no other is drawn
  std::vector<std::string> bad_words;  // never written, with or without a space before

  OutputFormat format = OutputFormat::kText;
  std::string json_schema;  // of kJsonSchema: its JSON text
  ToolUse tool_use;         // of a conversation

  int logprobs = -1;         // -1: none
  int prompt_logprobs = -1;  // likewise
  bool skip_special_tokens = true;

  std::string cache_salt;  // cached prompts are shared among equal ones alone
  int priority = 0;
  TimePoint deadline = kNever;
};

// kNotFound unless the model is called so; the empty name is any model's.
Status check_model_name(const std::string& name, const ServingModel& model);

// kInvalidArgument unless the model has logits for `token`.
Status check_token_id(std::string_view field, TokenId token, const ServingModel& model);

// All that can be said before the prompts are tokens.
Status validate(const GenerationRequest& request, const ServingModel& model);

// A request whose prompts are tokens and known to fit.
struct PreparedGeneration {
  struct Input {
    std::vector<TokenId> tokens;
    int max_new_tokens = 0;
  };

  GenerationRequest request;  // `prompts` as given, but conversations as their texts
  std::vector<Input> inputs;  // one a prompt
  std::vector<std::unique_ptr<TokenConstraint>> constraints;  // one a choice, or none at all

  int num_choices() const { return static_cast<int>(inputs.size()) * request.n; }
  int input_of(int choice) const { return choice / request.n; }
};

// The fields that hold a text to certain tokens leave none after `generated` tokens: names them.
Status nothing_to_draw(const GenerationRequest& request, int generated);

// Validates, renders, tokenises, checks lengths, compiles the schema and sees that there is a first
// token to draw.
Result<PreparedGeneration> prepare(GenerationRequest request, const ServingModel& model);

// The engine's request for one choice; takes that choice's constraint. `random_seed` serves a
// request that names no seed.
std::unique_ptr<Request> make_engine_request(PreparedGeneration& prepared,
                                             const ServingModel& model, int choice, RequestId id,
                                             std::uint64_t random_seed);

}  // namespace latentd
