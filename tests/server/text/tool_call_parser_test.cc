#include "server/text/tool_call_parser.h"

#include <gmock/gmock.h>

#include <random>
#include <vector>

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Call {
  std::string id;
  std::string name;
  std::string arguments;
  friend bool operator==(const Call&, const Call&) = default;
  friend void PrintTo(const Call& call, std::ostream* out) {
    *out << call.id << ' ' << call.name << '(' << call.arguments << ')';
  }
};

struct Read {
  std::string content;
  std::vector<Call> calls;
};

const ToolCallFormat& format(std::string_view chat_template) {
  const ToolCallFormat* found = tool_call_format_of(chat_template);
  EXPECT_NE(found, nullptr) << chat_template;
  return found == nullptr ? forced_call_format() : *found;
}

// Signs of real templates.
constexpr std::string_view kHermes = R"(<tool_call>\n{"name": <function-name>, "arguments": ...)";
constexpr std::string_view kDeepSeek = "<｜tool▁sep｜>' + name + '\\n' + '```json'";
constexpr std::string_view kDeepSeek31 = "name + '<｜tool▁sep｜>' + arguments";
constexpr std::string_view kKimi = "<|tool_calls_section_begin|>";
constexpr std::string_view kGlm = "<tool_call>{name}\n<arg_key>";
constexpr std::string_view kLlama =
    R"({"name": function name, "parameters": dictionary of argument name and its value})";

constexpr std::string_view kQwenCoder = "<tool_call>\\n<function=' + name + '>\\n<parameter=' ";
constexpr std::string_view kMiniCpm = "{{- '<|tool_call_start|>\\n```python\\n' }}";

class ToolCallParserTest : public ::testing::Test {
 protected:
  static std::vector<ToolSignature> tools() { return {{"f", {"city", "zip"}}, {"g", {}}}; }

  static void add(const ToolCallParser::Parts& parts, Read& all) {
    all.content += parts.content;
    for (const ToolCallDelta& delta : parts.calls) {
      const auto index = static_cast<std::size_t>(delta.index);
      EXPECT_EQ(delta.name.empty(), index < all.calls.size()) << "id and name come first, once";
      EXPECT_EQ(delta.id.empty(), delta.name.empty());
      if (index >= all.calls.size()) all.calls.resize(index + 1);
      all.calls[index].id += delta.id;
      all.calls[index].name += delta.name;
      all.calls[index].arguments += delta.arguments;
    }
  }

  // In one piece, byte by byte, and in random pieces: always the same.
  static Read read(std::string_view chat_template, std::string_view text, bool parallel = true) {
    const ToolCallFormat& how =
        chat_template.empty() ? forced_call_format() : format(chat_template);
    const auto run = [&](const auto& next_size) {
      ToolCallParser parser(how, tools(), "call_", parallel);
      Read all;
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t size = std::min<std::size_t>(next_size(), text.size() - at);
        add(parser.push(text.substr(at, size)), all);
        at += size;
      }
      add(parser.finish(), all);
      return all;
    };
    const Read whole = run([&] { return text.size(); });
    const Read bytes = run([] { return 1; });
    std::mt19937 random(20261124);
    const Read pieces = run([&] { return 1 + random() % 7; });
    EXPECT_EQ(bytes.content, whole.content);
    EXPECT_EQ(bytes.calls, whole.calls);
    EXPECT_EQ(pieces.content, whole.content);
    EXPECT_EQ(pieces.calls, whole.calls);
    return whole;
  }
};

TEST_F(ToolCallParserTest, ReadsHermes) {
  const Read got = read(kHermes,
                        "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": "
                        "\"a } b \\\" </tool_call\"}}\n</tool_call>\n<tool_call>\n{\"arguments\": "
                        "{\"x\": [1, {}]}, \"name\": \"g\"}\n</tool_call>");
  EXPECT_EQ(got.content, "Let me see.");
  EXPECT_THAT(got.calls, ElementsAre(Call{"call_0", "f", R"({"city": "a } b \" </tool_call"})"},
                                     Call{"call_1", "g", R"({"x": [1, {}]})"}));
}

TEST_F(ToolCallParserTest, ReadsArgumentsThatAreStringsAbsentOrNull) {
  EXPECT_THAT(
      read(kHermes, R"(<tool_call>{"name":"f","arguments":"{\"a\": \"\u00e9\"}"}</tool_call>)")
          .calls,
      ElementsAre(Call{"call_0", "f", R"({"a": "é"})"}));
  EXPECT_THAT(read(kHermes, R"(<tool_call>{"name": "f"}</tool_call>)").calls,
              ElementsAre(Call{"call_0", "f", "{}"}));
  EXPECT_THAT(read(kHermes, R"(<tool_call>{"name": "f", "arguments": null}</tool_call>)").calls,
              ElementsAre(Call{"call_0", "f", "{}"}));
}

TEST_F(ToolCallParserTest, ReadsDeepSeek) {
  const Read got = read(
      kDeepSeek,
      "Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
      "{\"city\": \"Ulm\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n"
      "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
  EXPECT_EQ(got.content, "Sure.");
  EXPECT_THAT(got.calls,
              ElementsAre(Call{"call_0", "f", R"({"city": "Ulm"})"}, Call{"call_1", "g", "{}"}));
  const Read newer =
      read(kDeepSeek31,
           "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}"
           "<｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜tool▁sep｜><｜tool▁call▁end｜>"
           "<｜tool▁calls▁end｜>");
  EXPECT_EQ(newer.content, "");
  EXPECT_THAT(newer.calls,
              ElementsAre(Call{"call_0", "f", R"({"a": 1})"}, Call{"call_1", "g", "{}"}));
}

TEST_F(ToolCallParserTest, ReadsKimiAndKeepsItsIdentifiers) {
  const Read got = read(
      kKimi,
      "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:3<|tool_call_argument_begin|>"
      "{\"city\": \"Ulm\"}<|tool_call_end|><|tool_call_begin|>functions.g:4"
      "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>");
  EXPECT_EQ(got.content, "");
  EXPECT_THAT(got.calls, ElementsAre(Call{"functions.f:3", "f", R"({"city": "Ulm"})"},
                                     Call{"functions.g:4", "g", "{}"}));
}

TEST_F(ToolCallParserTest, ReadsGlmWithTheTypesOfTheTool) {
  const Read got =
      read(kGlm,
           "Hm.\n<tool_call>f\n<arg_key>city</arg_key>\n<arg_value>Ulm \"x\"</arg_value>"
           "\n<arg_key>zip</arg_key>\n<arg_value>89073</arg_value>\n<arg_key>n</arg_key>"
           "\n<arg_value>[1, 2]</arg_value>\n<arg_key>s</arg_key>\n"
           "<arg_value>no json</arg_value>\n</tool_call>\n<tool_call>g</tool_call>");
  EXPECT_EQ(got.content, "Hm.");
  EXPECT_THAT(
      got.calls,
      ElementsAre(Call{"call_0", "f",
                       R"({"city": "Ulm \"x\"", "zip": "89073", "n": [1, 2], "s": "no json"})"},
                  Call{"call_1", "g", "{}"}));
}

TEST_F(ToolCallParserTest, ReadsQwenCodersTagsWithTheTypesOfTheTool) {
  const Read got =
      read(kQwenCoder,
           "I look.\n<tool_call>\n<function=f>\n<parameter=city>\nUlm\n\nA < B\n"
           "</parameter>\n<parameter=zip>\n89073\n</parameter>\n<parameter=n>\n[1, 2]\n"
           "</parameter>\n<parameter=s>\nno json\n</parameter>\n</function>\n</tool_call>"
           "\n<tool_call>\n<function=g>\n</function>\n</tool_call>");
  EXPECT_EQ(got.content, "I look.");
  EXPECT_THAT(got.calls,
              ElementsAre(Call{"call_0", "f",
                               R"({"city": "Ulm\n\nA < B", "zip": "89073", "n": [1, 2], )"
                               R"("s": "no json"})"},
                          Call{"call_1", "g", "{}"}));
  for (const char* text : {"<tool_call>\n{\"name\": \"f\"}\n</tool_call>",
                           "<tool_call><function=></function></tool_call>",
                           "a <tool_call><function=f><parameter=k", "<tool_call>"}) {
    EXPECT_EQ(read(kQwenCoder, text).content, text);
  }
}

TEST_F(ToolCallParserTest, ReadsMiniCpmsPython) {
  const Read got = read(kMiniCpm,
                        "<|tool_call_start|>\n```python\nf(city=\"Ulm\",zip='89\\'073')\n"
                        "g(a=[1, -2.5, True, None], b={'k': (1e3,), \"l\": false}, c=Unit.metric, "
                        "d=Place(name=\"\\u00fc\\n\"))\nns.h()\n```\n<|tool_call_end|>\nDone.");
  EXPECT_EQ(got.content, "\nDone.");
  EXPECT_THAT(got.calls,
              ElementsAre(Call{"call_0", "f", R"({"city": "Ulm", "zip": "89'073"})"},
                          Call{"call_1", "g",
                               R"({"a": [1, -2.5, true, null], "b": {"k": [1e3], "l": false}, )"
                               R"("c": "metric", "d": {"name": "ü\n"}})"},
                          Call{"call_2", "ns.h", "{}"}));
}

TEST_F(ToolCallParserTest, TakesNothingElseForMiniCpmsPython) {
  const auto fenced = [](const std::string& code) {
    return "<|tool_call_start|>\n```python\n" + code + "\n```\n<|tool_call_end|>";
  };
  const std::string deep(100, '[');
  for (const std::string& code :
       {std::string("f(1)"), std::string("f(a=)"), std::string("f(a=1"), std::string("f"),
        std::string("import os"), std::string("f(a='x)"), std::string("f(a=\"\\ud800\")"),
        std::string("f(a=1+2)"), std::string("f(a=1) or g()"), "f(a=" + deep + ")",
        std::string("f(a={1: 2})"), std::string("")}) {
    const Read got = read(kMiniCpm, fenced(code));
    EXPECT_EQ(got.content, fenced(code));
    EXPECT_THAT(got.calls, IsEmpty()) << code;
  }
  EXPECT_EQ(read(kMiniCpm, "<|tool_call_start|>\n```python\nf(a=1").content,
            "<|tool_call_start|>\n```python\nf(a=1");
}

TEST_F(ToolCallParserTest, ReadsLlamaOnlyWhenTheToolIsKnown) {
  EXPECT_THAT(read(kLlama, R"( {"name": "f", "parameters": {"city": "Ulm"}})").calls,
              ElementsAre(Call{"call_0", "f", R"({"city": "Ulm"})"}));
  EXPECT_THAT(read(kLlama, R"(<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g"})").calls,
              ElementsAre(Call{"call_0", "f", "{}"}, Call{"call_1", "g", "{}"}));
  for (const char* text :
       {R"({"name": "Ada", "age": 3})", R"({"age": [3]})", "[1, 2]", "no", R"( {"a)"}) {
    const Read got = read(kLlama, text);
    EXPECT_EQ(got.content, text);
    EXPECT_THAT(got.calls, IsEmpty());
  }
}

TEST_F(ToolCallParserTest, ReadsForcedLists) {
  EXPECT_THAT(
      read("", R"([{"name":"f","arguments":{"city":"]"}}, {"name":"g","arguments":{}}])").calls,
      ElementsAre(Call{"call_0", "f", R"({"city":"]"})"}, Call{"call_1", "g", "{}"}));
}

TEST_F(ToolCallParserTest, DropsLaterCallsWhenTheyMayNotBeParallel) {
  const Read got = read("", R"([{"name":"f","arguments":{}},{"name":"g","arguments":{"a":1}}])",
                        /*parallel=*/false);
  EXPECT_THAT(got.calls, ElementsAre(Call{"call_0", "f", "{}"}));
}

TEST_F(ToolCallParserTest, WhatIsNoCallStaysContent) {
  for (const std::string_view chat_template :
       {kHermes, kDeepSeek, kKimi, kGlm, kQwenCoder, kMiniCpm}) {
    for (const char* text :
         {"plain", "", " \n ", "a < b <tool", "x <tool_cal y\n\n", "{\"name\": 1}",
          "<｜tool▁calls▁begi", "  <|tool_call", "a\n\n b \n"}) {
      const Read got = read(chat_template, text);
      EXPECT_EQ(got.content, text);
      EXPECT_THAT(got.calls, IsEmpty());
    }
  }
  for (const char* text :
       {"<tool_call>not json</tool_call>", "a <tool_call>{\"nom\": \"f\"}</tool_call> b",
        "<tool_call>{\"name\": 3}</tool_call>", "<tool_call>", "<tool_call>\n{\"na"}) {
    EXPECT_EQ(read(kHermes, text).content, text);
  }
  EXPECT_EQ(read(kKimi, "<|tool_calls_section_begin|>text").content,
            "<|tool_calls_section_begin|>text");
  EXPECT_EQ(read(kGlm, "<tool_call>two words\n<arg_key>").content,
            "<tool_call>two words\n<arg_key>");
}

TEST_F(ToolCallParserTest, ACutTextLeavesCutArguments) {
  EXPECT_THAT(read(kHermes, R"(<tool_call>{"name": "f", "arguments": {"city": "U)").calls,
              ElementsAre(Call{"call_0", "f", R"({"city": "U)"}));
  EXPECT_THAT(
      read(kGlm, "<tool_call>f\n<arg_key>zip</arg_key>\n<arg_value>1</arg_value>\n<arg").calls,
      ElementsAre(Call{"call_0", "f", R"({"zip": "1")"}));
}

TEST_F(ToolCallParserTest, ArgumentsStream) {
  ToolCallParser parser(format(kHermes), tools(), "call_", true);
  EXPECT_THAT(parser.push(R"(<tool_call>{"name": "f", "argum)").calls, testing::SizeIs(1));
  EXPECT_EQ(parser.push(R"(ents": {"ci)").calls.at(0).arguments, R"({"ci)");
  EXPECT_EQ(parser.push(R"(ty": 1}})").calls.at(0).arguments, R"(ty": 1})");
  EXPECT_THAT(parser.push("</tool_call> \n").calls, IsEmpty());
  EXPECT_EQ(parser.finish().content, "");
}

TEST_F(ToolCallParserTest, ContentMayFollowACall) {
  const Read got = read(kHermes, R"(a <tool_call>{"name": "f"}</tool_call> b)");
  EXPECT_EQ(got.content, "a b");
  EXPECT_EQ(got.calls.size(), 1U);
}

TEST(ToolCallFormat, IsReadOffTheTemplate) {
  EXPECT_EQ(format(kDeepSeek).name, "deepseek_v3");
  EXPECT_EQ(format(kDeepSeek31).name, "deepseek_v3_1");
  EXPECT_EQ(format(kKimi).name, "kimi_k2");
  EXPECT_EQ(format(kGlm).name, "glm4");
  EXPECT_EQ(format(kHermes).name, "hermes");
  EXPECT_EQ(format(kLlama).name, "llama3_json");
  EXPECT_EQ(format(kQwenCoder).name, "qwen3_coder");
  EXPECT_EQ(format(kMiniCpm).name, "minicpm3");
  EXPECT_EQ(tool_call_format_of("{% for m in messages %}{{ m.content }}{% endfor %}"), nullptr);
}

}  // namespace
}  // namespace latentd
