// latentd-bench: tokens a second of a model on this machine, and the bytes that each step moves.
//
//   latentd-bench --config engine/bench/configs/v2-122m.json --batch 1,4,16 --context 128,1024
//
// Decode and mixed rows give the median step; prefill rows the median of whole prompts. Weights are
// random unless a checkpoint is given with --model. Bytes are computed from the shapes
// (step_traffic.h), not measured.
#include <spdlog/fmt/fmt.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/backend/geometry.h"
#include "engine/bench/bench_backend.h"
#include "engine/bench/step_driver.h"
#include "engine/bench/step_traffic.h"
#include "engine/graph_buckets.h"
#include "engine/memory_plan.h"
#include "engine/model/json.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_binder.h"
#include "engine/random_weights.h"
#include "engine/upload_weights.h"

namespace latentd {
namespace {

constexpr std::size_t kMaxConfigBytes = std::size_t{1} << 20;

struct Options {
  std::string model;
  std::string config;
  std::string load_format = "auto";
  std::string kv_cache_dtype = "auto";
  std::string device = "cpu";
  bool batch_invariant = false;
  bool graphs = true;
  int depth = 0;
  std::vector<int> batch = {1, 4, 16};
  std::vector<int> context = {128, 1024};
  int shared = 0;
  bool shared_prefixes = false;
  std::vector<int> prefill = {128, 512};
  int prefill_rows = 1;
  std::vector<int> mixed;
  int chunk = 0;
  int steps = 32;
  int prompts = 5;
  int threads = 0;
  std::optional<int> expanded_min_tokens;
  std::uint64_t seed = 0;
  bool copy_weights = true;
  bool csv = false;
  bool profile = false;
};

// A model with its weights on the device, from wherever they come.
struct Model {
  ModelConfig config;
  std::optional<Checkpoint> checkpoint;  // device views may point into it
  ModelWeights weights;
};

Result<ModelConfig> read_config(const Options& options) {
  if (!options.model.empty()) return load_model_config(options.model);
  LATENTD_ASSIGN_OR_RETURN(const std::string text, read_text_file(options.config, kMaxConfigBytes));
  return parse_model_config(text);
}

Status load_weights(const Options& options, Backend& backend, Model& model) {
  if (options.model.empty() || options.load_format == "random") {
    LATENTD_ASSIGN_OR_RETURN(model.weights, random_weights(backend, model.config, options.seed));
    return ok_status();
  }
  LATENTD_ASSIGN_OR_RETURN(model.checkpoint, Checkpoint::open(options.model, model.config));
  LATENTD_ASSIGN_OR_RETURN(model.weights, upload_weights(backend, *model.checkpoint));
  return ok_status();
}

struct Row {
  std::string phase;
  StepShape shape;
  int prompt_tokens = 0;  // of a mixed step, beside the shape's
  double seconds = 0.0;   // of the step, or of the whole prompt
  double best = 0.0;
  double bytes = 0.0;  // of the step, or of the whole prompt
  GpuStep gpu = {};    // of the step, where there is a GPU
};

class Report {
 public:
  explicit Report(bool csv) : csv_(csv) {
    if (csv_) {
      fmt::print(
          "phase,rows,tokens,context,tokens_per_second,ms,best_ms,mbytes,gbytes_per_second,"
          "gpu_idle_us,gpu_forward_us,gpu_sample_us\n");
    } else {
      fmt::print("{:<8}{:>6}{:>8}{:>9}{:>11}{:>10}{:>10}{:>10}{:>9}{:>10}{:>12}{:>11}\n", "phase",
                 "rows", "tokens", "context", "tokens/s", "ms", "best ms", "MB moved", "GB/s",
                 "idle us", "forward us", "sample us");
    }
  }

  void add(const Row& row) {
    const char* format =
        csv_ ? "{},{},{},{},{:.1f},{:.3f},{:.3f},{:.1f},{:.2f},{:.1f},{:.1f},{:.1f}\n"
             : "{:<8}{:>6}{:>8}{:>9}{:>11.1f}{:>10.2f}{:>10.2f}{:>10.1f}{:>9.2f}{:>10.1f}{:>12.1f}"
               "{:>11.1f}\n";
    const int tokens = row.shape.rows * row.shape.tokens_per_row + row.prompt_tokens;
    fmt::print(fmt::runtime(format), row.phase, row.shape.rows, tokens, row.shape.context,
               tokens / row.seconds, row.seconds * 1e3, row.best * 1e3, row.bytes * 1e-6,
               row.bytes * 1e-9 / row.seconds, row.gpu.idle, row.gpu.forward, row.gpu.sample);
    std::fflush(stdout);
  }

 private:
  bool csv_;
};

void summarise(std::vector<double>& seconds, Row& row) {
  std::sort(seconds.begin(), seconds.end());
  row.seconds = seconds[seconds.size() / 2];
  row.best = seconds.front();
}

class Bench {
 public:
  Bench(const Options& options, const Model& model, const CacheLayout& layout, StepDriver& driver,
        BenchBackend& backend)
      : options_(options),
        model_(model),
        layout_(layout),
        driver_(driver),
        backend_(backend),
        report_(options.csv),
        cached_(slot_lengths(options).size(), 0) {}

  // Tokens that each slot is ever asked to hold: few prompts may be long, and many rows are not.
  static std::vector<int> slot_lengths(const Options& options) {
    int rows = 1;
    for (const int batch : options.batch) rows = std::max(rows, batch);
    if (!options.mixed.empty()) ++rows;  // the prompt's
    const auto slots = static_cast<std::size_t>(std::max(rows, options.prefill_rows));
    std::vector<int> lengths(slots, 1);
    const auto reach = [&lengths](int slots_used, int tokens) {
      for (int slot = 0; slot < slots_used; ++slot) {
        int& length = lengths[static_cast<std::size_t>(slot)];
        length = std::max(length, tokens);
      }
    };
    for (const int tokens : options.prefill) reach(options.prefill_rows, tokens);
    for (const int tokens : options.context) reach(rows, tokens + options.steps);
    for (const int tokens : options.mixed) reach(rows, tokens);
    return lengths;
  }

  Status run() {
    for (const int tokens : options_.prefill) LATENTD_RETURN_IF_ERROR(measure_prefill(tokens));
    for (const int context : options_.context) {
      for (const int batch : options_.batch) {
        LATENTD_RETURN_IF_ERROR(measure_decode(batch, context, 0));
        for (const int tokens : options_.mixed) {
          LATENTD_RETURN_IF_ERROR(measure_decode(batch, context, tokens));
        }
      }
    }
    return ok_status();
  }

 private:
  Status measure_prefill(int tokens) {
    const int rows = options_.prefill_rows;
    std::vector<double> seconds;
    for (int i = 0; i < options_.prompts; ++i) {
      LATENTD_ASSIGN_OR_RETURN(const double elapsed, driver_.prefill(0, rows, 0, tokens));
      seconds.push_back(elapsed);
    }
    Row row{"prefill", {rows, tokens, 0, rows}};
    summarise(seconds, row);
    const int piece = std::max(1, options_.chunk / rows);
    for (int done = 0; done < tokens; done += piece) {
      const int count = std::min(piece, tokens - done);
      row.bytes += bytes({rows, count, done, done + count == tokens ? rows : 0});
    }
    report_.add(row);
    for (int slot = 0; slot < rows; ++slot) {
      int& cached = cached_[static_cast<std::size_t>(slot)];
      cached = std::max(cached, tokens);
    }
    return ok_status();
  }

  // With `prompt_tokens` of a prompt in each step: "mixed", whose tokens are those of both.
  Status measure_decode(int batch, int context, int prompt_tokens) {
    for (int slot = 0; slot < batch; ++slot) {
      int& cached = cached_[static_cast<std::size_t>(slot)];
      if (slot > 0 && cached_[0] >= options_.shared) cached = std::max(cached, options_.shared);
      if (cached >= context) continue;
      LATENTD_ASSIGN_OR_RETURN([[maybe_unused]] const double elapsed,
                               driver_.prefill(slot, 1, cached, context - cached));
      cached = context;
    }
    (void)backend_.read_steps();
    if (options_.profile) backend_.begin_profile();
    LATENTD_ASSIGN_OR_RETURN(std::vector<double> seconds,
                             driver_.decode(batch, context, options_.steps, prompt_tokens));
    if (options_.profile) backend_.end_profile();
    const std::optional<GpuStep> gpu = backend_.read_steps();
    // Filling and emptying the pipeline is not a step's time.
    if (seconds.size() > 4) seconds.erase(seconds.begin(), seconds.begin() + 2);
    Row row{prompt_tokens > 0 ? "mixed" : "decode", {batch, 1, context, batch}, prompt_tokens};
    row.gpu = gpu.value_or(GpuStep{});
    summarise(seconds, row);
    row.bytes =
        weight_bytes_touched(model_.config, model_.weights, {1, batch + prompt_tokens, 0, batch}) +
        cache_bytes_touched(layout_, {batch, 1, context + options_.steps / 2, batch}) +
        cache_bytes_touched(layout_, {1, prompt_tokens, 0, 0});
    report_.add(row);
    return ok_status();
  }

  double bytes(const StepShape& shape) const {
    return weight_bytes_touched(model_.config, model_.weights, shape) +
           cache_bytes_touched(layout_, shape);
  }

  const Options& options_;
  const Model& model_;
  const CacheLayout& layout_;
  StepDriver& driver_;
  BenchBackend& backend_;
  Report report_;
  std::vector<int> cached_;  // tokens in each slot's cache
};

// Rows and a prompt's tokens against a step.
Status check_mixed(const Options& options) {
  for (const int tokens : options.mixed) {
    for (const int batch : options.batch) {
      if (batch + tokens > options.chunk) {
        return invalid_argument("mixed", fmt::format("{} tokens beside {} rows exceed --chunk {}",
                                                     tokens, batch, options.chunk));
      }
    }
  }
  return ok_status();
}

// The longest sequence against the model's.
Status check_lengths(const std::vector<int>& lengths, const ModelConfig& config) {
  const int longest = *std::ranges::max_element(lengths);
  if (longest <= config.max_position_embeddings) return ok_status();
  return invalid_argument("context", fmt::format("{} tokens exceed the model's {}", longest,
                                                 config.max_position_embeddings));
}

Result<CacheLayout> bench_layout(const Options& options, const ModelConfig& config) {
  DType dtype = config.dtype;
  if (options.kv_cache_dtype == "fp32") dtype = DType::kF32;
  if (options.kv_cache_dtype == "bf16") dtype = DType::kBF16;
  if (options.kv_cache_dtype == "fp8") dtype = DType::kF8E4M3;
  LATENTD_RETURN_IF_ERROR(check_cached_in(config, dtype));
  CacheLayout layout = cache_layout(config, dtype);
  LATENTD_RETURN_IF_ERROR(layout.validate());
  return layout;
}

// What depends on the device, where it was left open.
void fill_defaults(Options& options) {
  const bool cuda = options.device == "cuda";
  if (options.chunk == 0) options.chunk = cuda ? 2048 : 512;
  if (options.depth == 0) options.depth = cuda ? 2 : 1;
  options.graphs = options.graphs && cuda;
}

Status run(Options options) {
  fill_defaults(options);
  LATENTD_RETURN_IF_ERROR(check_mixed(options));
  Model model;
  LATENTD_ASSIGN_OR_RETURN(model.config, read_config(options));
  const ModelConfig& config = model.config;
  LATENTD_ASSIGN_OR_RETURN(const auto bench,
                           BenchBackend::make({options.device == "cuda", options.threads,
                                               options.copy_weights, options.batch_invariant},
                                              config));
  LATENTD_ASSIGN_OR_RETURN(const CacheLayout layout, bench_layout(options, config));
  StepDriverOptions driver_options;
  driver_options.lengths = Bench::slot_lengths(options);
  LATENTD_RETURN_IF_ERROR(check_lengths(driver_options.lengths, config));
  driver_options.chunk = options.chunk;
  if (options.expanded_min_tokens.has_value()) {
    driver_options.expansion = ExpansionPolicy::from(*options.expanded_min_tokens);
  } else if (options.device == "cuda" && config.attention == AttentionKind::kLatent) {
    driver_options.expansion = bench->backend().expansion(mla_geometry(config), layout.dtype());
  }
  driver_options.depth = options.depth;
  if (options.shared % layout.page_tokens() != 0) {
    return invalid_argument("shared", fmt::format("{} tokens are not whole pages of {}",
                                                  options.shared, layout.page_tokens()));
  }
  driver_options.shared = options.shared;
  driver_options.shares_prefixes = options.shared_prefixes;
  if (options.graphs) {
    driver_options.graph_buckets = graph_buckets(
        std::min(static_cast<int>(driver_options.lengths.size()), ModelRunner::kLogitsSlice));
  }
  const TimePoint begin = steady_now();
  LATENTD_RETURN_IF_ERROR(load_weights(options, bench->backend(), model));
  LATENTD_ASSIGN_OR_RETURN(
      const auto driver,
      StepDriver::create(bench->backend(), config, model.weights, layout, driver_options));
  if (!options.csv) {
    fmt::print(
        "{}: {:.1f} M parameters, {} weights, {} cache of {} bytes a token, ready in {:.2f} s\n",
        config.architecture, static_cast<double>(parameter_count(model.weights)) * 1e-6,
        dtype_name(config.dtype), dtype_name(layout.dtype()), layout.bytes_per_token(),
        to_seconds(steady_now() - begin));
  }
  return Bench(options, model, layout, *driver, *bench).run();
}

int parse_and_run(int argc, char** argv) {
  Options options;
  CLI::App app("Measures a model's speed on this machine, without scheduler and server.");
  app.add_option("--model", options.model, "checkpoint directory");
  app.add_option("--config", options.config, "a config.json; the weights are then random")
      ->excludes("--model");
  app.add_option("--load-format", options.load_format, "auto: from the checkpoint; random")
      ->check(CLI::IsMember({"auto", "random"}));
  app.add_option("--kv-cache-dtype", options.kv_cache_dtype)
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp8"}));
  app.add_option("--device", options.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_flag("--batch-invariant", options.batch_invariant,
               "CUDA: bits of a row that do not depend on the others");
  app.add_flag("--graphs,!--no-graphs", options.graphs, "CUDA: replay captured decode steps");
  app.add_option("--depth", options.depth, "steps in flight; 1 on the CPU, 2 on CUDA")
      ->check(CLI::Range(1, 2));
  const CLI::Range positive(1, 1 << 20);
  app.add_option("--batch", options.batch, "rows of decode steps")->delimiter(',')->check(positive);
  app.add_option("--context", options.context, "cached tokens of each row")
      ->delimiter(',')
      ->check(positive);
  app.add_option("--shared", options.shared,
                 "first tokens that all rows have in common, in the same pages")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--shared-prefixes", options.shared_prefixes,
               "CUDA: decode steps read those once for all rows");
  app.add_option("--prefill", options.prefill, "lengths of prompts")
      ->delimiter(',')
      ->check(positive);
  app.add_option("--prefill-rows", options.prefill_rows, "prompts computed together")
      ->check(positive);
  app.add_option("--mixed", options.mixed,
                 "decode steps that compute so many tokens of a prompt too, after those without")
      ->delimiter(',')
      ->check(positive);
  app.add_option("--chunk", options.chunk,
                 "most prompt tokens of a step; 512 on the CPU, 2048 on CUDA")
      ->check(positive);
  app.add_option("--steps", options.steps, "decode steps to time")->check(positive);
  app.add_option("--prompts", options.prompts, "prompts to time")->check(positive);
  app.add_option("--threads", options.threads, "0: as many as the process may use");
  app.add_option("--expanded-min-tokens", options.expanded_min_tokens,
                 "rows of at least this many tokens expand keys and values; 0: none; by default "
                 "what the engine does: on the CPU none, on CUDA what is worth it");
  app.add_option("--seed", options.seed, "of random weights");
  app.add_flag("--copy-weights,!--no-copy-weights", options.copy_weights,
               "into huge pages (default), or used where they are");
  app.add_flag("--csv", options.csv);
  app.add_flag("--profile", options.profile,
               "CUDA: a profiler that waits for it looks at the decode steps and nothing else");
  CLI11_PARSE(app, argc, argv);
  if (options.model.empty() && options.config.empty()) {
    fmt::print(stderr, "latentd-bench: give --model DIR or --config FILE\n");
    return 2;
  }
  const Status status = run(options);
  if (!status.ok()) {
    fmt::print(stderr, "latentd-bench: {}\n", status.to_string());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  // Standard output is for the figures, which programs read.
  spdlog::set_default_logger(spdlog::stderr_color_mt("latentd-bench"));
  return latentd::parse_and_run(argc, argv);
}
