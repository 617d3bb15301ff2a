// bench_ffn: the time of a MoE layer's ffn_block and of dense products in DeepSeek-V2-Lite's shape.
//
//   bench_ffn [ffn|linear|ffn-invariant|linear-invariant] [TOKENS...]
//
// Captures one pass over several layers' weights (more than L2 holds) into a graph, replays it, and
// prints CSV: the best of several repeats a layer, with bytes of the weights that routing touched.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/dtype.h"
#include "engine/backend/cuda/cuda_ops.h"

namespace latentd::cuda {
namespace {

constexpr int kLayers = 4;
constexpr int kHidden = 2048;
constexpr int kInner = 1408;
constexpr int kExperts = 64;
constexpr int kTopK = 6;
constexpr int kShared = 2;
constexpr int kMostTokens = 4096;
constexpr int kRepeats = 7;
constexpr std::size_t kPoolElements = std::size_t{16} << 20;

class Bench {
 public:
  Bench(CudaContext& context, bool invariant) : context_(context) {
    std::unique_ptr<Blas> blas;
    if (!invariant) {
      auto made = Blas::make(context);
      LATENTD_CHECK(made.ok(), "{}", made.status().to_string());
      blas = std::move(made).value();
    }
    ops_ = std::make_unique<CudaOps>(context, std::move(blas), DType::kBF16);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    std::vector<BFloat16> values(kPoolElements);
    for (BFloat16& value : values) value = to_bfloat16(uniform(random));
    pool_ = memory(kPoolElements * 2);
    context_.check(cudaMemcpy(pool_, values.data(), kPoolElements * 2, cudaMemcpyHostToDevice),
                   "pool");
  }

  CudaOps& ops() { return *ops_; }

  void* memory(std::size_t bytes) {
    auto buffer = allocate_buffer(context_, MemoryKind::kDevice, bytes, "bench");
    LATENTD_CHECK(buffer.ok(), "{}", buffer.status().to_string());
    buffers_.push_back(std::move(buffer).value());
    return buffers_.back()->data();
  }

  void* random_elements(std::size_t count) {
    void* data = memory(count * 2);
    for (std::size_t done = 0; done < count;) {
      const std::size_t first = (next_ += std::size_t{104729} * 8) % (kPoolElements / 2);
      const std::size_t part = std::min(count - done, kPoolElements - first);
      context_.check(cudaMemcpyAsync(static_cast<char*>(data) + done * 2,
                                     static_cast<const char*>(pool_) + first * 2, part * 2,
                                     cudaMemcpyDeviceToDevice, context_.stream()),
                     "filling");
      done += part;
    }
    return data;
  }

  TensorView matrix(int outputs, int inputs) {
    return make_tensor_view(
        random_elements(static_cast<std::size_t>(outputs) * static_cast<std::size_t>(inputs)),
        DType::kBF16, {outputs, inputs});
  }

  // Microseconds of one run of `body`, captured once.
  double time(const std::function<void()>& body) {
    body();  // grows what must grow
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    const cudaStream_t stream = context_.stream();
    context_.check(cudaStreamSynchronize(stream), "warming up");
    context_.check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
    body();
    context_.check(cudaStreamEndCapture(stream, &graph), "capturing");
    context_.check(cudaGraphInstantiate(&replay, graph, 0), "instantiating");
    cudaEvent_t begin = nullptr;
    cudaEvent_t end = nullptr;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    float best = 1e30F;
    for (int i = 0; i < kRepeats && context_.ok(); ++i) {
      cudaGraphLaunch(replay, stream);  // keeps the GPU busy while the next is enqueued
      cudaEventRecord(begin, stream);
      cudaGraphLaunch(replay, stream);
      cudaEventRecord(end, stream);
      context_.check(cudaEventSynchronize(end), "replaying");
      float ms = 0.0F;
      cudaEventElapsedTime(&ms, begin, end);
      best = std::min(best, ms);
    }
    LATENTD_CHECK(context_.ok(), "{}", context_.status().to_string());
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return static_cast<double>(best) * 1000.0;
  }

 private:
  CudaContext& context_;
  std::unique_ptr<CudaOps> ops_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  void* pool_ = nullptr;
  std::size_t next_ = 0;
};

void print(const char* what, int tokens, double us, double bytes, double flop) {
  std::printf("%s,%d,%.1f,%.0f,%.1f\n", what, tokens, us, bytes / us * 1e-3, flop / us * 1e-6);
  std::fflush(stdout);
}

struct Layer {
  LayerWeights weights;
  std::int32_t* expert_ids = nullptr;
};

std::vector<Layer> make_layers(Bench& bench) {
  std::vector<Layer> layers(kLayers);
  for (Layer& layer : layers) {
    const auto mlp = [&](int inner) {
      return MlpWeights{bench.matrix(inner, kHidden), bench.matrix(inner, kHidden),
                        bench.matrix(kHidden, inner)};
    };
    layer.weights.post_attention_norm =
        make_tensor_view(bench.random_elements(kHidden), DType::kBF16, {kHidden});
    layer.weights.moe.router = bench.matrix(kExperts, kHidden);
    for (int e = 0; e < kExperts; ++e) layer.weights.moe.experts.push_back(mlp(kInner));
    layer.weights.moe.shared = mlp(kShared * kInner);
    layer.expert_ids = static_cast<std::int32_t*>(
        bench.memory(std::size_t{kMostTokens} * kTopK * sizeof(std::int32_t)));
  }
  return layers;
}

double distinct_experts(const std::vector<Layer>& layers, int tokens) {
  std::size_t distinct = 0;
  for (const Layer& layer : layers) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens) * kTopK);
    cudaMemcpy(ids.data(), layer.expert_ids, ids.size() * sizeof(ids[0]), cudaMemcpyDeviceToHost);
    distinct += std::set<std::int32_t>(ids.begin(), ids.end()).size();
  }
  return static_cast<double>(distinct) / kLayers;
}

void bench_ffn(Bench& bench, const std::vector<int>& all_tokens) {
  const std::vector<Layer> layers = make_layers(bench);
  const std::size_t most = kMostTokens;
  FfnBlockParams p;
  p.hidden_size = kHidden;
  p.norm_eps = 1e-6F;
  p.routing.num_experts = kExperts;
  p.routing.experts_per_token = kTopK;
  p.hidden = bench.random_elements(most * kHidden);
  p.scratch.normed = bench.memory(most * kHidden * 2);
  p.scratch.gate_up = bench.memory(most * 2 * (kTopK + kShared) * kInner * 2);
  p.scratch.router_logits = static_cast<float*>(bench.memory(most * kExperts * sizeof(float)));
  p.scratch.expert_weights = static_cast<float*>(bench.memory(most * kTopK * sizeof(float)));
  constexpr double kExpertBytes = 3.0 * kHidden * kInner * 2;
  for (const int tokens : all_tokens) {
    p.num_tokens = tokens;
    const double us = bench.time([&] {
      for (const Layer& layer : layers) {
        p.weights = &layer.weights;
        p.scratch.expert_ids = layer.expert_ids;
        bench.ops().ffn_block(p);
      }
    });
    const double experts_us = bench.time([&] {
      for (const Layer& layer : layers) {
        bench.ops().experts({p.scratch.normed, &layer.weights.moe, layer.expert_ids,
                             p.scratch.expert_weights, p.hidden, p.scratch.gate_up, tokens, kHidden,
                             kExperts, kTopK});
      }
    });
    const double bytes = (distinct_experts(layers, tokens) + kShared) * kExpertBytes;
    const double flop = tokens * (kTopK + kShared) * kExpertBytes;  // 2 a weight of 2 bytes
    print("ffn_block", tokens, us / kLayers, bytes, flop);
    print("experts", tokens, experts_us / kLayers, bytes, flop);
  }
}

void bench_linear(Bench& bench, const std::vector<int>& all_tokens) {
  struct Shape {
    const char* name;
    int outputs, inputs;
  };
  for (const Shape s : {Shape{"q", 3072, 2048},
                        {"kv_a", 576, 2048},
                        {"o", 2048, 2048},
                        {"dense_gate", 10944, 2048},
                        {"dense_down", 2048, 10944},
                        {"router", 64, 2048},
                        {"head", 102400, 2048}}) {
    const double bytes = 2.0 * s.outputs * s.inputs;
    const int count = std::clamp(static_cast<int>(200e6 / bytes), 2, 32);
    std::vector<TensorView> weights;
    weights.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) weights.push_back(bench.matrix(s.outputs, s.inputs));
    for (const int tokens : all_tokens) {
      if (tokens > 1024) continue;
      const auto rows = static_cast<std::size_t>(tokens);
      const void* x = bench.random_elements(rows * static_cast<std::size_t>(s.inputs));
      void* out = bench.memory(rows * static_cast<std::size_t>(s.outputs) * 2);
      const double us = bench.time([&] {
        for (const TensorView& w : weights) bench.ops().linear({x, w, out, tokens});
      });
      print(s.name, tokens, us / count, bytes, bytes * tokens);
    }
  }
}

int run(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "ffn";
  const bool invariant = what.ends_with("-invariant");
  std::vector<int> tokens;
  for (int i = 2; i < argc; ++i) tokens.push_back(std::clamp(std::atoi(argv[i]), 1, kMostTokens));
  if (tokens.empty()) tokens = {1, 8, 32, 128, 1024, 4096};
  auto context = CudaContext::make(0);
  LATENTD_CHECK(context.ok(), "{}", context.status().to_string());
  Bench bench(*context.value(), invariant);
  std::printf("operation,tokens,us,gb_per_s,tflop_per_s\n");
  if (what.starts_with("linear")) {
    bench_linear(bench, tokens);
  } else {
    bench_ffn(bench, tokens);
  }
  return 0;
}

}  // namespace
}  // namespace latentd::cuda

int main(int argc, char** argv) { return latentd::cuda::run(argc, argv); }
