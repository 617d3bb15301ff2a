// ServingModel: what the doors know of the model that is served. EnginePort: how they reach its
// engine.
//
// Contract: built once the engine is loaded, immutable from then on; any thread. The port is a few
// functions, so that the doors are tested without weights.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "scheduler/request.h"
#include "server/chat_format.h"
#include "server/request_limits.h"
#include "server/text/schema/structured_output.h"
#include "server/text/tokenizer.h"

namespace latentd {

struct EnginePort {
  // As Engine::submit, cancel, stats, page_map and watch_prefixes.
  std::function<Status(std::unique_ptr<Request>)> submit;
  std::function<void(RequestId, FinishReason)> cancel;
  std::function<EngineStats()> stats;
  std::function<PageMap()> page_map = [] { return PageMap(); };
  std::function<void(PrefixSink)> watch_prefixes = [](const PrefixSink&) {};
};

struct ServingModel {
  std::filesystem::path directory;
  std::vector<std::string> names;  // at least one; the first is what answers call it
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const ChatFormat> chat;        // null: no conversations
  std::string why_no_chat;                       // then
  std::unique_ptr<StructuredOutput> structured;  // locks for itself
  ModelConfig config;
  EngineInfo info;
  GenerationDefaults defaults;          // unset fields when the operator said to ignore the file
  std::vector<TokenId> end_tokens;      // of config.json and generation_config.json together
  std::size_t longest_token_bytes = 1;  // no token stands for more bytes of text
  RequestLimits limits;
  int default_max_tokens = 4096;  // of calls that set none and have no default of their own
  std::int64_t created_unix = 0;  // when it was loaded

  const std::string& name() const { return names.front(); }
  bool is_called(const std::string& model) const;
};

// The prompt of a conversation. kInvalidArgument, also when the model has no chat template.
Result<std::string> render_chat(const ChatPrompt& chat, const ServingModel& model);

// The union of both end-of-text lists, sorted.
std::vector<TokenId> end_tokens_of(const ModelConfig& config, const GenerationDefaults& defaults);

// The longest of all tokens' bytes, for rejecting a prompt that can never fit unread.
std::size_t longest_token_bytes(const Tokenizer& tokenizer);

}  // namespace latentd
