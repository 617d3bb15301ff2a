#include "server/log.h"

#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

namespace latentd {
namespace {

using ::testing::EndsWith;

// What `act` logs, in `format`.
template <typename Act>
std::string logged(LogFormat format, const Act& act) {
  ::testing::internal::CaptureStderr();
  configure_logging("info", format);
  act();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Log, WritesFieldsAsTextAndQuotesWhatNeedsIt) {
  const std::string line = logged(LogFormat::kText, [] {
    log_event("request", {{"path", "/v1"}, {"id", "a b"}, {"bad", "x\ny\"z"}, {"none", ""}});
  });
  EXPECT_THAT(line, EndsWith(R"(info request path=/v1 id="a b" bad="x\u000ay\"z" none=""
)"));
}

TEST(Log, WritesOneJsonObjectALine) {
  const std::string lines = logged(LogFormat::kJson, [] {
    log_event("request", {{"path", "a\"b\\c\n"}});
    spdlog::warn("plain \"text\"");
    spdlog::debug("not at this level");
  });
  const std::size_t end = lines.find('\n');
  const auto first = nlohmann::json::parse(lines.substr(0, end));
  EXPECT_EQ(first["event"], "request");
  EXPECT_EQ(first["path"], "a\"b\\c\n");
  EXPECT_EQ(first["level"], "info");
  EXPECT_THAT(first["time"].get<std::string>(), EndsWith("Z"));
  const auto second = nlohmann::json::parse(lines.substr(end + 1));
  EXPECT_EQ(second["message"], "plain \"text\"");
  EXPECT_EQ(second["level"], "warning");
}

}  // namespace
}  // namespace latentd
