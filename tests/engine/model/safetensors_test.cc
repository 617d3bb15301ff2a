#include "engine/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "tests/engine/model/checkpoint_files.h"

namespace latentd {
namespace {

using test::file_tensor;
using test::safetensors_file;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Result<SafetensorsTable> parse(std::string_view file) {
  return parse_safetensors(std::as_bytes(std::span(file)));
}

// A file of one tensor "t" described by `description`, with `size` bytes of data.
std::string one_tensor(std::string_view description, std::size_t size) {
  return safetensors_file("{\"t\":" + std::string(description) + "}", std::string(size, '\1'));
}

std::string valid_file() {
  return safetensors_file({{"a.weight", file_tensor("F32", {2, 3}, 1.0F)},
                           {"b.bias", file_tensor("BF16", {5}, -2.0F)},
                           {"empty", file_tensor("F32", {0, 4}, 0.0F)}});
}

TEST(Safetensors, FindsTensorsByName) {
  const std::string file = valid_file();
  const auto table = parse(file);
  ASSERT_TRUE(table.ok()) << table.status().to_string();
  ASSERT_EQ(table->size(), 3U);
  const SafetensorsEntry& a = table->at("a.weight");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  ASSERT_EQ(a.bytes.size(), 24U);
  float last = 0.0F;
  std::memcpy(&last, a.bytes.data() + 20, sizeof(last));
  EXPECT_EQ(last, 6.0F);
  EXPECT_EQ(table->at("b.bias").to_string(), "BF16 [5]");
  EXPECT_EQ(table->at("empty").bytes.size(), 0U);
}

TEST(Safetensors, ReadsScalarsMetadataAndTypesThatItCannotCompute) {
  const std::string file = safetensors_file(
      R"({"__metadata__":{"format":"pt"},
          "s":{"dtype":"F64","shape":[],"data_offsets":[0,8]},
          "m":{"dtype":"BOOL","shape":[1,1,1,1,1,2],"data_offsets":[8,10]}})",
      std::string(10, '\0'));
  const auto table = parse(file);
  ASSERT_TRUE(table.ok()) << table.status().to_string();
  EXPECT_EQ(table->size(), 2U);
  EXPECT_FALSE(table->at("s").dtype.has_value());
}

TEST(Safetensors, RefusesMalformedFiles) {
  const struct {
    std::string file;
    std::string_view reason;
  } cases[] = {
      {"", "shorter than"},
      {"1234567", "shorter than"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "larger than the limit"},
      {std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10), "larger than the limit of 100000000"},
      {std::string("\x20\0\0\0\0\0\0\0{}", 10), "truncated"},
      {safetensors_file("garbage", ""), "malformed JSON"},
      {safetensors_file("[]", ""), "must be a JSON object"},
      {safetensors_file(std::string(100, '['), ""), "64 levels"},
      {safetensors_file(R"({"t":{},"t":{}})", ""), "duplicate key"},
      {one_tensor("3", 0), "must be an object"},
      {one_tensor(R"({"dtype":"F32","shape":[1]})", 4), "must have dtype, shape and data_offsets"},
      {one_tensor(R"({"dtype":3,"shape":[1],"data_offsets":[0,4]})", 4), "must have dtype"},
      {one_tensor(R"({"dtype":"F33","shape":[1],"data_offsets":[0,4]})", 4), "unknown dtype"},
      {one_tensor(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4), "sizes from 0"},
      {one_tensor(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", 4), "sizes from 0"},
      {one_tensor(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", 4), "list of at most"},
      {one_tensor(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})", 4),
       "at most 8"},
      {one_tensor(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0),
       "overflows"},
      {one_tensor(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]})", 0),
       "overflows"},
      {one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 3), "not inside"},
      {one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 8), "not inside"},
      {one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", 8), "not inside"},
      {one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", 8), "two offsets"},
      {one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,4]})", 8),
       "not inside"},
      {one_tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 8), "needs 8 bytes"},
      {one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[2,6]})", 8), "not aligned"},
  };
  for (const auto& c : cases) {
    const auto table = parse(c.file);
    EXPECT_EQ(table.status().code(), StatusCode::kDataLoss) << c.reason;
    EXPECT_THAT(table.status().message(), HasSubstr(std::string(c.reason)));
  }
}

TEST(Safetensors, RefusesOverlappingTensors) {
  const std::string file = safetensors_file(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
          "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
      std::string(12, '\0'));
  EXPECT_THAT(parse(file).status().message(), HasSubstr("\"a\" and \"b\" overlap"));
}

TEST(Safetensors, SurvivesEveryTruncation) {
  const std::string file = valid_file();
  for (std::size_t size = 0; size < file.size(); ++size) {
    // A copy of exactly that size: reading past its end is seen by the address sanitizer.
    const std::string cut(file.data(), size);
    EXPECT_EQ(parse(cut).status().code(), StatusCode::kDataLoss) << size;
  }
}

// Whatever a damaged file says, each tensor that is handed out lies inside it.
TEST(Safetensors, HandsOutOnlyBytesOfTheFileHoweverItIsDamaged) {
  constexpr unsigned kSeed = 20240507;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random(kSeed);
  const std::string original = valid_file();
  int opened = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string file = original;
    const auto flips = 1 + random() % 4;
    for (unsigned flip = 0; flip < flips; ++flip) {
      file[random() % file.size()] ^= static_cast<char>(1U << (random() % 8));
    }
    const auto table = parse(file);
    if (!table.ok()) continue;
    ++opened;
    const auto* begin = reinterpret_cast<const std::byte*>(file.data());
    for (const auto& [name, entry] : *table) {
      ASSERT_GE(entry.bytes.data(), begin);
      ASSERT_LE(entry.bytes.data() + entry.bytes.size(), begin + file.size());
    }
  }
  EXPECT_GT(opened, 100);  // flips in the data and in names leave a valid file
}

TEST(Safetensors, OpensTheSingleFileThroughALink) {
  const test::TempDirectory directory;
  std::filesystem::create_symlink(directory.write("blob", valid_file()),
                                  directory.path() / "model.safetensors");
  const auto opened = Safetensors::open_directory(directory.path());
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  EXPECT_NE(opened->find("a.weight"), nullptr);
  EXPECT_EQ(opened->find("nothing"), nullptr);
}

class ShardsTest : public testing::Test {
 protected:
  ShardsTest() {
    directory_.write("one.safetensors", safetensors_file({{"a", file_tensor("F32", {1}, 1.0F)}}));
    directory_.write("two.safetensors", safetensors_file({{"b", file_tensor("F32", {1}, 2.0F)}}));
  }
  Result<Safetensors> open(std::string_view weight_map) {
    directory_.write("model.safetensors.index.json",
                     "{\"metadata\":{},\"weight_map\":" + std::string(weight_map) + "}");
    return Safetensors::open_directory(directory_.path());
  }
  test::TempDirectory directory_;
};

TEST_F(ShardsTest, OpensAllShardsOfAnIndex) {
  const auto opened = open(R"({"a":"one.safetensors","b":"two.safetensors"})");
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  ASSERT_NE(opened->find("b"), nullptr);
  float value = 0.0F;
  std::memcpy(&value, opened->find("b")->bytes.data(), sizeof(value));
  EXPECT_EQ(value, 2.0F);
}

TEST_F(ShardsTest, RefusesNamesThatLeaveTheDirectory) {
  for (const char* name : {"../one.safetensors", "/etc/passwd", "sub/one.safetensors", "..", "",
                           ".", "a..b", "x\\u0000y"}) {
    const auto opened = open(R"({"a":")" + std::string(name) + R"("})");
    EXPECT_EQ(opened.status().code(), StatusCode::kDataLoss) << name;
    EXPECT_THAT(opened.status().message(), HasSubstr("no '/'")) << name;
  }
}

TEST_F(ShardsTest, RefusesAnIndexThatDoesNotMatchItsShards) {
  EXPECT_THAT(open(R"({"a":"one.safetensors","c":"two.safetensors"})").status().message(),
              AllOf(HasSubstr("two.safetensors"), HasSubstr("\"c\""), HasSubstr("is missing")));
  EXPECT_EQ(open(R"({"a":"three.safetensors"})").status().code(), StatusCode::kNotFound);
  EXPECT_THAT(open(R"({"a":1})").status().message(), HasSubstr("must name a file"));
  EXPECT_THAT(open("[]").status().message(), HasSubstr("weight_map"));
  directory_.write("three.safetensors", safetensors_file({{"a", file_tensor("F32", {1}, 3.0F)}}));
  EXPECT_THAT(open(R"({"a":"one.safetensors","x":"three.safetensors"})").status().message(),
              HasSubstr("in another shard too"));
}

TEST(Safetensors, NamesADirectoryWithoutWeights) {
  const test::TempDirectory directory;
  const auto opened = Safetensors::open_directory(directory.path());
  EXPECT_EQ(opened.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(opened.status().message(), HasSubstr("model.safetensors.index.json"));
}

}  // namespace
}  // namespace latentd
