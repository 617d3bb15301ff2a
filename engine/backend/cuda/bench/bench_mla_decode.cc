// bench_mla_decode: the decode attention at 512 + 64 in bf16, shape by shape, as CSV.
//
// us is a whole call (plan excluded: one serves all layers of a step; plan_us is its own time),
// replayed from a captured graph over input sets larger than the L2 cache, the best of several
// replays. gbps counts the cache's bytes read once and queries and results; tflops 2176 a query
// vector and key. rel_err is against fp32. read_tbps is a 1 GB read stream in the same run.
//
// --shared: sequences of which every `members` have their first `shared` tokens in common and `own`
// behind them: as if they had them each in pages of its own (apart), in the same pages, read by
// each for itself (alone), and once for all (once).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <vector>

#include "engine/backend/cuda/bench/mla_case.h"

namespace latentd::cuda::bench {
namespace {

struct Options {
  bool quick = false;
  bool batch_invariant = false;
  bool shared = false;
  int page_tokens = 64;
  std::vector<int> heads = {16, 32, 64, 128};
};

std::vector<MlaShape> shapes(const Options& options) {
  struct Row {
    int batch, context, query;
    bool quick;
  };
  std::vector<MlaShape> result;
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

// Sequences whose prompts begin alike.
Status run_shared(const Options& options, MlaBench& bench, double read) {
  struct Row {
    int batch, members, shared, own;
    bool quick;
  };
  std::printf(
      "dtype,batch,members,shared,own,heads,apart_us,alone_us,once_us,apart/once,alone/once,"
      "alone_err,once_err,read_tbps,plan_us,not_finite\n");
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
  // The largest shape twice.
  constexpr std::size_t kPool = std::size_t{128} * 8192 * kMlaWidth * 2 * 2;
  LATENTD_ASSIGN_OR_RETURN(
      const auto bench,
      MlaBench::make(*context, kPool, options.batch_invariant, options.page_tokens));
  LATENTD_ASSIGN_OR_RETURN(const double read, bench->read_rate());
  if (options.shared) return run_shared(options, *bench, read);
  std::printf(
      "dtype,batch,query,heads,context,us,gbps,tflops,rel_err,read_tbps,plan_us,not_finite\n");
  for (const MlaShape& shape : shapes(options)) {
    LATENTD_ASSIGN_OR_RETURN(const MlaResult result, bench->run(shape));
    const double vectors = static_cast<double>(shape.batch) * shape.query * shape.heads;
    const double bytes =
        2.0 * kMlaWidth * shape.batch * shape.context + 2.0 * (kMlaWidth + kMlaLatent) * vectors;
    const double flops = 2.0 * (kMlaWidth + kMlaLatent) * vectors * shape.context;
    std::printf("bf16,%d,%d,%d,%d,%.2f,%.0f,%.1f,%.2e,%.3f,%.2f,%llu\n", shape.batch, shape.query,
                shape.heads, shape.context, result.us, bytes / result.us * 1e-3,
                flops / result.us * 1e-6, result.relative_error, read, result.plan_us,
                result.not_finite);
    std::fflush(stdout);
  }
  return ok_status();
}

}  // namespace
}  // namespace latentd::cuda::bench

int main(int argc, char** argv) {
  latentd::cuda::bench::Options options;
  CLI::App app("Times the decode attention at 512 + 64 in bf16 on one GPU; prints CSV.");
  app.add_flag("--quick", options.quick, "Half of the shapes");
  app.add_flag("--batch-invariant", options.batch_invariant, "Pieces from a sequence's own length");
  app.add_flag("--shared", options.shared, "Sequences that share prefixes, instead");
  app.add_option("--page-tokens", options.page_tokens, "Tokens of a page");
  app.add_option("--heads", options.heads, "Heads, separated by commas")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  const latentd::Status status = latentd::cuda::bench::run(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
