#include "server/api_keys.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "server/prefix_salt.h"

namespace latentd {
namespace {

using ::testing::HasSubstr;

bool allows(const ApiKeys& keys, std::string_view authorization) {
  return keys.identify(authorization).ok();
}

// A key file in the test's folder. Written as editors and volumes do: a new file is moved into its
// place, so that each has an inode of its own.
class KeyFile final {
 public:
  explicit KeyFile(const std::string& text)
      : path_(::testing::TempDir() + "keys_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".yaml") {
    write(text);
  }
  ~KeyFile() { std::filesystem::remove(path_); }
  KeyFile(const KeyFile&) = delete;
  KeyFile& operator=(const KeyFile&) = delete;

  void write(const std::string& text) const {
    const std::string fresh = path_ + ".new";
    std::ofstream(fresh) << text;
    std::filesystem::rename(fresh, path_);
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

std::string line(const std::string& key, KeyPolicy policy = {}) {
  return key_file_line({sha256_of(key), std::move(policy)}) + "\n";
}

KeyPolicy tenant(std::string name) {
  KeyPolicy policy;
  policy.tenant = std::move(name);
  return policy;
}

TEST(ApiKeys, WithoutKeysEverybodyMay) {
  const ApiKeys keys({});
  EXPECT_FALSE(keys.required());
  EXPECT_EQ(*keys.identify(""), nullptr);
}

TEST(ApiKeys, WithKeysOnlyTheirHoldersMay) {
  const ApiKeys keys({"first", "second"});
  EXPECT_TRUE(keys.required());
  EXPECT_TRUE(allows(keys, "Bearer first"));
  EXPECT_TRUE(allows(keys, "bearer second"));
  for (const char* header : {"", "Bearer", "Bearer ", "first", "Basic first", "Bearer firs",
                             "Bearer first2", "Bearer  first", "Bearer FIRST"}) {
    EXPECT_EQ(keys.identify(header).status().code(), StatusCode::kUnauthenticated) << header;
  }
}

TEST(ApiKeys, OfAFileCarryTheirPolicy) {
  const KeyFile file("# ours\n" +
                     line("a", {.tenant = "search",
                                .requests_per_minute = 60,
                                .tokens_per_minute = 1000,
                                .max_concurrent = 2,
                                .priority = -3}) +
                     line("b"));
  ApiKeys keys({"flag"});
  ASSERT_TRUE(keys.use_file(file.path()).ok());
  const Caller a = *keys.identify("Bearer a");
  EXPECT_EQ(a->policy().tenant, "search");
  EXPECT_EQ(a->policy().requests_per_minute, 60);
  EXPECT_EQ(a->policy().tokens_per_minute, 1000);
  EXPECT_EQ(a->policy().max_concurrent, 2);
  EXPECT_EQ(a->policy().priority, -3);
  EXPECT_THAT((*keys.identify("Bearer b"))->policy().tenant, HasSubstr("key-"));
  EXPECT_EQ((*keys.identify("Bearer flag"))->policy().tenant, "");
}

TEST(ApiKeys, AnEmptyFileLetsNobodyIn) {
  const KeyFile file("# none yet\n");
  ApiKeys keys({});
  ASSERT_TRUE(keys.use_file(file.path()).ok());
  EXPECT_TRUE(keys.required());
  EXPECT_FALSE(allows(keys, ""));
  EXPECT_FALSE(allows(keys, "Bearer x"));
}

TEST(ApiKeys, AreReadAgainWhenTheFileHasChanged) {
  const KeyFile file(line("old", tenant("t")) + line("kept", tenant("u")));
  ApiKeys keys({});
  ASSERT_TRUE(keys.use_file(file.path()).ok());
  EXPECT_FALSE(*keys.reload());
  const Caller kept = *keys.identify("Bearer kept");
  file.write(line("kept", tenant("u")) + line("new", tenant("t")));
  EXPECT_TRUE(*keys.reload());
  EXPECT_FALSE(*keys.reload());
  EXPECT_FALSE(allows(keys, "Bearer old"));
  EXPECT_TRUE(allows(keys, "Bearer new"));
  EXPECT_EQ(*keys.identify("Bearer kept"), kept);  // with what it has used
}

TEST(ApiKeys, StayAsTheyWereWhenTheFileIsWrongOrGone) {
  const KeyFile file(line("a"));
  ApiKeys keys({});
  ASSERT_TRUE(keys.use_file(file.path()).ok());
  file.write("- {sha256: abc}\n");
  EXPECT_THAT(keys.reload().status().message(), HasSubstr("key 1: sha256 must be 64 hex digits"));
  EXPECT_TRUE(allows(keys, "Bearer a"));
  EXPECT_FALSE(*keys.reload());  // said once
  std::filesystem::remove(file.path());
  EXPECT_EQ(keys.reload().status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(allows(keys, "Bearer a"));
}

TEST(ApiKeys, AWrongFileSaysWhichKeyAndField) {
  const std::string good = line("a");
  const std::string hex(64, 'a');
  const std::pair<std::string, const char*> cases[] = {
      {"keys: 1\n", "must be a list of keys"},
      {good + "- {tenant: x}\n", "key 2: sha256 is required"},
      {"- {sha256: " + hex + ", tenant: 'a b'}\n", "key 1: tenant must be"},
      {"- {sha256: " + hex + ", tenant: [a]}\n", "key 1: tenant must be"},
      {"- {sha256: " + hex + ", max-concurrent: -1}\n", "key 1: max-concurrent must be"},
      {"- {sha256: " + hex + ", priority: high}\n", "key 1: priority must be"},
      {"- {sha256: " + hex + ", colour: red}\n", "key 1: colour is no field"},
      {"- {sha256: " + hex + ", sha256: " + hex + "}\n", "sha256 is given twice"},
      {good + good, "is there twice"},
      {"- {sha256: ", ""},
  };
  for (const auto& [text, message] : cases) {
    const KeyFile file(text);
    const auto read = read_key_file(file.path());
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_THAT(read.status().message(), HasSubstr(message));
  }
  EXPECT_EQ(read_key_file("/no/such/file").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(read_key_file("/").status().code(), StatusCode::kNotFound);
}

TEST(ApiKeys, RandomKeysAreLongAndDiffer) {
  EXPECT_EQ(random_key().size(), 51U);
  EXPECT_NE(random_key(), random_key());
}

class KeyLimits : public ::testing::Test {
 protected:
  static std::shared_ptr<ApiKey> make(KeyPolicy policy) {
    return std::make_shared<ApiKey>(std::move(policy));
  }
  const TimePoint now_ = steady_now();
};

TEST_F(KeyLimits, BoundRequestsAtOnce) {
  const auto key = make({.tenant = "", .max_concurrent = 2});
  auto first = key->begin(now_);
  {
    const auto second = key->begin(now_);
    ASSERT_TRUE(second.ok());
    EXPECT_THAT(key->begin(now_).status().message(), HasSubstr("2 requests at once"));
  }
  EXPECT_TRUE(key->begin(now_).ok());
  KeyUse moved = *std::move(first);
  moved = KeyUse();
  const auto a = key->begin(now_);
  const auto b = key->begin(now_);
  EXPECT_TRUE(a.ok() && b.ok());
}

TEST_F(KeyLimits, BoundRequestsAMinute) {
  const auto key = make({.tenant = "", .requests_per_minute = 3});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(key->begin(now_).ok());
  EXPECT_THAT(key->begin(now_).status().message(), HasSubstr("3 requests a minute"));
  EXPECT_NEAR(to_seconds(key->wait(now_)), 20.0, 0.01);
  EXPECT_FALSE(key->begin(now_ + std::chrono::seconds(19)).ok());
  EXPECT_TRUE(key->begin(now_ + std::chrono::seconds(21)).ok());
}

TEST_F(KeyLimits, TokensMayBeOverdrawnAndArePaidBack) {
  const auto key = make({.tenant = "", .tokens_per_minute = 60});
  ASSERT_TRUE(key->begin(now_).ok());
  key->charge_tokens(90, now_);
  EXPECT_THAT(key->begin(now_).status().message(), HasSubstr("60 tokens a minute"));
  EXPECT_FALSE(key->begin(now_ + std::chrono::seconds(30)).ok());
  EXPECT_TRUE(key->begin(now_ + std::chrono::seconds(32)).ok());
  // A long rest earns one minute's worth and no more.
  key->charge_tokens(60, now_ + std::chrono::hours(1));
  EXPECT_FALSE(key->begin(now_ + std::chrono::hours(1)).ok());
}

TEST_F(KeyLimits, NoLimitIsNone) {
  const auto key = make({});
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(key->begin(now_).ok());
  key->charge_tokens(1 << 30, now_);
  EXPECT_EQ(key->wait(now_), Duration::zero());
}

TEST_F(KeyLimits, APriorityCanOnlyBeLowered) {
  const auto key = make({.tenant = "", .priority = 5});
  EXPECT_EQ(key->priority_of(0), 5);
  EXPECT_EQ(key->priority_of(-100), 5);
  EXPECT_EQ(key->priority_of(2), 7);
  EXPECT_EQ(key->priority_of(2147483647), 2147483647);
}

TEST(PrefixSaltTest, SeparatesTenantsAndTheirSalts) {
  const PrefixSalt salt;
  EXPECT_EQ(salt.of("", ""), 0U);
  EXPECT_EQ(salt.of("a", "b"), salt.of("a", "b"));
  EXPECT_NE(salt.of("a", "bc"), salt.of("ab", "c"));
  EXPECT_NE(salt.of("a", ""), salt.of("", "a"));
  EXPECT_NE(salt.of("a", ""), salt.of("b", ""));
  EXPECT_NE(salt.of("a", ""), PrefixSalt().of("a", ""));
}

}  // namespace
}  // namespace latentd
