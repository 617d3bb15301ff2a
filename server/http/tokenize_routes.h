// POST /tokenize and /detokenize, with the keys that clients of vLLM and of llama.cpp's server
// know.
//
//   /tokenize    vLLM: {"prompt" or "messages", "add_special_tokens", "return_token_strs"}
//                llama.cpp: {"content", "add_special", "with_pieces"}
//                -> {"count", "max_model_len", "tokens", "token_strs"}; with_pieces: tokens are
//                {"id", "piece"}, the piece a text or, when it is none, a list of bytes
//   /detokenize  {"tokens"} -> {"prompt", "content"}, both the same text, special tokens included
//
// A prompt gets the special tokens of tokenizer.json unless told otherwise; a content and a
// rendered conversation do not.
//
// Contract: pure functions; on the text pool. Errors: kInvalidArgument, kNotFound (model).
#pragma once

#include <string_view>

#include "base/result.h"
#include "server/http/reply.h"
#include "server/serving_model.h"

namespace latentd {

Result<HttpReply> answer_tokenize(std::string_view body, const ServingModel& model);
Result<HttpReply> answer_detokenize(std::string_view body, const ServingModel& model);

}  // namespace latentd
