#include "server/http/chat_request.h"

#include <gmock/gmock.h>

#include "tests/server/test_model.h"

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ChatRequestTest : public ::testing::Test {
 protected:
  Result<PreparedGeneration> prepare_body(std::string_view body) const {
    LATENTD_ASSIGN_OR_RETURN(const ChatRequest request, parse_chat(body));
    return prepare_chat(request, *model_);
  }

  // The text that a request with these messages goes on from.
  std::string rendered(std::string_view messages) const {
    const auto prepared = prepare_body(R"({"messages": )" + std::string(messages) + "}");
    EXPECT_TRUE(prepared.ok()) << prepared.status().to_string();
    return prepared.ok() ? std::get<std::string>(prepared->request.prompts.at(0)) : "";
  }

  // Of a body with one good message and `fields`.
  Status fault_of(std::string_view fields) const {
    return prepare_body(R"({"messages": [{"role": "user", "content": "hi"}], )" +
                        std::string(fields) + "}")
        .status();
  }

  std::unique_ptr<ServingModel> model_ = testing::make_chat_model();
};

TEST_F(ChatRequestTest, ReadsEveryField) {
  const auto request = parse_chat(R"({
    "model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2, "max_tokens": 7,
    "max_completion_tokens": 9, "min_tokens": 1, "temperature": 0.5, "top_p": 0.9, "top_k": 40,
    "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.1,
    "seed": 5, "stop": "a", "stop_token_ids": [3], "logit_bias": {"5": -100}, "logprobs": true,
    "top_logprobs": 3, "ignore_eos": true, "include_stop_str_in_output": true,
    "skip_special_tokens": false, "allowed_token_ids": [7, 8], "return_token_ids": true,
    "stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true},
    "priority": 4, "add_generation_prompt": false, "continue_final_message": true,
    "chat_template_kwargs": {"enable_thinking": false}, "tool_choice": "auto",
    "response_format": {"type": "text"}, "modalities": ["text"], "user": "u", "store": true,
    "metadata": {}, "service_tier": "auto", "prompt_cache_key": "k", "unknown": [1]})");
  ASSERT_TRUE(request.ok()) << request.status().to_string();
  const GenerationRequest& generation = request->generation;
  EXPECT_EQ(generation.model, "m");
  EXPECT_EQ(generation.n, 2);
  EXPECT_EQ(generation.max_tokens, 9);  // the newer spelling wins
  EXPECT_EQ(generation.min_tokens, 1);
  EXPECT_EQ(generation.top_k, 40);
  EXPECT_EQ(generation.seed, 5U);
  EXPECT_THAT(generation.stop, ElementsAre("a"));
  EXPECT_THAT(*generation.allowed_token_ids, ElementsAre(7, 8));
  EXPECT_EQ(generation.logprobs, 3);
  EXPECT_TRUE(generation.ignore_eos && generation.include_stop_in_output);
  EXPECT_FALSE(generation.skip_special_tokens);
  EXPECT_TRUE(request->output.stream && request->output.include_usage);
  EXPECT_TRUE(request->output.continuous_usage && request->output.return_token_ids);
  const auto& prompt = std::get<ChatPrompt>(generation.prompts.at(0));
  EXPECT_FALSE(prompt.add_generation_prompt);
  EXPECT_TRUE(prompt.continue_final_message);
  ASSERT_EQ(prompt.more.size(), 1U);
  EXPECT_EQ(prompt.more[0].first, "enable_thinking");
}

TEST_F(ChatRequestTest, RendersEveryRoleAndBothShapesOfContent) {
  EXPECT_EQ(rendered(R"([{"role": "system", "content": "be kind"},
                         {"role": "developer", "content": "and brief"},
                         {"role": "user", "content": [{"type": "text", "text": "a"},
                                                      {"type": "text", "text": "b"}]},
                         {"role": "assistant", "content": "c", "name": null},
                         {"role": "tool", "tool_call_id": "1", "content": "d"}])"),
            "[system]be kind[system]and brief[user]a\nb[assistant]c[tool]d[assistant]");
}

TEST_F(ChatRequestTest, TemplatesAddTheirOwnSpecialTokensAndNobodyElseDoes) {
  const auto prepared = prepare_body(R"({"messages": [{"role": "user", "content": "<bos>"}]})");
  ASSERT_TRUE(prepared.ok());
  EXPECT_EQ(prepared->inputs[0].tokens[6], testing::kBos);
  EXPECT_EQ(prepared->inputs[0].tokens.size(), 6U + 1 + 11);
}

TEST_F(ChatRequestTest, UnsetLengthIsTheServersAsFarAsTheContextReaches) {
  EXPECT_EQ(
      prepare_body(R"({"messages": [{"role": "user", "content": "x"}]})")->inputs[0].max_new_tokens,
      32);
  model_->default_max_tokens = 4096;
  EXPECT_EQ(
      prepare_body(R"({"messages": [{"role": "user", "content": "x"}]})")->inputs[0].max_new_tokens,
      128 - 18);
}

TEST_F(ChatRequestTest, GivesTemplatesTheReasoningEffortAndDocuments) {
  const auto request = parse_chat(
      R"({"messages": [{"role": "user", "content": "x"}], "reasoning_effort": "low",
          "documents": [{"title": "t"}]})");
  ASSERT_TRUE(request.ok()) << request.status().to_string();
  const auto& prompt = std::get<ChatPrompt>(request->generation.prompts.at(0));
  ASSERT_EQ(prompt.more.size(), 1U);
  EXPECT_EQ(prompt.more[0].first, "reasoning_effort");
  EXPECT_EQ(prompt.more[0].second.bytes(), "low");
  EXPECT_TRUE(prompt.documents.is(jinja::Kind::kSequence));
}

TEST_F(ChatRequestTest, NoToolsAreShownWhenNoneMayBeChosen) {
  constexpr std::string_view kTools =
      R"("tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": )";
  const auto shown = [&](std::string_view choice) {
    const auto request = parse_chat(R"({"messages": [{"role": "user", "content": "x"}], )" +
                                    std::string(kTools) + std::string(choice) + "}");
    return request.ok() &&
           std::get<ChatPrompt>(request->generation.prompts.at(0)).tools.is(jinja::Kind::kSequence);
  };
  EXPECT_TRUE(shown(R"("auto")"));
  EXPECT_TRUE(shown("null"));
  EXPECT_FALSE(shown(R"("none")"));
}

TEST_F(ChatRequestTest, AForcedCallHoldsTheTextToTheToolsParameters) {
  const auto allows = [this](const std::string& choice, std::string_view text) {
    auto prepared = prepare_body(R"({"messages": [{"role": "user", "content": "x"}], "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"$defs": {"d": {"enum": [1]}},
          "properties": {"a": {"$ref": "#/$defs/d"}}, "required": ["a"]}}},
        {"type": "function", "function": {"name": "g"}}], )" +
                                 choice + "}");
    EXPECT_TRUE(prepared.ok()) << prepared.status().to_string();
    if (!prepared.ok() || prepared->constraints.size() != 1) return false;
    for (const char c : text) {
      if (!prepared->constraints[0]->accept(static_cast<unsigned char>(c))) return false;
    }
    return prepared->constraints[0]->complete();
  };
  constexpr std::string_view kF = R"([{"name":"f","arguments":{"a":1}}])";
  constexpr std::string_view kG = R"([{"name":"g","arguments":{}}])";
  constexpr std::string_view kBoth =
      R"([{"name":"f","arguments":{"a":1}},{"name":"g","arguments":{}}])";
  const std::string required = R"("tool_choice": "required")";
  const std::string named = R"("tool_choice": {"type": "function", "function": {"name": "f"}})";
  EXPECT_TRUE(allows(required, kF));
  EXPECT_TRUE(allows(required, kG));
  EXPECT_TRUE(allows(required, kBoth));
  EXPECT_FALSE(allows(required, "[]"));
  EXPECT_FALSE(allows(required, R"([{"name":"f","arguments":{"a":2}}])"));
  EXPECT_FALSE(allows(required + R"(, "parallel_tool_calls": false)", kBoth));
  EXPECT_TRUE(allows(named, kF));
  EXPECT_FALSE(allows(named, kG));
  EXPECT_FALSE(allows(named, kBoth));
}

TEST_F(ChatRequestTest, EveryChoiceOfAnAskedFormatHasAConstraintOfItsOwn) {
  const auto constraints = [this](const std::string& format) {
    const auto prepared = prepare_body(
        R"({"messages": [{"role": "user", "content": "x"}], "n": 2, "response_format": )" + format +
        "}");
    EXPECT_TRUE(prepared.ok()) << prepared.status().to_string();
    return prepared.ok() ? prepared->constraints.size() : 0;
  };
  EXPECT_EQ(constraints(R"({"type": "text"})"), 0U);
  EXPECT_EQ(constraints(R"({"type": "json_object"})"), 2U);
  EXPECT_EQ(constraints(R"({"type": "json_object", "schema": {"type": "integer"}})"), 2U);
  EXPECT_EQ(constraints(R"({"type": "json_schema", "json_schema": {"name": "n", "strict": true,
                            "schema": {"type": "integer"}}})"),
            2U);
}

TEST_F(ChatRequestTest, SchemasKeepTheOrderOfTheirProperties) {
  const auto request = parse_chat(
      R"({"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema",
          "json_schema": {"schema": {"z": [1, -2.5, true, null], "a\"": {"é": {}, "b": []}}}}})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->generation.json_schema, R"({"z":[1,-2.5,true,null],"a\"":{"é":{},"b":[]}})");
}

TEST_F(ChatRequestTest, SaysThatTheModelHasNoTemplate) {
  model_->chat = nullptr;
  const Status status = fault_of(R"("n": 1)");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.field(), "messages");
  EXPECT_EQ(status.message(), "the model has no chat template");
}

struct BadMessages {
  const char* messages;
  const char* field;
};

TEST_F(ChatRequestTest, NamesWhatIsWrongWithMessages) {
  constexpr BadMessages kTable[] = {
      {"null", "messages"},
      {"[]", "messages"},
      {"{}", "messages"},
      {R"("hi")", "messages"},
      {"[3]", "messages[0]"},
      {"[{}]", "messages[0].role"},
      {R"([{"role": "user", "content": "a"}, {"role": "boss", "content": "b"}])",
       "messages[1].role"},
      {R"([{"role": ["user"], "content": "a"}])", "messages[0].role"},
      {R"([{"role": "user"}])", "messages[0].content"},
      {R"([{"role": "user", "content": null}])", "messages[0].content"},
      {R"([{"role": "assistant"}])", "messages[0].content"},
      {R"([{"role": "user", "content": 3}])", "messages[0].content"},
      {R"([{"role": "user", "content": {}}])", "messages[0].content"},
      {R"([{"role": "user", "content": []}])", "messages[0].content"},
      {R"([{"role": "user", "content": ["a"]}])", "messages[0].content[0]"},
      {R"([{"role": "user", "content": [{"text": "a"}]}])", "messages[0].content[0].type"},
      {R"([{"role": "user", "content": [{"type": "smell"}]}])", "messages[0].content[0].type"},
      {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0].text"},
      {R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url",
           "image_url": {"url": "http://127.0.0.1/"}}]}])",
       "messages[0].content[1].type"},
      {R"([{"role": "user", "content": [{"type": "input_audio"}]}])",
       "messages[0].content[0].type"},
      {R"([{"role": "assistant", "tool_calls": 3}])", "messages[0].tool_calls"},
      {R"([{"role": "assistant", "tool_calls": [3]}])", "messages[0].tool_calls[0].function"},
      {R"([{"role": "assistant", "tool_calls": [{"function": {}}]}])",
       "messages[0].tool_calls[0].function.name"},
      {R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
      {R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "3"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
  };
  for (const BadMessages& bad : kTable) {
    const Status status =
        prepare_body(R"({"messages": )" + std::string(bad.messages) + "}").status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << bad.messages;
    EXPECT_EQ(status.field(), bad.field) << bad.messages << ": " << status.to_string();
  }
}

struct BadField {
  const char* fields;
  const char* field;
  StatusCode code = StatusCode::kInvalidArgument;
};

TEST_F(ChatRequestTest, NamesTheFieldThatIsWrong) {
  constexpr BadField kTable[] = {
      {R"("model": "gpt-4")", "model", StatusCode::kNotFound},
      {R"("model": 4)", "model"},
      {R"("n": 0)", "n"},
      {R"("n": 129)", "n"},
      {R"("n": "2")", "n"},
      {R"("max_tokens": -1)", "max_tokens"},
      {R"("max_tokens": 1.5)", "max_tokens"},
      {R"("max_completion_tokens": -1)", "max_completion_tokens"},
      {R"("max_completion_tokens": "9")", "max_completion_tokens"},
      {R"("max_tokens": 4096)", "messages", StatusCode::kOutOfRange},
      {R"("min_tokens": -1)", "min_tokens"},
      {R"("min_tokens": 9, "max_tokens": 8)", "min_tokens"},
      {R"("temperature": 2.1)", "temperature"},
      {R"("temperature": "hot")", "temperature"},
      {R"("top_p": 0)", "top_p"},
      {R"("top_k": -2)", "top_k"},
      {R"("min_p": 1.1)", "min_p"},
      {R"("presence_penalty": 3)", "presence_penalty"},
      {R"("frequency_penalty": -3)", "frequency_penalty"},
      {R"("repetition_penalty": 0)", "repetition_penalty"},
      {R"("seed": 0.5)", "seed"},
      {R"("stop": [""])", "stop"},
      {R"("stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])",
       "stop"},
      {R"("stop_token_ids": [258])", "stop_token_ids"},
      {R"("logit_bias": {"258": 1})", "logit_bias"},
      {R"("logit_bias": {"5": 101})", "logit_bias"},
      {R"("allowed_token_ids": [])", "allowed_token_ids"},
      {R"("allowed_token_ids": [-1])", "allowed_token_ids"},
      {R"("allowed_token_ids": "all")", "allowed_token_ids"},
      {R"("logprobs": 3)", "logprobs"},
      {R"("top_logprobs": 3)", "top_logprobs"},
      {R"("logprobs": false, "top_logprobs": 3)", "top_logprobs"},
      {R"("logprobs": true, "top_logprobs": 21)", "top_logprobs"},
      {R"("logprobs": true, "top_logprobs": -1)", "top_logprobs"},
      {R"("stream": "yes")", "stream"},
      {R"("stream_options": {"include_usage": 1})", "stream_options"},
      {R"("add_generation_prompt": 1)", "add_generation_prompt"},
      {R"("continue_final_message": true)", "continue_final_message"},
      {R"("chat_template_kwargs": [])", "chat_template_kwargs"},
      {R"("chat_template_kwargs": {"messages": []})", "chat_template_kwargs"},
      {R"("chat_template": "{{ messages }}")", "chat_template"},
      {R"("documents": {})", "documents"},
      {R"("documents": [{}, "x"])", "documents[1]"},
      {R"("reasoning_effort": 3)", "reasoning_effort"},
      {R"("tools": [{"type": "function", "function": {"name": "f", "parameters": []}}])",
       "tools[0].function.parameters"},
      {R"("tools": {})", "tools"},
      {R"("tools": [{"type": "code"}])", "tools[0].type"},
      {R"("tools": [{"type": "function"}])", "tools[0].function.name"},
      {R"("tool_choice": "required")", "tool_choice"},
      {R"("tool_choice": {"type": "function", "function": {"name": "f"}})", "tool_choice"},
      {R"("tool_choice": "maybe")", "tool_choice"},
      {R"("functions": [{"name": "f"}])", "functions"},
      {R"("response_format": "json")", "response_format"},
      {R"("response_format": {"type": "xml"})", "response_format"},
      {R"("response_format": {"type": "json_schema"})", "response_format"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "n"}})",
       "response_format"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}})",
       "response_format"},
      {R"("modalities": ["audio"])", "modalities"},
      {R"("audio": {"voice": "x"})", "audio"},
      {R"("bad_words": [""])", "bad_words"},
      {R"("bad_words": "a")", "bad_words"},
      {R"("bad_words": [1])", "bad_words"},
      {R"("parallel_tool_calls": 1)", "parallel_tool_calls"},
      {R"("tool_choice": {"type": "function"})", "tool_choice"},
      {R"("tools": [{"type": "function", "function": {"name": "f"}}],
          "tool_choice": {"type": "function", "function": {"name": "g"}})",
       "tool_choice"},
      {R"("tools": [{"type": "function", "function": {"name": "f"}}],
          "tool_choice": "required", "response_format": {"type": "json_object"})",
       "tool_choice"},
      {R"("tools": [{"type": "function", "function": {"name": "f",
          "parameters": {"type": "object", "not": {}}}}], "tool_choice": "required")",
       "tools"},
      {R"("tools": [{"type": "function", "function": {"name": "f", "parameters": [1]}}],
          "tool_choice": "required")",
       "tools[0].function.parameters"},
      {R"("guided_regex": "a+")", "guided_regex"},
      {R"("prompt_logprobs": 21)", "prompt_logprobs"},
      {R"("prompt_logprobs": -1)", "prompt_logprobs"},
      {R"("prompt_logprobs": 1, "stream": true)", "prompt_logprobs"},
      {R"("use_beam_search": true)", "use_beam_search"},
  };
  for (const BadField& bad : kTable) {
    const Status status = fault_of(bad.fields);
    EXPECT_EQ(status.code(), bad.code) << bad.fields << ": " << status.to_string();
    EXPECT_EQ(status.field(), bad.field) << bad.fields << ": " << status.to_string();
  }
}

TEST_F(ChatRequestTest, WhatAsksForNothingIsNotRefused) {
  EXPECT_EQ(fault_of(R"("functions": [], "bad_words": [], "use_beam_search": false, "tools": [],
                         "guided_regex": "", "logprobs": null, "top_logprobs": 0)"),
            ok_status());
}

TEST_F(ChatRequestTest, AContextThatIsTooLongIsSaidSo) {
  const std::string body =
      R"({"messages": [{"role": "user", "content": ")" + std::string(200, 'x') + R"("}]})";
  const Status status = prepare_body(body).status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfRange);
  EXPECT_EQ(status.field(), "messages");
  EXPECT_THAT(status.message(), HasSubstr("128"));
}

TEST_F(ChatRequestTest, RefusesBrokenJson) {
  std::string deep = R"({"messages": )";
  for (int i = 0; i < 100; ++i) deep += '[';
  for (const std::string_view body :
       {std::string_view(""), std::string_view("[1]"),
        std::string_view(R"({"messages": [], "messages": []})"),
        std::string_view("{\"messages\": \"\xff\"}"), std::string_view(R"({"messages": "\ud800"})"),
        std::string_view(deep)}) {
    const Status status = parse_chat(body).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << body;
    EXPECT_EQ(status.field(), "") << body;
  }
}

}  // namespace
}  // namespace latentd
