#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "server/options.h"

namespace latentd {
namespace {

Result<CommandLine> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "latentd");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

TEST(CommandLine, InspectTakesADirectoryAndAMemory) {
  const auto line = parse({"inspect", "models/latent-mini", "--memory", "80GiB", "--json"});
  ASSERT_TRUE(line.ok()) << line.status().to_string();
  EXPECT_EQ(line->action, CommandLine::Action::kInspect);
  EXPECT_EQ(line->inspect.model, "models/latent-mini");
  EXPECT_EQ(line->inspect.memory_bytes, std::size_t{80} << 30);
  EXPECT_TRUE(line->inspect.json);
  EXPECT_EQ(parse({"inspect", "m", "--memory", "80GB"})->inspect.memory_bytes, 80'000'000'000U);
  EXPECT_FALSE(parse({"inspect"}).ok());
  EXPECT_FALSE(parse({"inspect", "m", "--memory", "much"}).ok());
}

TEST(CommandLine, HealthFollowsThePortsOfTheEnvironment) {
  auto line = parse({"health"});
  ASSERT_TRUE(line.ok()) << line.status().to_string();
  EXPECT_EQ(line->action, CommandLine::Action::kHealth);
  EXPECT_EQ(line->health.http_port, 8000);
  EXPECT_EQ(line->health.door, HealthDoor::kHttp);
  ::setenv("LATENTD_HTTP_PORT", "8123", 1);
  EXPECT_EQ(parse({"health"})->health.http_port, 8123);
  EXPECT_EQ(parse({"health", "--http-port", "8200"})->health.http_port, 8200);
  ::unsetenv("LATENTD_HTTP_PORT");
  EXPECT_EQ(parse({"health", "--grpc"})->health.door, HealthDoor::kGrpc);
  EXPECT_TRUE(parse({"health", "--live", "--timeout", "0.5"})->health.live);
  EXPECT_FALSE(parse({"health", "--live", "--grpc"}).ok());
  ::setenv("LATENTD_HTTP_PORT", "0", 1);  // any free port: for `serve`
  EXPECT_TRUE(parse({"serve", "--model", "m"}).ok());
  ::unsetenv("LATENTD_HTTP_PORT");
}

}  // namespace
}  // namespace latentd
