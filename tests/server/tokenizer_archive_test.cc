#include "server/tokenizer_archive.h"

#include <gtest/gtest.h>

#include <fstream>

namespace latentd {
namespace {

class TokenizerArchiveTest : public ::testing::Test {
 protected:
  TokenizerArchiveTest()
      : directory_(std::filesystem::path(::testing::TempDir()) /
                   ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  ~TokenizerArchiveTest() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name) << text;
  }

  const std::filesystem::path directory_;
};

TEST_F(TokenizerArchiveTest, HoldsWhatTellsHowAModelReadsTextAndNothingElse) {
  write("tokenizer.json", "the tokenizer");
  write("chat_template.jinja", "the template");
  write("model.safetensors", "the weights");
  write("modeling.py", "the code");
  std::filesystem::create_directory(directory_ / "dir.jinja");
  TokenizerArchive archive;
  const auto made = archive.of(directory_);
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  const std::string& zip = (*made)->zip;
  EXPECT_TRUE(zip.starts_with("PK\x03\x04"));
  EXPECT_NE(zip.find("the tokenizer"), std::string::npos);
  EXPECT_NE(zip.find("the template"), std::string::npos);
  EXPECT_EQ(zip.find("the weights"), std::string::npos);
  EXPECT_EQ(zip.find("the code"), std::string::npos);
  EXPECT_EQ(zip.find("dir.jinja"), std::string::npos);
  EXPECT_EQ((*made)->sha256.size(), 64U);
}

TEST_F(TokenizerArchiveTest, IsMadeOnceAndTheSameForEqualFiles) {
  write("tokenizer.json", "the tokenizer");
  TokenizerArchive archive;
  const auto made = archive.of(directory_).value();
  EXPECT_EQ(TokenizerArchive().of(directory_).value()->sha256, made->sha256);
  write("tokenizer.json", "another");
  EXPECT_EQ(archive.of(directory_).value(), made);
}

TEST_F(TokenizerArchiveTest, SaysThatThereIsNothing) {
  TokenizerArchive archive;
  EXPECT_EQ(archive.of(directory_).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(archive.of(directory_ / "nowhere").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace latentd
