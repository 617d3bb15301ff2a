// ServeOptions: what `latentd serve` was told, from flags, LATENTD_* variables and a YAML file.
//
// One name serves all three: `--http-port`, LATENTD_HTTP_PORT, `http-port:`. Flags win over the
// environment, the environment over the file named by --config. Unknown variables are ignored (a
// Kubernetes Service named latentd injects LATENTD_PORT and LATENTD_SERVICE_*, which no flag maps
// to); an unknown key of the file is an error.
//
// Contract: plain values; parsing prints nothing and exits never.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "engine/engine.h"
#include "server/api_key.h"
#include "server/health_probe.h"
#include "server/inspect.h"
#include "server/request_limits.h"
#include "server/tls_files.h"
#include "server/tracing/span_exporter.h"

namespace latentd {

enum class LogFormat : std::uint8_t { kText, kJson };

struct ServeOptions {
  std::filesystem::path model;
  std::string host = "127.0.0.1";
  int http_port = 8000;                         // 0: any free one
  int grpc_port = 50051;                        // 0: any free one
  std::vector<std::string> served_model_names;  // empty: the last component of `model`
  std::vector<std::string> api_keys;            // with no file either: no authentication
  std::filesystem::path api_key_file;           // empty: none
  TlsFiles tls;                                 // of both doors
  std::vector<std::string> cors_origins;        // empty: browsers may not
  std::optional<int> metrics_port;              // of HTTP for metrics and health; 0: any free one
  std::optional<int> admin_port;                // of gRPC for channelz and reflection

  EngineOptions engine;
  bool use_generation_config = true;
  int default_max_tokens = 4096;  // gRPC calls that set none; completions have OpenAI's 16

  RequestLimits limits;
  Duration grpc_connection_age = std::chrono::hours(1);  // then a connection is asked to go
  int max_queue = 1024;  // requests in the house before new ones are shed
  Duration drain_timeout = std::chrono::seconds(60);
  Duration drain_propagation = std::chrono::seconds(2);
  Duration stall_timeout = std::chrono::seconds(30);  // of readers that take nothing

  SpanExportOptions spans;          // no endpoint: spans go nowhere
  double trace_sample_ratio = 1.0;  // of requests that come without a traceparent

  std::string log_level = "info";
  LogFormat log_format = LogFormat::kText;
};

// A command line as understood. `text` is what to print for --help, --version and errors.
struct CommandLine {
  enum class Action : std::uint8_t { kServe, kPrint, kInspect, kHealth, kNewKey };

  Action action = Action::kPrint;
  ServeOptions serve;
  InspectOptions inspect;
  HealthOptions health;
  KeyPolicy new_key;
  std::string text;
};

// kInvalidArgument with a message for people when the arguments, the environment or the file are
// wrong.
Result<CommandLine> parse_command_line(int argc, const char* const* argv);

// (flag, environment variable) of every option of `serve`.
std::vector<std::pair<std::string, std::string>> serve_option_names();

// The effective configuration, for the one log line at start; keys are counted, never shown.
std::vector<std::pair<std::string, std::string>> describe(const ServeOptions& options);

// True for an address that only this machine reaches.
bool is_loopback(const std::string& host);

}  // namespace latentd
