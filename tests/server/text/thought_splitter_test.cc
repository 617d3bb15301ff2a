#include "server/text/thought_splitter.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace latentd {
namespace {

struct Split {
  std::string thoughts;
  std::string answer;
  friend bool operator==(const Split&, const Split&) = default;
};

Split split(std::string_view prompt, const std::vector<std::string>& chunks) {
  ThoughtSplitter splitter(prompt);
  Split all;
  const auto add = [&all](const ThoughtSplitter::Parts& parts) {
    all.thoughts += parts.thoughts;
    all.answer += parts.answer;
  };
  for (const std::string& chunk : chunks) add(splitter.push(chunk));
  add(splitter.finish());
  return all;
}

TEST(ThoughtSplitter, TellsThoughtsFromTheAnswer) {
  EXPECT_EQ(split("", {"<think>a b</think>\n\nc"}), (Split{"a b", "\n\nc"}));
  EXPECT_EQ(split("", {" \n<think>a</think>c"}), (Split{"a", "c"}));
  EXPECT_EQ(split("", {"c <think>a</think>"}), (Split{"", "c <think>a</think>"}));
  EXPECT_EQ(split("", {"<think>a</think><think>b</think>"}), (Split{"a", "<think>b</think>"}));
}

TEST(ThoughtSplitter, KnowsTheMarksOfAModelByItsTemplate) {
  const ThoughtMarks* marks =
      thought_marks_of("'<|thought_start|>' + m.thought + '<|thought_end|>'");
  ASSERT_NE(marks, nullptr);
  ThoughtSplitter splitter("", *marks);
  const ThoughtSplitter::Parts parts = splitter.push("<|thought_start|>\na\n<|thought_end|>\nb");
  EXPECT_EQ(parts.thoughts, "\na\n");
  EXPECT_EQ(parts.answer, "\nb");
  EXPECT_EQ(thought_marks_of("{{ m.split('</think>') }}")->open, "<think>");
  EXPECT_EQ(thought_marks_of("{{ m.content }}"), nullptr);
}

TEST(ThoughtSplitter, CountsTheCharactersBeforeTheAnswer) {
  ThoughtSplitter splitter("");
  splitter.push(" <think>\u00e9");
  EXPECT_EQ(splitter.thought_characters(), 9);
  splitter.push("</think>ab");
  splitter.push("c");
  EXPECT_EQ(splitter.thought_characters(), 17);
  ThoughtSplitter plain("");
  plain.push("abc");
  EXPECT_EQ(plain.thought_characters(), 0);
}

TEST(ThoughtSplitter, StartsWhereThePromptLeavesIt) {
  EXPECT_EQ(split("x<think>\n", {"a</think>c"}), (Split{"a", "c"}));
  EXPECT_EQ(split("x<think></think>\n\n", {"<think>c"}), (Split{"", "<think>c"}));
}

TEST(ThoughtSplitter, KeepsWhatNeverCloses) {
  EXPECT_EQ(split("", {"<think>a</thi"}), (Split{"a</thi", ""}));
  EXPECT_EQ(split("", {" <thi"}), (Split{"", " <thi"}));
  EXPECT_EQ(split("", {}), (Split{"", ""}));
}

TEST(ThoughtSplitter, HoldsBackOnlyWhatMayBecomeAMark) {
  ThoughtSplitter splitter("<think>");
  EXPECT_EQ(splitter.push("thinking </th").thoughts, "thinking ");
  EXPECT_EQ(splitter.push("e end").thoughts, "</the end");
}

TEST(ThoughtSplitter, DoesNotDependOnTheChunks) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const std::vector<std::string> parts = {"<think>", "</think>", "<", "/",
                                          "think>",  " ",        "a", "\n"};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 8; ++i) text += parts[random() % parts.size()];
    std::vector<std::string> chunks;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 5;
      chunks.push_back(text.substr(at, size));
      at += size;
    }
    EXPECT_EQ(split("", chunks), split("", {text})) << text;
  }
}

}  // namespace
}  // namespace latentd
