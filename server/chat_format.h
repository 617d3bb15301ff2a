// ChatFormat: how a model wants a conversation written, as published with it.
//
// The template is `chat_template.jinja`, else `chat_template` of tokenizer_config.json: a text or a
// list of named ones, of which "tool_use" serves conversations with tools and "default" the others.
// It sees messages, tools, documents, add_generation_prompt, what the client adds, and the special
// tokens that tokenizer_config.json names (bos_token, eos_token, ...). What it renders is the whole
// prompt: tokenising it must add nothing.
//
// Contract: immutable; render from any thread, never on a door's.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/text/template/chat_template.h"
#include "server/text/thought_splitter.h"
#include "server/text/tool_call_format.h"

namespace latentd {

// A conversation, checked (server/chat_messages.h).
struct ChatPrompt {
  jinja::Value messages;
  // The same with the arguments of tool calls as JSON texts, for templates that want those;
  // undefined when there are none.
  jinja::Value messages_with_text_arguments;
  jinja::Value tools = jinja::Value::none();
  jinja::Value documents = jinja::Value::none();
  std::vector<std::pair<std::string, jinja::Value>> more;  // chat_template_kwargs
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the prompt ends inside the last message
};

class ChatFormat final {
 public:
  // kNotFound when the directory has no template; kInvalidArgument when it has one that cannot run.
  static Result<std::unique_ptr<const ChatFormat>> load(const std::filesystem::path& model);

  // Errors: kInvalidArgument with the field "messages", whatever the template does not like.
  Result<std::string> render(const ChatPrompt& chat) const;

  // Between what the model thinks aloud. Null when its template tells no thoughts from answers.
  const ThoughtMarks* thoughts() const { return thoughts_; }

  // How the model writes calls of tools. Null when its template shows no way that we know.
  const ToolCallFormat* tool_calls() const { return tool_calls_; }

 private:
  ChatFormat() = default;

  std::vector<std::pair<std::string, jinja::Value>> special_tokens_;
  std::unique_ptr<ChatTemplate> template_;
  std::unique_ptr<ChatTemplate> with_tools_;  // null: the same
  const ThoughtMarks* thoughts_ = nullptr;
  const ToolCallFormat* tool_calls_ = nullptr;
};

}  // namespace latentd
