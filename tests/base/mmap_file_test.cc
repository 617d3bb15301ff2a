#include "base/mmap_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <string_view>

namespace latentd {
namespace {

class MmapFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(::testing::TempDir()) /
                 ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path write(const char* name, std::string_view text) const {
    const auto path = directory_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  std::filesystem::path directory_;
};

std::string_view text_of(const MmapFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST_F(MmapFileTest, ShowsTheBytesAndKeepsThemAcrossMoves) {
  auto opened = MmapFile::open(write("a", "latent"));
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  MmapFile first = *std::move(opened);
  const auto* address = first.bytes().data();
  MmapFile second = std::move(first);
  EXPECT_EQ(text_of(second), "latent");
  EXPECT_EQ(second.bytes().data(), address);
}

TEST_F(MmapFileTest, CopiesAnyPartPastItsMapping) {
  std::string text(300'000, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  auto opened = MmapFile::open(write("a", text));
  ASSERT_TRUE(opened.ok());
  const MmapFile file = *std::move(opened);
  for (const auto& [first, count] : {std::pair<std::size_t, std::size_t>{0, text.size()},
                                     {4095, 70'000},
                                     {text.size() - 1, 1},
                                     {17, 0}}) {
    std::vector<std::byte> copy(count);
    ASSERT_TRUE(file.read(file.bytes().data() + first, copy));
    const std::string_view read(reinterpret_cast<const char*>(copy.data()), count);
    EXPECT_EQ(read, std::string_view(text).substr(first, count)) << first;
  }
  std::vector<std::byte> past(2);
  EXPECT_FALSE(file.read(file.bytes().data() + text.size() - 1, past)) << "the file ends before";
  EXPECT_TRUE(file.holds(file.bytes().data()));
  EXPECT_FALSE(file.holds(file.bytes().data() + text.size()));
}

TEST_F(MmapFileTest, FollowsSymbolicLinks) {
  std::filesystem::create_symlink(write("target", "blob"), directory_ / "link");
  auto opened = MmapFile::open(directory_ / "link");
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(text_of(*opened), "blob");
}

TEST_F(MmapFileTest, MapsAnEmptyFileToAnEmptySpan) {
  auto opened = MmapFile::open(write("empty", ""));
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(opened->bytes().empty());
}

TEST_F(MmapFileTest, NamesThePathWhenThereIsNoSuchFile) {
  const auto status = MmapFile::open(directory_ / "absent").status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("absent"), std::string::npos);
}

TEST_F(MmapFileTest, RefusesADirectory) {
  EXPECT_EQ(MmapFile::open(directory_).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd
