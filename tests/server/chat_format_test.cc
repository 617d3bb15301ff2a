#include "server/chat_format.h"

#include <gmock/gmock.h>

#include "server/chat_messages.h"
#include "server/json_value.h"
#include "tests/server/test_model.h"

namespace latentd {
namespace {

using ::testing::HasSubstr;
using testing::load_chat_format;

ChatPrompt prompt_of(std::string_view messages, std::string_view tools = "null") {
  ChatPrompt prompt;
  EXPECT_EQ(read_messages(value_of_json(messages), prompt), ok_status());
  EXPECT_EQ(read_tools(value_of_json(tools), prompt), ok_status());
  return prompt;
}

std::string render(const ChatFormat& format, const ChatPrompt& prompt) {
  auto text = format.render(prompt);
  EXPECT_TRUE(text.ok()) << text.status().to_string();
  return text.ok() ? *text : "";
}

constexpr std::string_view kHello = R"([{"role": "user", "content": "hello"}])";
constexpr std::string_view kTool =
    R"([{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}}}])";

TEST(ChatFormat, KnowsTheSpecialTokensInBothSpellings) {
  const auto format = load_chat_format(
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
          "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"})");
  ASSERT_TRUE(format.ok()) << format.status().to_string();
  EXPECT_EQ(render(**format, prompt_of(kHello)), "<s>hello</s>");
}

TEST(ChatFormat, PrefersTheTemplateFile) {
  const auto format =
      load_chat_format(R"({"bos_token": "<s>", "chat_template": "config"})", "file{{ bos_token }}");
  ASSERT_TRUE(format.ok());
  EXPECT_EQ(render(**format, prompt_of(kHello)), "file<s>");
}

TEST(ChatFormat, ChoosesAmongNamedTemplatesByWhetherThereAreTools) {
  const auto format = load_chat_format(
      R"({"chat_template": [{"name": "default", "template": "plain"},
                            {"name": "tool_use", "template": "{{ tools | tojson }}"}]})");
  ASSERT_TRUE(format.ok());
  EXPECT_EQ(render(**format, prompt_of(kHello)), "plain");
  EXPECT_EQ(render(**format, prompt_of(kHello, kTool)), kTool);  // keys in the order they came
}

TEST(ChatFormat, SaysWhyThereIsNone) {
  EXPECT_EQ(load_chat_format("{}").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(load_chat_format(R"({"chat_template": null})").status().code(), StatusCode::kNotFound);
  for (const char* config : {R"({"chat_template": 3})", R"({"chat_template": [3]})",
                             R"({"chat_template": [{"name": "default"}]})", "[]", "{",
                             R"({"chat_template": "{% if %}"})"}) {
    EXPECT_EQ(load_chat_format(config).status().code(), StatusCode::kInvalidArgument) << config;
  }
}

TEST(ChatFormat, PassesOnWhatTheTemplateRefuses) {
  const auto format =
      load_chat_format(R"({"chat_template": "{{ raise_exception('roles must alternate') }}"})");
  ASSERT_TRUE(format.ok());
  const Status status = (*format)->render(prompt_of(kHello)).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.field(), "messages");
  EXPECT_THAT(status.message(), HasSubstr("roles must alternate"));
}

TEST(ChatFormat, EndlessTemplatesAreTheModelsFaultNotTheQueues) {
  const auto format = load_chat_format(
      R"({"chat_template": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"})");
  ASSERT_TRUE(format.ok());
  EXPECT_EQ((*format)->render(prompt_of(kHello)).status().code(), StatusCode::kInvalidArgument);
}

TEST(ChatFormat, GivesArgumentsAsObjectsOrAsTextsToTemplatesThatWantThem) {
  constexpr std::string_view kCalls =
      R"([{"role": "assistant", "tool_calls": [{"type": "function",
           "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2.0]}"}}]}])";
  const auto objects = load_chat_format(
      R"({"chat_template": "{{ messages[0].tool_calls[0].function.arguments.b }}"})");
  EXPECT_EQ(render(**objects, prompt_of(kCalls)), "1");
  const auto texts = load_chat_format(
      R"({"chat_template": "{{ 'x' + messages[0].tool_calls[0].function.arguments }}"})");
  EXPECT_EQ(render(**texts, prompt_of(kCalls)), R"(x{"b": 1, "a": [2.0]})");
}

TEST(ChatFormat, GoesOnInsideTheFinalMessage) {
  const auto format = load_chat_format(
      R"({"chat_template": "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}<end>{% endfor %}"})");
  ASSERT_TRUE(format.ok());
  ChatPrompt prompt = prompt_of(
      R"([{"role": "user", "content": "go"}, {"role": "assistant", "content": " Once upon "}])");
  prompt.add_generation_prompt = false;
  prompt.continue_final_message = true;
  EXPECT_EQ(render(**format, prompt), "<user>go<end><assistant>Once upon");

  const auto untrimmed =
      load_chat_format(R"({"chat_template": "{{ messages[-1].content }}<end>"})");
  EXPECT_EQ(render(**untrimmed, prompt), " Once upon ");

  const auto without = load_chat_format(R"({"chat_template": "nothing"})");
  EXPECT_EQ((*without)->render(prompt).status().field(), "continue_final_message");
}

TEST(ChatFormat, ModelsWhoseTemplatesTellThoughtsFromAnswersThinkAloud) {
  const auto marks = [](std::string_view config) {
    return std::string((*load_chat_format(config))->thoughts()->open);
  };
  EXPECT_EQ(marks(R"({"chat_template": "{{ m.split('</think>')[-1] }}"})"), "<think>");
  EXPECT_EQ(marks(R"({"chat_template": "{{ m + '<|thought_end|>' }}"})"), "<|thought_start|>");
  EXPECT_EQ((*load_chat_format(R"({"chat_template": "{{ messages }}"})"))->thoughts(), nullptr);
}

}  // namespace
}  // namespace latentd
