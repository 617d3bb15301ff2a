// bench_mla_decode: the decode attention at 512 + 64 over a bf16 or an fp8 cache, shape by shape,
// as CSV; dtype is the cache's.
//
// us is a whole call (plan excluded: one serves all layers of a step; plan_us is its own time),
// replayed from a captured graph over input sets larger than the L2 cache, the best of several
// replays. gbps counts the cache's bytes read once and queries and results; tflops 2176 a query
// vector and key. rel_err is against fp32 over what the cache holds. read_tbps is a 1 GB read
// stream in the same run.
//
// --shared: sequences of which every `members` have their first `shared` tokens in common and `own`
// behind them: as if they had them each in pages of its own (apart), in the same pages, read by
// each for itself (alone), and once for all (once).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/cuda/bench/mla_case.h"

namespace latentd::cuda::bench {
namespace {

struct Options {
  bool quick = false;
  int invariant_pieces = 0;
  bool shared = false;
  int page_tokens = 64;
  std::vector<std::string> dtypes = {"bf16"};
  std::vector<int> heads = {16, 32, 64, 128};
  std::vector<int> only;  // batch, query tokens and context of the only shape
};

std::vector<MlaShape> shapes(const Options& options) {
  struct Row {
    int batch, context, query;
    bool quick;
  };
  std::vector<MlaShape> result;
  if (!options.only.empty()) {
    for (const int heads : options.heads) {
      result.push_back({options.only[0], options.only[1], heads, options.only[2]});
    }
    return result;
  }
  for (const Row row : {Row{1, 4096, 1, true},
                        {1, 32768, 1, true},
                        {1, 131072, 1, false},
                        {8, 4096, 1, true},
                        {32, 2048, 1, false},
                        {32, 8192, 1, true},
                        {128, 1024, 1, true},
                        {128, 4096, 1, false},
                        {128, 8192, 1, false},
                        {256, 2048, 1, false},
                        {32, 8192, 2, false},
                        {128, 4096, 2, true}}) {
    if (options.quick && !row.quick) continue;
    for (const int heads : options.heads) {
      result.push_back({row.batch, row.query, heads, row.context});
    }
  }
  return result;
}

DType cache_dtype(const std::string& name) { return name == "fp8" ? DType::kF8E4M3 : DType::kBF16; }

void print(const std::string& dtype, const MlaShape& shape, const MlaResult& result, double read) {
  const CacheLayout layout = CacheLayout::mla(1, kMlaLatent, kMlaRope, cache_dtype(dtype));
  const double vectors = static_cast<double>(shape.batch) * shape.query * shape.heads;
  const double bytes = static_cast<double>(layout.bytes_per_token()) * shape.batch * shape.context +
                       2.0 * (kMlaWidth + kMlaLatent) * vectors;
  const double flops = 2.0 * (kMlaWidth + kMlaLatent) * vectors * shape.context;
  std::printf("%s,%d,%d,%d,%d,%.2f,%.0f,%.1f,%.2e,%.3f,%.2f,%llu\n", dtype.c_str(), shape.batch,
              shape.query, shape.heads, shape.context, result.us, bytes / result.us * 1e-3,
              flops / result.us * 1e-6, result.relative_error, read, result.plan_us,
              result.not_finite);
  std::fflush(stdout);
}

// Sequences whose prompts begin alike.
Status run_shared(const Options& options, MlaBench& bench, double read) {
  std::printf(
      "dtype,batch,members,shared,own,heads,apart_us,alone_us,once_us,apart/once,alone/once,"
      "alone_err,once_err,read_tbps,plan_us,not_finite\n");
  struct Row {
    int batch, members, shared, own;
    bool quick;
  };
  for (const Row row : {Row{32, 32, 8192, 256, true},
                        {32, 8, 8192, 256, false},
                        {32, 4, 8192, 256, true},
                        {32, 2, 8192, 256, true},
                        {8, 8, 8192, 256, false},
                        {2, 2, 8192, 256, true},
                        {4, 4, 2048, 256, false},
                        {32, 32, 2048, 256, true},
                        {32, 32, 512, 1024, true},
                        {32, 2, 256, 1024, false},
                        {128, 128, 1024, 512, true},
                        {128, 8, 1024, 512, false},
                        {128, 2, 1024, 512, true},
                        {128, 128, 256, 1024, false},
                        {256, 256, 2048, 512, true}}) {
    if (options.quick && !row.quick) continue;
    for (const int heads : options.heads) {
      MlaShape shape{row.batch, 1, heads, row.shared + row.own};
      LATENTD_ASSIGN_OR_RETURN(const MlaResult apart, bench.run(shape));
      shape.members = row.members;
      shape.shared = row.shared;
      LATENTD_ASSIGN_OR_RETURN(const MlaResult alone, bench.run(shape));
      shape.prefixes = true;
      LATENTD_ASSIGN_OR_RETURN(const MlaResult once, bench.run(shape));
      std::printf("bf16,%d,%d,%d,%d,%d,%.2f,%.2f,%.2f,%.2f,%.2f,%.2e,%.2e,%.3f,%.2f,%llu\n",
                  row.batch, row.members, row.shared, row.own, heads, apart.us, alone.us, once.us,
                  apart.us / once.us, alone.us / once.us, alone.relative_error, once.relative_error,
                  read, once.plan_us, alone.not_finite + once.not_finite);
      std::fflush(stdout);
    }
  }
  return ok_status();
}

Status run(const Options& options) {
  LATENTD_ASSIGN_OR_RETURN(const auto context, CudaContext::make(0));
  constexpr std::size_t kTokens = std::size_t{128} * 8192 * 2;  // of the largest shape, twice
  std::vector<std::unique_ptr<MlaBench>> benches;
  for (const std::string& dtype : options.dtypes) {
    LATENTD_ASSIGN_OR_RETURN(
        auto bench, MlaBench::make(*context, cache_dtype(dtype), kTokens, options.invariant_pieces,
                                   options.page_tokens));
    benches.push_back(std::move(bench));
  }
  LATENTD_ASSIGN_OR_RETURN(const double read, benches.front()->read_rate());
  if (options.shared) return run_shared(options, *benches.front(), read);
  std::printf(
      "dtype,batch,query,heads,context,us,gbps,tflops,rel_err,read_tbps,plan_us,not_finite\n");
  for (const MlaShape& shape : shapes(options)) {
    for (std::size_t i = 0; i < benches.size(); ++i) {
      LATENTD_ASSIGN_OR_RETURN(const MlaResult result, benches[i]->run(shape));
      print(options.dtypes[i], shape, result, read);
    }
  }
  return ok_status();
}

}  // namespace
}  // namespace latentd::cuda::bench

int main(int argc, char** argv) {
  latentd::cuda::bench::Options options;
  CLI::App app("Times the decode attention at 512 + 64 on one GPU; prints CSV.");
  app.add_flag("--quick", options.quick, "Half of the shapes");
  app.add_option("--batch-invariant", options.invariant_pieces,
                 "A sequence is cut by its own length only, into so many pieces at most")
      ->check(CLI::Range(latentd::cuda::kMlaFewPieces, latentd::cuda::kMlaMostShares));
  auto* dtype = app.add_option("--dtype", options.dtypes,
                               "Types of the cache, separated by commas: bf16, fp8")
                    ->delimiter(',')
                    ->check(CLI::IsMember({"bf16", "fp8"}));
  app.add_flag("--shared", options.shared, "Sequences that share prefixes, instead")
      ->excludes(dtype);
  app.add_option("--page-tokens", options.page_tokens, "Tokens of a page");
  app.add_option("--only", options.only, "One shape: batch, query tokens, context")
      ->delimiter(',')
      ->expected(3);
  app.add_option("--heads", options.heads, "Heads, separated by commas")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  const latentd::Status status = latentd::cuda::bench::run(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
