// The fields of a body that every route to a generation has.
//
// As in OpenAI's API, and those that vLLM adds: top_k, min_p, repetition_penalty, stop_token_ids,
// min_tokens, ignore_eos, include_stop_str_in_output, skip_special_tokens, allowed_token_ids,
// bad_words, prompt_logprobs, add_special_tokens, return_token_ids, priority, cache_salt; and our
// own: cost_report.
//
// Contract: plain values; what is wrong becomes the fault of `fields`. Types are checked here, the
// rest by validate.
#pragma once

#include <span>
#include <string_view>

#include "server/generation_request.h"
#include "server/http/json_fields.h"

namespace latentd {

// How the answer goes out.
struct OutputFields {
  bool stream = false;
  bool include_usage = false;     // stream_options: usage after the last choice
  bool continuous_usage = false;  // stream_options: usage in every event
  bool return_token_ids = false;
  bool cost = false;  // cost_report: what it has cost, in usage
};

// All but prompts, lengths by default and logprobs.
void read_generation_fields(JsonFields& fields, GenerationRequest& generation);

void read_output_fields(JsonFields& fields, OutputFields& output);

// response_format: text, json_object (llama.cpp's `schema` in it too) or json_schema. `text` is the
// JSON of the object behind `fields`: a schema's properties keep their order.
void read_response_format(JsonFields& fields, std::string_view text, GenerationRequest& generation);

// As vLLM's: of whole answers alone. REQUIRES: read_output_fields came first.
void read_prompt_logprobs(JsonFields& fields, const OutputFields& output,
                          GenerationRequest& generation);

// A field that would change the answer and is not implemented: better refused than ignored.
struct RefusedField {
  const char* name;
  const char* why;
};

// A fault for the first of `refused` that asks for something: null, false, "" and empty lists and
// objects ask for nothing.
void check_refused(JsonFields& fields, std::span<const RefusedField> refused);

// What no route does.
inline constexpr RefusedField kRefusedEverywhere[] = {
    {"use_beam_search", "is not supported"},
    {"logits_processors", "is not supported: no code of a client's is run"},
    {"truncate_prompt_tokens", "is not supported: send what fits into the context"},
    {"guided_json", "is not supported: use response_format"},
    {"guided_regex", "is not supported"},
    {"guided_choice", "is not supported"},
    {"guided_grammar", "is not supported"},
    {"structured_outputs", "is not supported: use response_format"},
};

}  // namespace latentd
