#include "server/options.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

#include "server/version.h"

namespace latentd {
namespace {

// What flags write into before they become ServeOptions.
struct RawOptions {
  ServeOptions serve;
  std::string model;
  std::string config;
  std::string api_key_file;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string otlp_ca_file;
  std::vector<std::string> otlp_headers;
  std::string device = "auto";
  std::string load_format = "auto";
  std::string dtype = "auto";
  std::string kv_cache_dtype = "auto";
  std::string generation_config = "auto";
  std::string log_format = "text";
  bool no_prefix_cache = false;
  double drain_timeout_s = 60.0;
  double drain_propagation_s = 2.0;
  double stall_timeout_s = 30.0;
  double body_timeout_s = 30.0;
  double grpc_connection_age_s = 3600.0;
};

std::string environment_name(std::string_view flag) {
  std::string name = "LATENTD_";
  for (const char c : flag) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

// Who may come in, and how.
void add_access_options(CLI::App& app, RawOptions& raw) {
  ServeOptions& serve = raw.serve;
  const CLI::Range port(0, 65535);
  app.add_option("--api-key", serve.api_keys,
                 "Key that clients must send; may be given more than once")
      ->delimiter(',');
  app.add_option("--api-key-file", raw.api_key_file,
                 "File of hashed keys and their limits, read again when it changes");
  app.add_option("--tls-cert", raw.tls_cert,
                 "PEM file of the doors' certificate and its chain, read again when it changes");
  app.add_option("--tls-key", raw.tls_key, "PEM file of its private key");
  app.add_option("--tls-client-ca", raw.tls_client_ca,
                 "PEM file: clients must show a certificate that these have signed");
  app.add_option("--cors-origin", serve.cors_origins,
                 "Origin whose pages browsers may let in, or *; may be given more than once")
      ->delimiter(',');
  app.add_option("--metrics-port", serve.metrics_port,
                 "HTTP port of their own for metrics and health, without keys or TLS")
      ->check(port);
  app.add_option("--admin-port", serve.admin_port,
                 "gRPC port for channelz, reflection and health, without keys or TLS")
      ->check(port);
}

void add_door_options(CLI::App& app, RawOptions& raw) {
  ServeOptions& serve = raw.serve;
  const CLI::Range port(0, 65535);
  app.add_option("--model", raw.model,
                 "Directory of the model: config.json, tokenizer.json, *.safetensors");
  app.add_option("--config", raw.config, "YAML file with any of these options");
  app.add_option("--host", serve.host, "Address to listen on")->capture_default_str();
  app.add_option("--http-port", serve.http_port, "HTTP port; 0 picks a free one")
      ->check(port)
      ->capture_default_str();
  app.add_option("--grpc-port", serve.grpc_port, "gRPC port; 0 picks a free one")
      ->check(port)
      ->capture_default_str();
  app.add_option("--served-model-name", serve.served_model_names,
                 "Name that clients use; may be given more than once");
  app.add_option("--generation-config", raw.generation_config,
                 "auto: sampling defaults of generation_config.json apply; none: they do not")
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str();
  app.add_option("--default-max-tokens", serve.default_max_tokens,
                 "Tokens generated for gRPC calls that set no max_tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--max-queue", serve.max_queue,
                 "Requests waiting or running before new ones are refused")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--drain-timeout", raw.drain_timeout_s,
                 "Seconds that running requests may take after SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--drain-propagation", raw.drain_propagation_s,
                 "Seconds after SIGTERM in which new requests are still taken")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--stall-timeout", raw.stall_timeout_s,
                 "Seconds after which a reader that takes nothing is given up")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  app.add_option("--log-level", serve.log_level, "trace, debug, info, warning, error or critical")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "critical"}))
      ->capture_default_str();
  app.add_option("--log-format", raw.log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

// Where spans go.
void add_tracing_options(CLI::App& app, RawOptions& raw) {
  app.add_option(
      "--otlp-endpoint", raw.serve.spans.endpoint,
      "Collector of a span a request, by OTLP over gRPC: host:port or https://host:port");
  app.add_option("--otlp-ca-file", raw.otlp_ca_file,
                 "PEM file of who may have signed an https collector's certificate");
  app.add_option("--otlp-header", raw.otlp_headers,
                 "name=value sent with every export; may be given more than once")
      ->delimiter(',');
  app.add_option("--otlp-sample-ratio", raw.serve.trace_sample_ratio,
                 "Share of requests without a traceparent that are traced; others follow theirs")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

// What one request or connection may take.
void add_limit_options(CLI::App& app, RawOptions& raw) {
  RequestLimits& limits = raw.serve.limits;
  const auto bytes = [&app](const char* name, std::size_t& target, const char* text) {
    app.add_option(name, target, text)
        ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
        ->check(CLI::Range(std::size_t{1} << 10, std::size_t{1} << 30))
        ->capture_default_str();
  };
  bytes("--max-body-bytes", limits.max_body_bytes,
        "Bytes of a request's body or gRPC message, such as 32MiB");
  app.add_option("--body-timeout", raw.body_timeout_s,
                 "Seconds in which a request's body must have come")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  app.add_option("--max-choices", limits.max_choices, "Choices of one request: n times its prompts")
      ->check(CLI::Range(1, kMaxChoices))
      ->capture_default_str();
  app.add_option("--max-logprobs", limits.max_logprobs,
                 "Alternatives that logprobs may show of a token")
      ->check(CLI::Range(0, kMaxLogprobs))
      ->capture_default_str();
  bytes("--max-schema-bytes", limits.max_schema_bytes, "Bytes of a request's JSON schema");
  app.add_option(
         "--grpc-connection-age", raw.grpc_connection_age_s,
         "Seconds after which a gRPC connection takes no more calls, so that clients spread")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
}

void add_engine_options(CLI::App& app, RawOptions& raw) {
  EngineOptions& engine = raw.serve.engine;
  const CLI::Range count(0, 1 << 30);
  app.add_option("--device", raw.device,
                 "cpu, cuda, or auto: cuda when this build has it and a device answers")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--cpu-threads", engine.cpu_threads, "0: what the cgroup and affinity allow")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_option("--dtype", raw.dtype, "Type of activations")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}))
      ->capture_default_str();
  app.add_option(
         "--kv-cache-dtype", raw.kv_cache_dtype,
         "Type of the latent cache; auto follows the model, fp8 holds about 1.7 times as much as "
         "bf16")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp8"}))
      ->capture_default_str();
  app.add_option("--kv-cache-tokens", engine.kv_cache_tokens,
                 "Tokens that the cache holds; 0: sized from memory")
      ->capture_default_str();
  app.add_option("--gpu-memory-utilization", engine.gpu_memory_utilization,
                 "Share of the GPU's memory that this process may use")
      ->capture_default_str();
  app.add_option("--load-format", raw.load_format,
                 "auto: weights from *.safetensors; random: made up on the device, for benchmarks")
      ->check(CLI::IsMember({"auto", "random"}))
      ->capture_default_str();
  app.add_option("--page-tokens,--block-size", engine.page_tokens, "Tokens of a page of the cache")
      ->check(CLI::IsMember({16, 32, 64}))
      ->capture_default_str();
  app.add_option("--max-model-len", engine.max_model_len,
                 "Tokens of prompt and output together; 0: what the model and the cache allow")
      ->check(count)
      ->capture_default_str();
  app.add_option("--max-num-seqs", engine.max_num_seqs,
                 "Sequences that run at once; 0: 64 on the CPU, 256 on CUDA")
      ->check(count)
      ->capture_default_str();
  app.add_option("--max-num-batched-tokens", engine.max_num_batched_tokens,
                 "Tokens of one step; 0: 128 on the CPU, 2048 on CUDA")
      ->check(count)
      ->capture_default_str();
  app.add_flag_function(
         "--batch-invariant,!--no-batch-invariant",
         [&engine](std::int64_t given) { engine.batch_invariant = given > 0; },
         "The same text whatever else is in the batch (default: cpu on, cuda off)")
      ->take_last();
  app.add_flag("--no-prefix-cache", raw.no_prefix_cache, "Compute every prompt afresh");
  app.add_flag("--shared-prefixes", engine.shared_prefixes,
               "CUDA: read keys once that several sequences share");
  app.add_flag("--overcommit", engine.overcommit,
               "Admit more than surely fits, and preempt when it does not");
}

void add_serve_options(CLI::App& app, RawOptions& raw) {
  add_door_options(app, raw);
  add_access_options(app, raw);
  add_tracing_options(app, raw);
  add_limit_options(app, raw);
  add_engine_options(app, raw);
  for (CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty() || option->get_lnames().front() == "help") continue;
    option->envname(environment_name(option->get_lnames().front()));
    // Given twice, the last counts: scripts append to what they were given.
    if (option->get_expected_max() == 1) option->take_last();
  }
}

// What the flags of `inspect` and `health` write into.
struct RawProbes {
  std::string model;
  std::uint64_t memory_bytes = 0;
  std::string kv_cache_dtype = "auto";
  bool json = false;
  HealthOptions health;
  int metrics_port = 0;
  bool grpc = false;
  double timeout_s = 3.0;
};

void add_inspect_options(CLI::App& app, RawProbes& raw) {
  app.add_option("model", raw.model, "Directory of the model")->required();
  app.add_option("--memory", raw.memory_bytes,
                 "Memory to fill, such as 80GiB; default: what this machine allows")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--kv-cache-dtype", raw.kv_cache_dtype, "Type of the cache")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp8"}))
      ->capture_default_str();
  app.add_flag("--json", raw.json, "One JSON object instead of text");
}

// The ports follow the variables that set them for `serve`, so that a container's check needs no
// flags; a metrics port, which is never encrypted, is asked instead where there is one. CLI11
// checks variables of every subcommand, named or not: 0, which `serve` takes, must pass.
void add_health_options(CLI::App& app, RawProbes& raw) {
  const CLI::Range port(0, 65535);
  app.add_option("--host", raw.health.host, "Address of the server")->capture_default_str();
  app.add_option("--http-port", raw.health.http_port, "Its HTTP port")
      ->check(port)
      ->envname("LATENTD_HTTP_PORT")
      ->capture_default_str();
  app.add_option("--grpc-port", raw.health.grpc_port, "Its gRPC port")
      ->check(port)
      ->envname("LATENTD_GRPC_PORT")
      ->capture_default_str();
  app.add_option("--metrics-port", raw.metrics_port,
                 "Its HTTP port for metrics, to be asked instead")
      ->check(port)
      ->envname("LATENTD_METRICS_PORT");
  CLI::Option* grpc = app.add_flag("--grpc", raw.grpc, "Ask the gRPC door instead of /readyz");
  app.add_flag("--live", raw.health.live, "Ask whether it is alive (/healthz), not ready")
      ->excludes(grpc);
  app.add_option("--timeout", raw.timeout_s, "Seconds to wait for the answer")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
}

void add_new_key_options(CLI::App& app, KeyPolicy& policy) {
  const CLI::Range count(0, 1'000'000'000);
  app.add_option("--tenant", policy.tenant, "Whose key it is; default: its own");
  app.add_option("--requests-per-minute", policy.requests_per_minute, "0: no limit")
      ->check(count)
      ->capture_default_str();
  app.add_option("--tokens-per-minute", policy.tokens_per_minute, "0: no limit")
      ->check(count)
      ->capture_default_str();
  app.add_option("--max-concurrent", policy.max_concurrent, "0: no limit")
      ->check(count)
      ->capture_default_str();
  app.add_option("--priority", policy.priority, "Of its requests; lower runs first")
      ->check(CLI::Range(-1'000'000, 1'000'000))
      ->capture_default_str();
}

std::optional<DType> dtype_of(const std::string& name) {
  if (name == "fp32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "fp8") return DType::kF8E4M3;
  return std::nullopt;
}

Device device_of(const std::string& name) {
  if (name == "auto") return Device::kAuto;
  return name == "cuda" ? Device::kCuda : Device::kCpu;
}

std::string device_name(Device device) {
  if (device == Device::kAuto) return "auto";
  return device == Device::kCuda ? "cuda" : "cpu";
}

// Gives options that neither a flag nor the environment set the file's values.
Status apply_file(CLI::App& app, const std::string& path) {
  std::map<std::string, std::vector<std::string>> values;
  const YAML::Node root = YAML::LoadFile(path);
  if (root.IsNull()) return ok_status();
  if (!root.IsMap()) return invalid_argument("config", path + ": must be a mapping of options");
  for (const auto& entry : root) {
    const auto key = entry.first.as<std::string>();
    CLI::Option* option = key == "config" ? nullptr : app.get_option_no_throw("--" + key);
    if (option == nullptr) {
      return invalid_argument("config", fmt::format("{}: unknown option {}", path, key));
    }
    if (option->count() > 0) continue;
    if (entry.second.IsSequence()) {
      for (const auto& item : entry.second) option->add_result(item.as<std::string>());
    } else {
      option->add_result(entry.second.as<std::string>());
    }
    option->run_callback();
  }
  return ok_status();
}

Duration seconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

InspectOptions finish_inspect(const RawProbes& raw) {
  InspectOptions inspect;
  inspect.model = raw.model;
  inspect.memory_bytes = raw.memory_bytes;
  inspect.kv_cache_dtype = dtype_of(raw.kv_cache_dtype);
  inspect.json = raw.json;
  return inspect;
}

HealthOptions finish_health(const RawProbes& raw) {
  HealthOptions health = raw.health;
  if (raw.metrics_port != 0) health.http_port = raw.metrics_port;
  health.door = raw.grpc ? HealthDoor::kGrpc : HealthDoor::kHttp;
  health.timeout = seconds(raw.timeout_s);
  return health;
}

Status finish_tracing(const RawOptions& raw, ServeOptions& serve) {
  serve.spans.ca_file = raw.otlp_ca_file;
  for (const std::string& header : raw.otlp_headers) {
    LATENTD_ASSIGN_OR_RETURN(auto parsed, parse_span_header(header));
    serve.spans.headers.push_back(std::move(parsed));
  }
  if (serve.spans.endpoint.empty()) {
    if (raw.otlp_ca_file.empty() && raw.otlp_headers.empty()) return ok_status();
    return invalid_argument("otlp-endpoint",
                            "--otlp-ca-file and --otlp-header need --otlp-endpoint");
  }
  LATENTD_ASSIGN_OR_RETURN(const SpanEndpoint endpoint, parse_span_endpoint(serve.spans.endpoint));
  if (!raw.otlp_ca_file.empty() && !endpoint.tls) {
    return invalid_argument("otlp-ca-file", "--otlp-ca-file needs an https:// --otlp-endpoint");
  }
  return ok_status();
}

Result<ServeOptions> finish(RawOptions raw) {
  if (raw.model.empty()) return invalid_argument("model", "--model DIR is required");
  ServeOptions serve = std::move(raw.serve);
  serve.model = raw.model;
  serve.api_key_file = raw.api_key_file;
  serve.tls = {raw.tls_cert, raw.tls_key, raw.tls_client_ca};
  if (raw.tls_cert.empty() != raw.tls_key.empty()) {
    return invalid_argument("tls-key", "--tls-cert and --tls-key go together");
  }
  if (!raw.tls_client_ca.empty() && !serve.tls.enabled()) {
    return invalid_argument("tls-client-ca", "--tls-client-ca needs --tls-cert");
  }
  LATENTD_RETURN_IF_ERROR(finish_tracing(raw, serve));
  serve.engine.device = device_of(raw.device);
  serve.engine.load_format = raw.load_format == "random" ? LoadFormat::kRandom : LoadFormat::kAuto;
  serve.engine.dtype = dtype_of(raw.dtype);
  serve.engine.kv_cache_dtype = dtype_of(raw.kv_cache_dtype);
  serve.engine.prefix_cache = !raw.no_prefix_cache;
  serve.use_generation_config = raw.generation_config == "auto";
  serve.log_format = raw.log_format == "json" ? LogFormat::kJson : LogFormat::kText;
  serve.drain_timeout = seconds(std::min(raw.drain_timeout_s, 86400.0));
  serve.drain_propagation = seconds(std::min(raw.drain_propagation_s, 86400.0));
  serve.stall_timeout = seconds(raw.stall_timeout_s);
  serve.limits.body_timeout = seconds(raw.body_timeout_s);
  serve.grpc_connection_age = seconds(raw.grpc_connection_age_s);
  for (const std::string& key : serve.api_keys) {
    if (key.empty()) return invalid_argument("api-key", "a key must not be empty");
  }
  if (serve.served_model_names.empty()) {
    // lexically_normal leaves an empty last component behind "dir/".
    std::filesystem::path path = std::filesystem::absolute(serve.model).lexically_normal();
    if (path.filename().empty()) path = path.parent_path();
    serve.served_model_names = {path.filename().string()};
  }
  return serve;
}

}  // namespace

Result<CommandLine> parse_command_line(int argc, const char* const* argv) {
  CLI::App app("latentd: an inference server for Multi-head Latent Attention models", "latentd");
  app.require_subcommand(1);
  app.set_version_flag("--version", "latentd " + std::string(kVersion));
  RawOptions raw;
  CLI::App* serve = app.add_subcommand("serve", "Serve a model over HTTP and gRPC");
  CLI::App* inspect = app.add_subcommand("inspect", "Tell what a checkpoint is and what fits");
  CLI::App* health = app.add_subcommand("health", "Ask a running server whether it is ready");
  CLI::App* new_key = app.add_subcommand(
      "new-key", "Make a key: the line for --api-key-file, and (stderr) the key");
  CLI::App* version = app.add_subcommand("version", "Print the version");
  RawProbes probes;
  add_serve_options(*serve, raw);
  add_inspect_options(*inspect, probes);
  add_health_options(*health, probes);

  CommandLine line;
  add_new_key_options(*new_key, line.new_key);
  try {
    app.parse(argc, argv);
    if (version->parsed()) {
      line.text = "latentd " + std::string(kVersion);
      return line;
    }
    if (inspect->parsed()) {
      line.action = CommandLine::Action::kInspect;
      line.inspect = finish_inspect(probes);
      return line;
    }
    if (health->parsed()) {
      line.action = CommandLine::Action::kHealth;
      line.health = finish_health(probes);
      return line;
    }
    if (new_key->parsed()) {
      line.action = CommandLine::Action::kNewKey;
      return line;
    }
    if (!raw.config.empty()) LATENTD_RETURN_IF_ERROR(apply_file(*serve, raw.config));
  } catch (const CLI::CallForVersion&) {
    line.text = "latentd " + std::string(kVersion);
    return line;
  } catch (const CLI::CallForHelp&) {
    line.text = app.help();  // of the subcommand, when one was named
    return line;
  } catch (const CLI::ParseError& error) {
    return Status(StatusCode::kInvalidArgument, error.what());
  } catch (const YAML::Exception& error) {
    return invalid_argument("config", raw.config + ": " + error.what());
  }
  LATENTD_ASSIGN_OR_RETURN(line.serve, finish(std::move(raw)));
  line.action = CommandLine::Action::kServe;
  return line;
}

std::vector<std::pair<std::string, std::string>> serve_option_names() {
  CLI::App app;
  RawOptions raw;
  add_serve_options(app, raw);
  std::vector<std::pair<std::string, std::string>> names;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_envname().empty()) continue;
    names.emplace_back("--" + option->get_lnames().front(), option->get_envname());
  }
  return names;
}

std::vector<std::pair<std::string, std::string>> describe(const ServeOptions& options) {
  const EngineOptions& engine = options.engine;
  const auto flag = [](bool value) { return std::string(value ? "true" : "false"); };
  const auto dtype = [](const std::optional<DType>& value) {
    return std::string(value ? dtype_name(*value) : "auto");
  };
  const auto list = [](const std::vector<std::string>& items) {
    std::string out;
    for (const std::string& item : items) out += (out.empty() ? "" : ",") + item;
    return out;
  };
  const auto port = [](const std::optional<int>& value) {
    return value ? std::to_string(*value) : "none";
  };
  return {
      {"model", options.model.string()},
      {"host", options.host},
      {"http-port", std::to_string(options.http_port)},
      {"grpc-port", std::to_string(options.grpc_port)},
      {"served-model-name", list(options.served_model_names)},
      {"api-keys", std::to_string(options.api_keys.size())},
      {"api-key-file", options.api_key_file.string()},
      {"tls-cert", options.tls.certificate.string()},
      {"tls-client-ca", options.tls.client_ca.string()},
      {"cors-origin", list(options.cors_origins)},
      {"metrics-port", port(options.metrics_port)},
      {"admin-port", port(options.admin_port)},
      {"otlp-endpoint", options.spans.endpoint},
      {"otlp-ca-file", options.spans.ca_file.string()},
      {"otlp-headers", std::to_string(options.spans.headers.size())},
      {"otlp-sample-ratio", fmt::format("{:g}", options.trace_sample_ratio)},
      {"device", device_name(engine.device)},
      {"cpu-threads", std::to_string(engine.cpu_threads)},
      {"dtype", dtype(engine.dtype)},
      {"kv-cache-dtype", dtype(engine.kv_cache_dtype)},
      {"kv-cache-tokens", std::to_string(engine.kv_cache_tokens)},
      {"gpu-memory-utilization", fmt::format("{:g}", engine.gpu_memory_utilization)},
      {"load-format", engine.load_format == LoadFormat::kRandom ? "random" : "auto"},
      {"page-tokens", std::to_string(engine.page_tokens)},
      {"max-model-len", std::to_string(engine.max_model_len)},
      {"max-num-seqs", std::to_string(engine.max_num_seqs)},
      {"max-num-batched-tokens", std::to_string(engine.max_num_batched_tokens)},
      {"batch-invariant",
       engine.batch_invariant.has_value() ? flag(*engine.batch_invariant) : "auto"},
      {"prefix-cache", flag(engine.prefix_cache)},
      {"shared-prefixes", flag(engine.shared_prefixes)},
      {"overcommit", flag(engine.overcommit)},
      {"generation-config", options.use_generation_config ? "auto" : "none"},
      {"default-max-tokens", std::to_string(options.default_max_tokens)},
      {"max-queue", std::to_string(options.max_queue)},
      {"drain-timeout", fmt::format("{:g}", to_seconds(options.drain_timeout))},
      {"drain-propagation", fmt::format("{:g}", to_seconds(options.drain_propagation))},
      {"stall-timeout", fmt::format("{:g}", to_seconds(options.stall_timeout))},
      {"max-body-bytes", std::to_string(options.limits.max_body_bytes)},
      {"body-timeout", fmt::format("{:g}", to_seconds(options.limits.body_timeout))},
      {"max-choices", std::to_string(options.limits.max_choices)},
      {"max-logprobs", std::to_string(options.limits.max_logprobs)},
      {"max-schema-bytes", std::to_string(options.limits.max_schema_bytes)},
      {"grpc-connection-age", fmt::format("{:g}", to_seconds(options.grpc_connection_age))},
      {"log-level", options.log_level},
      {"log-format", options.log_format == LogFormat::kJson ? "json" : "text"},
  };
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host == "[::1]" || host.starts_with("127.");
}

}  // namespace latentd
