// bench_prefill_attention: times expanded attention at DeepSeek's head dims and checks it.
//
//   bench_prefill_attention [HEADS ROWS NEW CACHED]   what,heads,rows,new,cached,us,tflops,rel_err
//   bench_prefill_attention crossover                 heads,new,cached,absorbed_us,expanded_us
//
// Prints CSV. `ours` is the whole operation: gathering and expanding the latents of all positions,
// then attending; `cudnn`, in a build with LATENTD_CUDNN, is attention alone, over keys and values
// that lie expanded and contiguous already. TFLOP/s count 640 a pair of tokens and head, causally;
// expansion takes time but is not counted. Inputs are random; times are the median of several runs
// between events.
#include <cuda_runtime_api.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "engine/backend/cuda/bench/prefill_case.h"
#include "engine/backend/cuda/blas.h"
#include "engine/backend/cuda/cuda_ops.h"
#include "engine/backend/cuda/expanded_attention.h"
#ifdef LATENTD_HAS_CUDNN
#include "engine/backend/cuda/bench/cudnn_attention.h"
#endif

namespace latentd::cuda {
namespace {

constexpr double kFlopsOfPair = 640.0;
constexpr int kRuns = 9;

// Median time of `enqueue` in microseconds. Short work is enqueued several times a run, so that the
// time of launching it is hidden as it is in a step.
double time_us(CudaContext& context, const std::function<void()>& enqueue) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  context.check(cudaEventCreate(&begin), "events");
  context.check(cudaEventCreate(&end), "events");
  int repeats = 1;
  const auto run = [&] {
    context.check(cudaEventRecord(begin, context.stream()), "events");
    for (int i = 0; i < repeats; ++i) enqueue();
    context.check(cudaEventRecord(end, context.stream()), "events");
    context.check(cudaEventSynchronize(end), "events");
    float ms = 0.0F;
    context.check(cudaEventElapsedTime(&ms, begin, end), "events");
    return static_cast<double>(ms) * 1e3 / repeats;
  };
  run();
  repeats = std::clamp(static_cast<int>(3000.0 / std::max(run(), 1.0)), 1, 50);
  std::vector<double> times;
  times.reserve(kRuns);
  for (int i = 0; i < kRuns; ++i) times.push_back(run());
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return times[kRuns / 2];
}

void print_row(std::string_view what, const PrefillCase& prefill, double us,
               std::string_view error) {
  const PrefillShape& shape = prefill.shape();
  fmt::print("{},{},{},{},{},{:.1f},{:.0f},{}\n", what, shape.heads, shape.rows, shape.new_tokens,
             shape.cached, us, kFlopsOfPair * prefill.pairs() * shape.heads / us * 1e-6, error);
  std::fflush(stdout);
}

#ifdef LATENTD_HAS_CUDNN
// Keys and values that cuDNN finds expanded, contiguous and of any value: its time alone.
void print_cudnn(CudaContext& context, const PrefillCase& prefill) {
  const PrefillShape& shape = prefill.shape();
  if (shape.rows > 1) return;
  const std::int32_t num_keys = shape.cached + shape.new_tokens;
  const ExpandedAttentionParams p = prefill.params();
  auto attention = CudnnAttention::make(context, shape.heads, shape.new_tokens, num_keys,
                                        p.geometry.softmax_scale);
  if (!attention.ok()) {
    fmt::print("cudnn,{},{},{},{},,,{}\n", shape.heads, shape.rows, shape.new_tokens, shape.cached,
               attention.status().to_string());
    return;
  }
  const auto rows = static_cast<std::size_t>(num_keys) * static_cast<std::size_t>(shape.heads);
  Scratch keys(context);
  Scratch values(context);
  const void* k = prefill.fill(keys.take_bytes(rows * 192 * 2), rows * 192);
  const void* v = prefill.fill(values.take_bytes(rows * 128 * 2), rows * 128);
  print_row("cudnn", prefill, time_us(context, [&] { attention.value()->run(p.q, k, v, p.out); }),
            "");
}
#endif

const std::vector<PrefillShape>& usual_shapes() {
  static const std::vector<PrefillShape> shapes = {
      {16, 1024, 0, 1},   {16, 1024, 0, 4},  {16, 4096, 0, 1},
      {16, 8192, 0, 1},   {16, 16384, 0, 1}, {16, 2048, 30720, 1},
      {16, 512, 4096, 1}, {128, 4096, 0, 1}, {128, 2048, 30720, 1},
  };
  return shapes;
}

void print_shapes(CudaContext& context, Blas& blas, const std::vector<PrefillShape>& shapes) {
  fmt::print("what,heads,rows,new,cached,us,tflops,rel_err\n");
  for (const PrefillShape& shape : shapes) {
    const PrefillCase prefill(context, shape);
    ExpandedAttention attention(context);
    const double us = time_us(context, [&] {
      LATENTD_CHECK(attention.run(prefill.params(), DType::kBF16, blas), "no kernel");
    });
    print_row("ours", prefill, us, fmt::format("{:.1e}", prefill.relative_error()));
#ifdef LATENTD_HAS_CUDNN
    print_cudnn(context, prefill);
#endif
  }
}

// Both forms of whole attention, between the rotated queries and the heads' values.
void print_crossover(CudaContext& context, CudaOps& ops) {
  fmt::print("heads,new,cached,absorbed_us,expanded_us\n");
  for (const std::int32_t heads : {16, 128}) {
    for (const std::int32_t cached : {0, 1024, 2048, 4096, 8192, 16384, 32768}) {
      for (const std::int32_t count : {16, 32, 48, 64, 96, 128, 160, 192, 256, 512}) {
        const PrefillCase prefill(context, {heads, count, cached, 1});
        const ExpandedAttentionParams p = prefill.params();
        const MlaGeometry& g = p.geometry;
        const auto rows = static_cast<std::size_t>(count) * static_cast<std::size_t>(heads);
        Scratch absorbed(context);
        Scratch latent(context);
        void* queries = absorbed.take_bytes(rows * static_cast<std::size_t>(g.latent_dim()) * 2);
        void* sums = latent.take_bytes(rows * static_cast<std::size_t>(g.kv_lora_rank) * 2);
        ops.plan_attention({p.batch, g, p.cache.page_tokens, p.cache.dtype});
        const double absorbed_us = time_us(context, [&] {
          ops.absorb_query({g, p.q, p.kv_b, queries, count});
          ops.absorbed_attention({p.batch, p.cache, g, queries, sums});
          ops.project_value({g, sums, p.kv_b, p.out, count});
        });
        const double expanded_us = time_us(context, [&] { ops.expanded_attention(p); });
        fmt::print("{},{},{},{:.1f},{:.1f}\n", heads, count, cached, absorbed_us, expanded_us);
        std::fflush(stdout);
      }
    }
  }
}

int run(const std::vector<std::string_view>& arguments) {
  std::vector<std::int32_t> numbers;
  for (const std::string_view argument : arguments) {
    std::int32_t& number = numbers.emplace_back(0);
    std::from_chars(argument.data(), argument.data() + argument.size(), number);
  }
  auto context = CudaContext::make(0);
  if (!context.ok()) {
    fmt::print(stderr, "{}\n", context.status().to_string());
    return 1;
  }
  auto blas = Blas::make(*context.value());
  LATENTD_CHECK(blas.ok(), "{}", blas.status().to_string());
  if (arguments.size() == 1 && arguments[0] == "crossover") {
    CudaOps ops(*context.value(), std::move(blas).value(), DType::kBF16);
    print_crossover(*context.value(), ops);
  } else {
    std::vector<PrefillShape> shapes;
    if (numbers.size() == 4) shapes = {{numbers[0], numbers[2], numbers[3], numbers[1]}};
    print_shapes(*context.value(), *blas.value(), shapes.empty() ? usual_shapes() : shapes);
  }
  const Status status = context.value()->synchronize();
  if (!status.ok()) fmt::print(stderr, "{}\n", status.to_string());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace latentd::cuda

int main(int argc, char** argv) { return latentd::cuda::run({argv + 1, argv + argc}); }
