#include "tests/server/test_model.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "server/text/utf8.h"

namespace latentd::testing {
namespace {

// The byte-level alphabet of GPT-2: printable bytes stand for themselves, the others for U+0100 and
// up.
std::string spelling_of(int byte) {
  static int next = 0x100;
  const bool printable =
      (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  std::string out;
  utf8::append(static_cast<char32_t>(printable ? byte : next++), out);
  return out;
}

}  // namespace

std::string byte_tokenizer_json() {
  nlohmann::json vocab;
  for (int byte = 0; byte < 256; ++byte) vocab[spelling_of(byte)] = byte;
  const auto added = [](TokenId id, const char* text) {
    return nlohmann::json{{"id", id},        {"content", text}, {"single_word", false},
                          {"lstrip", false}, {"rstrip", false}, {"normalized", false},
                          {"special", true}};
  };
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", false}};
  return nlohmann::json{
      {"version", "1.0"},
      {"added_tokens", {added(kBos, "<bos>"), added(kEos, "<eos>")}},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", nlohmann::json::array()}}}}
      .dump();
}

std::unique_ptr<ServingModel> make_test_model() {
  static const std::string kJson = byte_tokenizer_json();
  auto model = std::make_unique<ServingModel>();
  model->names = {"test/model", "alias"};
  model->tokenizer = Tokenizer::parse(kJson).value();
  model->config.architecture = "TestForCausalLM";
  model->config.vocab_size = kVocabSize;
  model->info.device = "none";
  model->info.max_model_len = 128;
  model->info.page_tokens = 16;
  model->info.num_pages = 64;
  model->end_tokens = {kEos};
  model->structured = std::make_unique<StructuredOutput>(*model->tokenizer, model->end_tokens);
  model->why_no_chat = "the model has no chat template";
  model->longest_token_bytes = longest_token_bytes(*model->tokenizer);
  return model;
}

Result<std::unique_ptr<const ChatFormat>> load_chat_format(std::string_view tokenizer_config,
                                                           std::string_view template_file) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const auto directory = std::filesystem::path(::testing::TempDir()) /
                         (std::string(test->test_suite_name()) + "." + test->name());
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "tokenizer_config.json") << tokenizer_config;
  if (!template_file.empty()) std::ofstream(directory / "chat_template.jinja") << template_file;
  auto format = ChatFormat::load(directory);
  std::filesystem::remove_all(directory);
  return format;
}

std::unique_ptr<ServingModel> make_chat_model() {
  auto model = make_test_model();
  model->default_max_tokens = 32;
  model->chat = load_chat_format(R"({"chat_template":
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
  })")
                    .value();
  return model;
}

}  // namespace latentd::testing
