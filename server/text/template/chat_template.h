// ChatTemplate: the template that turns a conversation into a prompt, as published with a model.
//
// A bounded interpreter of the part of Jinja that such templates use, with the semantics of the
// environment in which `transformers` renders them: jinja2's ImmutableSandboxedEnvironment with
// trim_blocks and lstrip_blocks, loop controls, `tojson` as plain JSON, `raise_exception`,
// `strftime_now`, and `{% generation %}` blocks rendered as they are. Nothing can be reached but
// the values of the context and the built-ins named in builtins.h; nothing of it can be changed.
//
// Contract: immutable once parsed; render from any thread, any number at once. Errors:
//   kInvalidArgument    does not parse, uses what is not supported, or fails on this data: "line
//                       N: what". What the template itself refuses through raise_exception is told
//                       in its own words, without a line.
//   kResourceExhausted  a limit (limits.h), by name.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/text/template/limits.h"
#include "server/text/template/value.h"

namespace latentd {

class ChatTemplate final {
 public:
  static Result<ChatTemplate> parse(std::string_view source, TemplateLimits limits = {});

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `context` is a map: messages, tools, add_generation_prompt, bos_token and so on. `now` is the
  // local time that strftime_now shows; without it that function is an error.
  Result<std::string> render(const jinja::Value& context,
                             const std::optional<std::tm>& now = std::nullopt) const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::unique_ptr<const Parsed> parsed);

  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace latentd
