#include "server/options.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Result<CommandLine> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "latentd");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

ServeOptions parse_serve(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"serve", "--model", "some/dir"});
  auto line = parse(std::move(arguments));
  EXPECT_TRUE(line.ok()) << line.status().to_string();
  return line->serve;
}

// Sets a variable until the end of a test.
class Variable final {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

// A file in the test's temporary folder, removed at its end.
class TextFile final {
 public:
  explicit TextFile(const std::string& text)
      : path_(::testing::TempDir() +
              ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".yaml") {
    std::ofstream(path_) << text;
  }
  ~TextFile() { std::filesystem::remove(path_); }
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;
  const char* path() const { return path_.c_str(); }

 private:
  const std::string path_;
};

TEST(Options, HaveSafeDefaults) {
  const ServeOptions options = parse_serve({});
  EXPECT_EQ(options.host, "127.0.0.1");
  EXPECT_EQ(options.http_port, 8000);
  EXPECT_EQ(options.grpc_port, 50051);
  EXPECT_THAT(options.served_model_names, ElementsAre("dir"));
  EXPECT_FALSE(options.engine.batch_invariant.has_value());
  EXPECT_TRUE(options.engine.prefix_cache);
  EXPECT_FALSE(options.engine.dtype.has_value());
}

TEST(Options, NameTheModelAfterItsFolderWhateverTheSlashes) {
  EXPECT_THAT(parse({"serve", "--model", "a/b/c/"})->serve.served_model_names, ElementsAre("c"));
}

TEST(Options, ReadFlags) {
  const ServeOptions options =
      parse_serve({"--http-port",         "0",    "--dtype",           "fp32",
                   "--kv-cache-dtype",    "bf16", "--no-prefix-cache", "--no-batch-invariant",
                   "--block-size",        "16",   "--drain-timeout",   "1.5",
                   "--api-key",           "a",    "--api-key",         "b",
                   "--served-model-name", "x/y",  "--log-format",      "json"});
  EXPECT_EQ(options.http_port, 0);
  EXPECT_EQ(options.engine.dtype, DType::kF32);
  EXPECT_EQ(options.engine.kv_cache_dtype, DType::kBF16);
  EXPECT_FALSE(options.engine.prefix_cache);
  EXPECT_EQ(options.engine.batch_invariant, false);
  EXPECT_EQ(options.engine.page_tokens, 16);
  EXPECT_EQ(options.drain_timeout, std::chrono::milliseconds(1500));
  EXPECT_THAT(options.api_keys, ElementsAre("a", "b"));
  EXPECT_THAT(options.served_model_names, ElementsAre("x/y"));
  EXPECT_EQ(options.log_format, LogFormat::kJson);
}

TEST(Options, LeaveTheDeviceAndWhatHangsOnItOpenUnlessTold) {
  EXPECT_EQ(parse_serve({}).engine.device, Device::kAuto);
  const ServeOptions options = parse_serve({"--device", "cuda", "--batch-invariant"});
  EXPECT_EQ(options.engine.device, Device::kCuda);
  EXPECT_EQ(options.engine.batch_invariant, true);
  // The last one counts, as with every option.
  EXPECT_EQ(parse_serve({"--no-batch-invariant", "--batch-invariant"}).engine.batch_invariant,
            true);
  EXPECT_EQ(parse_serve({"--batch-invariant", "--no-batch-invariant"}).engine.batch_invariant,
            false);
  EXPECT_EQ(parse_serve({}).engine.load_format, LoadFormat::kAuto);
  EXPECT_EQ(parse_serve({"--load-format", "random"}).engine.load_format, LoadFormat::kRandom);
  EXPECT_EQ(parse_serve({"--gpu-memory-utilization", "0.5"}).engine.gpu_memory_utilization, 0.5);
  EXPECT_FALSE(parse({"serve", "--model", "dir", "--device", "tpu"}).ok());
}

TEST(Options, OfAccess) {
  const ServeOptions options =
      parse_serve({"--api-key-file", "keys.yaml", "--tls-cert", "c.pem", "--tls-key", "k.pem",
                   "--tls-client-ca", "ca.pem", "--cors-origin", "https://a", "--cors-origin",
                   "https://b", "--metrics-port", "0", "--stall-timeout", "2.5"});
  EXPECT_EQ(options.api_key_file, "keys.yaml");
  EXPECT_TRUE(options.tls.enabled());
  EXPECT_EQ(options.tls.client_ca, "ca.pem");
  EXPECT_THAT(options.cors_origins, ElementsAre("https://a", "https://b"));
  EXPECT_EQ(options.metrics_port, 0);
  EXPECT_FALSE(options.admin_port.has_value());
  EXPECT_EQ(options.stall_timeout, std::chrono::milliseconds(2500));
  EXPECT_FALSE(parse({"serve", "--model", "m", "--tls-key", "k.pem"}).ok());
  EXPECT_FALSE(parse({"serve", "--model", "m", "--tls-client-ca", "ca.pem"}).ok());
}

TEST(Options, OfLimits) {
  const RequestLimits usual = parse_serve({}).limits;
  EXPECT_EQ(usual.max_body_bytes, std::size_t{8} << 20);
  EXPECT_EQ(usual.max_choices, 128);
  const ServeOptions options = parse_serve(
      {"--max-body-bytes", "32MiB", "--body-timeout", "5", "--max-choices", "16", "--max-logprobs",
       "0", "--max-schema-bytes", "4096", "--grpc-connection-age", "60"});
  EXPECT_EQ(options.limits.max_body_bytes, std::size_t{32} << 20);
  EXPECT_EQ(options.limits.body_timeout, std::chrono::seconds(5));
  EXPECT_EQ(options.limits.max_choices, 16);
  EXPECT_EQ(options.limits.max_logprobs, 0);
  EXPECT_EQ(options.limits.max_schema_bytes, 4096U);
  EXPECT_EQ(options.grpc_connection_age, std::chrono::minutes(1));
  for (const auto& [flag, value] :
       {std::pair("--max-body-bytes", "100"), std::pair("--max-body-bytes", "2GiB"),
        std::pair("--max-choices", "0"), std::pair("--max-choices", "129"),
        std::pair("--max-logprobs", "21"), std::pair("--grpc-connection-age", "0")}) {
    EXPECT_FALSE(parse({"serve", "--model", "dir", flag, value}).ok()) << flag << " " << value;
  }
}

TEST(Options, MakeKeysWithAPolicy) {
  const auto line = parse({"new-key", "--tenant", "t", "--max-concurrent", "3"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->action, CommandLine::Action::kNewKey);
  EXPECT_EQ(line->new_key.tenant, "t");
  EXPECT_EQ(line->new_key.max_concurrent, 3);
}

TEST(Options, TakeTheLastOfAFlagThatIsGivenTwice) {
  EXPECT_EQ(parse_serve({"--http-port", "1", "--http-port", "2"}).http_port, 2);
}

TEST(Options, FlagsBeatTheEnvironmentAndThatBeatsTheFile) {
  const TextFile file(
      "http-port: 1\ngrpc-port: 2\nmax-queue: 3\nbatch-invariant: false\n"
      "served-model-name: [p, q]\n");
  const Variable port("LATENTD_GRPC_PORT", "20");
  const Variable queue("LATENTD_MAX_QUEUE", "30");
  const ServeOptions options = parse_serve({"--config", file.path(), "--max-queue", "300"});
  EXPECT_EQ(options.http_port, 1);
  EXPECT_EQ(options.grpc_port, 20);
  EXPECT_EQ(options.max_queue, 300);
  EXPECT_EQ(options.engine.batch_invariant, false);
  EXPECT_THAT(options.served_model_names, ElementsAre("p", "q"));
}

TEST(Options, TakeFlagsAndListsFromTheEnvironment) {
  const Variable cache("LATENTD_NO_PREFIX_CACHE", "true");
  const Variable keys("LATENTD_API_KEY", "k1,k2");
  const Variable model("LATENTD_MODEL", "m");
  const auto line = parse({"serve"});
  ASSERT_TRUE(line.ok()) << line.status().to_string();
  EXPECT_EQ(line->serve.model, "m");
  EXPECT_FALSE(line->serve.engine.prefix_cache);
  EXPECT_THAT(line->serve.api_keys, ElementsAre("k1", "k2"));
}

TEST(Options, IgnoreUnknownVariablesSuchAsKubernetesInjects) {
  const Variable port("LATENTD_PORT", "tcp://10.0.0.1:80");
  const Variable host("LATENTD_SERVICE_HOST", "10.0.0.1");
  EXPECT_EQ(parse_serve({}).host, "127.0.0.1");
}

TEST(Options, NeverMapToWhatKubernetesInjects) {
  const auto names = serve_option_names();
  EXPECT_GT(names.size(), 20U);
  for (const auto& [flag, variable] : names) {
    EXPECT_THAT(variable, StartsWith("LATENTD_"));
    EXPECT_NE(variable, "LATENTD_PORT");
    EXPECT_FALSE(variable.starts_with("LATENTD_SERVICE_")) << flag;
    EXPECT_FALSE(variable.starts_with("LATENTD_PORT_")) << flag;
  }
}

TEST(Options, SayWhereSpansGo) {
  const ServeOptions options =
      parse_serve({"--otlp-endpoint", "https://collector:4317", "--otlp-ca-file", "ca.pem",
                   "--otlp-header", "A=b%2Cb,C=d=e", "--otlp-sample-ratio", "0.25"});
  EXPECT_EQ(options.spans.endpoint, "https://collector:4317");
  EXPECT_EQ(options.spans.ca_file, "ca.pem");
  EXPECT_THAT(options.spans.headers, ElementsAre(std::pair("a", "b,b"), std::pair("c", "d=e")));
  EXPECT_EQ(options.trace_sample_ratio, 0.25);
  // Headers hold tokens: their number is told, nothing more.
  for (const auto& [name, value] : describe(options)) {
    EXPECT_TRUE(name != "otlp-headers" || value == "2") << value;
    EXPECT_THAT(value, ::testing::Not(HasSubstr("d=e"))) << name;
  }
  EXPECT_TRUE(parse_serve({}).spans.endpoint.empty());
}

TEST(Options, RejectSpansThatCannotBeSent) {
  const auto fault = [](std::vector<const char*> flags) {
    flags.insert(flags.begin(), {"serve", "--model", "m"});
    return parse(flags).status();
  };
  EXPECT_EQ(fault({"--otlp-endpoint", "collector"}).field(), "otlp-endpoint");
  EXPECT_EQ(fault({"--otlp-header", "a=b"}).field(), "otlp-endpoint");
  EXPECT_EQ(fault({"--otlp-endpoint", "c:1", "--otlp-header", "a"}).field(), "otlp-header");
  EXPECT_EQ(fault({"--otlp-endpoint", "c:1", "--otlp-ca-file", "f"}).field(), "otlp-ca-file");
  EXPECT_THAT(fault({"--otlp-endpoint", "c:1", "--otlp-sample-ratio", "1.5"}).message(),
              HasSubstr("--otlp-sample-ratio"));
}

TEST(Options, RejectWhatIsWrongAndSayWhat) {
  EXPECT_THAT(parse({"serve"}).status().message(), HasSubstr("--model"));
  EXPECT_THAT(parse({"serve", "--model", "m", "--dtype", "fp8"}).status().message(),
              HasSubstr("--dtype"));
  EXPECT_THAT(parse({"serve", "--model", "m", "--http-port", "70000"}).status().message(),
              HasSubstr("--http-port"));
  EXPECT_THAT(parse({"serve", "--model", "m", "--page-tokens", "48"}).status().message(),
              HasSubstr("--page-tokens"));
  EXPECT_FALSE(parse({"serve", "--model", "m", "--no-such-flag"}).ok());
  EXPECT_FALSE(parse({}).ok());
  const TextFile file("htp-port: 1\n");
  EXPECT_THAT(parse({"serve", "--model", "m", "--config", file.path()}).status().message(),
              HasSubstr("htp-port"));
  EXPECT_FALSE(parse({"serve", "--model", "m", "--config", "/no/such/file"}).ok());
}

TEST(Options, PrintHelpAndVersionWithoutServing) {
  for (const char* word : {"version", "--version", "--help"}) {
    const auto line = parse({word});
    ASSERT_TRUE(line.ok()) << word;
    EXPECT_EQ(line->action, CommandLine::Action::kPrint);
    EXPECT_THAT(line->text, HasSubstr("latentd"));
  }
  EXPECT_THAT(parse({"serve", "--help"})->text, HasSubstr("--max-num-seqs"));
}

TEST(Options, DescriptionShowsNoKeys) {
  for (const auto& [key, value] : describe(parse_serve({"--api-key", "secret-key"}))) {
    EXPECT_THAT(value, ::testing::Not(HasSubstr("secret"))) << key;
  }
}

TEST(Options, KnowLoopbackAddresses) {
  EXPECT_TRUE(is_loopback("127.0.0.1"));
  EXPECT_TRUE(is_loopback("localhost"));
  EXPECT_TRUE(is_loopback("::1"));
  EXPECT_FALSE(is_loopback("0.0.0.0"));
  EXPECT_FALSE(is_loopback("192.168.0.1"));
}

}  // namespace
}  // namespace latentd
