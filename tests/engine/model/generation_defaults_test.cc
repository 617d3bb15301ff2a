#include "engine/model/generation_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/model/checkpoint_files.h"

namespace latentd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(GenerationDefaults, ReadsWhatIsThere) {
  const auto defaults = parse_generation_defaults(
      R"({"_from_model_config": true, "bos_token_id": 0, "do_sample": true, "eos_token_id": 1,
          "temperature": 0.3, "top_p": 0.95, "top_k": 40, "transformers_version": "4.33.1"})");
  ASSERT_TRUE(defaults.ok()) << defaults.status().to_string();
  EXPECT_FLOAT_EQ(defaults->temperature.value_or(-1.0F), 0.3F);
  EXPECT_FLOAT_EQ(defaults->top_p.value_or(-1.0F), 0.95F);
  EXPECT_EQ(defaults->top_k, 40);
  EXPECT_FALSE(defaults->min_p.has_value());
  EXPECT_FALSE(defaults->max_new_tokens.has_value());
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(1));
}

TEST(GenerationDefaults, TakesNoSamplingForTemperatureZero) {
  const auto defaults = parse_generation_defaults(
      R"({"do_sample": false, "temperature": 0.7, "eos_token_id": [1, 2]})");
  ASSERT_TRUE(defaults.ok());
  EXPECT_EQ(defaults->temperature, 0.0F);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(1, 2));
}

TEST(GenerationDefaults, ReportsEveryFault) {
  const auto defaults =
      parse_generation_defaults(R"({"top_p": 1.5, "top_k": "all", "eos_token_id": [-1]})");
  EXPECT_EQ(defaults.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(defaults.status().message(), HasSubstr("top_p: must be from 0 to 1, got 1.5"));
  EXPECT_THAT(defaults.status().message(), HasSubstr("top_k: must be an integer"));
  EXPECT_THAT(defaults.status().message(), HasSubstr("eos_token_id: must be from 0"));
  EXPECT_FALSE(parse_generation_defaults("[]").ok());
}

TEST(GenerationDefaults, LetsTheFileBeAbsentButNotBroken) {
  const test::TempDirectory directory;
  const auto absent = load_generation_defaults(directory.path());
  ASSERT_TRUE(absent.ok());
  EXPECT_TRUE(absent->eos_token_ids.empty());
  directory.write("generation_config.json", "{\"top_k\": }");
  EXPECT_THAT(load_generation_defaults(directory.path()).status().message(),
              HasSubstr("generation_config.json"));
}

}  // namespace
}  // namespace latentd
