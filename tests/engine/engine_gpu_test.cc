// The real engine on a GPU: the CPU's text in fp32, transformers' logits in bf16 and over an fp8
// cache, and prompts that attend expanded.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/backend/cuda/cuda_backend.h"
#include "engine/engine.h"
#include "engine/model/json.h"
#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"
#include "tests/support/inbox.h"
#include "tests/support/mla_oracle.h"
#include "tests/support/recording_backend.h"

namespace latentd {
namespace {

// bf16 rounds every activation to 8 bits. Measured at the worst position of the bundled
// model: 5.4e-3, and 8.1e-3 over an fp8 cache.
constexpr double kBf16Error = 3e-2;

std::filesystem::path latent_mini() { return test::source_directory() / "models/latent-mini"; }

EngineOptions options_of(Device device, DType dtype) {
  EngineOptions options;
  options.device = device;
  options.dtype = dtype;
  options.kv_cache_dtype = dtype;
  options.kv_cache_tokens = 16'384;
  options.max_model_len = 512;
  return options;
}

// Greedy continuations of the bundled model's golden prompts, all in flight together.
std::vector<std::vector<TokenId>> greedy_texts(const Json& cases, const EngineOptions& options) {
  Inbox inbox;
  const auto engine = Engine::load(latent_mini(), options, inbox.sink()).value();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    auto request =
        EngineRig::request(i, cases[i].at("prompt_ids").get<std::vector<TokenId>>(), 120);
    EXPECT_TRUE(engine->submit(std::move(request)).ok());
  }
  std::vector<std::vector<TokenId>> texts;
  for (std::size_t i = 0; i < cases.size(); ++i) texts.push_back(inbox.wait_finished(i).tokens);
  return texts;
}

Json golden_of_latent_mini() {
  return parse_json_file(test::source_directory() / "tests/data/latent-mini/golden.json").value();
}

TEST(EngineOnGpu, WritesTheTextOfTheCpuInFp32) {
  const Json golden = golden_of_latent_mini();
  const Json& cases = golden.at("cases");
  const auto expected = greedy_texts(cases, options_of(Device::kCpu, DType::kF32));
  for (const bool invariant : {false, true}) {
    EngineOptions options = options_of(Device::kCuda, DType::kF32);
    options.batch_invariant = invariant;
    const auto actual = greedy_texts(cases, options);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      ASSERT_EQ(expected[i].size(), 120U);
      EXPECT_EQ(actual[i], expected[i]) << "case " << i;
    }
  }
}

// Scratch was taken for the largest step and cannot grow: prompts as long as a step, alone and
// beside as many sequences as there are slots, in every form of attention.
TEST(EngineOnGpu, ComputesTheLargestStepsInWhatWasReserved) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool invariant : {false, true}) {
      EngineOptions options = options_of(Device::kCuda, dtype);
      options.batch_invariant = invariant;
      options.max_num_seqs = 32;
      options.max_num_batched_tokens = 512;
      Inbox inbox;
      const auto engine = Engine::load(latent_mini(), options, inbox.sink()).value();
      for (std::uint64_t id = 0; id < 40; ++id) {
        const auto length = static_cast<TokenId>(id % 4 == 0 ? 500 : 1 + id * 7 % 60);
        std::vector<TokenId> prompt;
        for (TokenId i = 0; i < length; ++i) {
          prompt.push_back(static_cast<TokenId>(5 + id) + i % 900);
        }
        ASSERT_TRUE(engine->submit(EngineRig::request(id, std::move(prompt), 12)).ok());
      }
      for (std::uint64_t id = 0; id < 40; ++id) {
        const Inbox::Thread thread = inbox.wait_finished(id);
        EXPECT_TRUE(thread.error.ok()) << thread.error.to_string();
        EXPECT_EQ(thread.tokens.size(), 12U);
      }
      EXPECT_TRUE(engine->healthy());
    }
  }
}

double error(const std::vector<float>& actual, const std::vector<double>& expected) {
  return oracle::relative_error(std::vector<double>(actual.begin(), actual.end()), expected);
}

// Logits of every position of the golden prompts, bf16 throughout, through the engine's own thread.
class EngineOnGpuBf16 : public ::testing::TestWithParam<std::string> {
 protected:
  static std::map<std::int32_t, std::vector<float>> logits(const std::filesystem::path& model,
                                                           const std::vector<TokenId>& prompt,
                                                           DType cache = DType::kBF16) {
    CudaBackendOptions cuda;
    cuda.activation = DType::kBF16;
    auto recording = std::make_unique<RecordingBackend>(make_cuda_backend(cuda).value());
    const RecordingBackend& backend = *recording;
    EngineOptions options = options_of(Device::kCuda, DType::kBF16);
    options.kv_cache_dtype = cache;
    options.max_model_len = 256;
    options.kv_cache_tokens = 1024;
    Inbox inbox;
    const auto engine = Engine::load(model, options, inbox.sink(), std::move(recording)).value();
    auto request = EngineRig::request(1, prompt, 1);
    request->wants_prompt_logprobs = true;  // asks for the logits of every position
    EXPECT_TRUE(engine->submit(std::move(request)).ok());
    inbox.wait_finished(1);
    engine->stop();
    std::map<std::int32_t, std::vector<float>> found;
    for (const auto& [key, values] : backend.logits()) {
      if (key.first == 1) found.emplace(key.second, values);
    }
    return found;
  }
};

// The gates of random checkpoints choose among experts that are nearly equal. Rounding turns some
// choices, and the logits of those positions are then another model's: the median position is
// judged. Gates that were trained are decisive (the test after this one).
TEST_P(EngineOnGpuBf16, HasTransformersLogitsWithinRounding) {
  for (const char* length : {"short", "long"}) {
    const auto golden = test::load_golden(GetParam(), length);
    const auto actual = logits(test::tiny_checkpoint(GetParam()), golden.prompt);
    ASSERT_EQ(actual.size(), golden.prompt.size());
    std::vector<double> errors;
    for (const auto& [next, values] : actual) {
      errors.push_back(error(values, golden.logits_at(static_cast<std::size_t>(next - 1))));
    }
    std::sort(errors.begin(), errors.end());
    const double median = errors[errors.size() / 2];
    std::printf("%s, prompt of %zu: error %.2e, at a quarter %.2e, at worst %.2e\n",
                GetParam().c_str(), errors.size(), median, errors[errors.size() / 4],
                errors.back());
    EXPECT_LT(median, kBf16Error) << length;
  }
}

TEST_F(EngineOnGpuBf16, HasTransformersLogitsOfTheBundledModelWithinRounding) {
  const Json golden = golden_of_latent_mini();
  const Json& rows = golden.at("logits").at("values");
  for (const DType cache : {DType::kBF16, DType::kF8E4M3}) {
    const auto actual =
        logits(latent_mini(), golden.at("logits").at("ids").get<std::vector<TokenId>>(), cache);
    ASSERT_EQ(actual.size(), rows.size());
    double worst = 0.0;
    for (const auto& [next, values] : actual) {
      const auto& row = rows[static_cast<std::size_t>(next - 1)];
      worst = std::max(worst, error(values, row.get<std::vector<double>>()));
    }
    std::printf("latent-mini, %s cache: error %.2e\n", std::string(dtype_name(cache)).c_str(),
                worst);
    EXPECT_LT(worst, kBf16Error) << dtype_name(cache);
  }
}

// The longest golden prompt, in pieces and from a prefix, with keys and values expanded and not.
TEST(EngineOnGpu, ExpandedPromptsHaveTheLogitsOfAbsorbedOnes) {
  const auto prompt =
      golden_of_latent_mini().at("cases").at(3).at("prompt_ids").get<std::vector<TokenId>>();
  constexpr std::size_t kShared = 100;
  ASSERT_GT(prompt.size(), kShared + 50);
  for (const DType cache : {DType::kBF16, DType::kF8E4M3}) {
    SCOPED_TRACE(dtype_name(cache));
    std::vector<std::map<std::int32_t, std::vector<float>>> forms;
    for (const int expanded : {0, 8}) {
      EngineRig rig(
          latent_mini(),
          {.expanded_min_tokens = expanded, .kv_cache_dtype = cache, .activation = DType::kBF16});
      rig.submit(EngineRig::request(2, {prompt.begin(), prompt.begin() + kShared}, 1));
      rig.run_until_idle();
      rig.submit(EngineRig::request(1, prompt, 30));
      rig.run_until_idle();
      EXPECT_EQ(rig.outcome(1).cached_tokens, 96);
      forms.push_back(rig.logits(1));
    }
    const auto first = static_cast<std::int32_t>(prompt.size());
    const std::vector<float>& absorbed = forms[0].at(first);
    const double apart =
        error(forms[1].at(first), std::vector<double>(absorbed.begin(), absorbed.end()));
    std::printf("%s cache, expanded against absorbed: %.2e\n",
                std::string(dtype_name(cache)).c_str(), apart);
    EXPECT_LT(apart, kBf16Error);
    EXPECT_GT(apart, 0.0) << "the expanded form was not used";
  }
}

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, EngineOnGpuBf16,
                         ::testing::ValuesIn(test::tiny_checkpoint_names()), [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace latentd
