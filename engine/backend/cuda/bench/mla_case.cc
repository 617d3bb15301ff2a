#include "engine/backend/cuda/bench/mla_case.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "engine/backend/cuda/bench/mla_reference.h"
#include "engine/backend/cuda/cuda_memory.h"

namespace latentd::cuda::bench {
namespace {

constexpr std::size_t kRotatedBytes = std::size_t{192} << 20U;  // well past the L2 cache
constexpr int kMostSets = 32;
constexpr int kMostSamples = 192;
constexpr int kReplays = 7;
constexpr std::uint64_t kSeed = 20261124;

std::size_t size(std::int64_t value) { return static_cast<std::size_t>(value); }

// The page table of all sequences, in pages counted from 0.
std::vector<std::int32_t> page_layout(const MlaShape& shape, int max_pages, int page_tokens) {
  std::vector<std::int32_t> table(size(std::int64_t{shape.batch} * max_pages));
  std::int32_t next = 0;
  for (int r = 0; r < shape.batch; ++r) {
    for (int i = 0; i < max_pages; ++i) {
      const bool shared = r % shape.members > 0 && i < shape.shared / page_tokens;
      table[size(std::int64_t{r} * max_pages + i)] =
          shared ? table[size(std::int64_t{r - 1} * max_pages + i)] : next++;
    }
  }
  return table;
}

}  // namespace

struct MlaBench::Inputs {
  std::vector<std::unique_ptr<Buffer>> memory;
  std::vector<AbsorbedAttentionParams> sets;
  void* out = nullptr;
  std::size_t out_bytes = 0;
};

Result<std::unique_ptr<MlaBench>> MlaBench::make(CudaContext& context, DType cache,
                                                 std::size_t tokens, int invariant_pieces,
                                                 int page_tokens) {
  std::unique_ptr<MlaBench> bench(new MlaBench(context, cache, invariant_pieces, page_tokens));
  const std::size_t bytes = bench->layout_.bytes_per_token() * tokens;
  LATENTD_ASSIGN_OR_RETURN(bench->pool_,
                           allocate_buffer(context, MemoryKind::kDevice, bytes, "cache"));
  context.check(cache == DType::kF8E4M3
                    ? fill_fp8_pages(context.stream(), bench->pool_->data(), tokens, page_tokens, 1)
                    : fill_random(context.stream(), bench->pool_->data(), bytes / 2, 1.0F, 1),
                "filling the cache");
  LATENTD_RETURN_IF_ERROR(context.synchronize());
  return bench;
}

Result<void*> MlaBench::upload(Inputs& inputs, const void* data, std::size_t bytes) {
  LATENTD_ASSIGN_OR_RETURN(auto buffer,
                           allocate_buffer(context_, MemoryKind::kDevice, bytes, "inputs"));
  if (data != nullptr) {
    context_.check(
        cudaMemcpyAsync(buffer->data(), data, bytes, cudaMemcpyHostToDevice, context_.stream()),
        "copying inputs");
    LATENTD_RETURN_IF_ERROR(context_.synchronize());
  }
  inputs.memory.push_back(std::move(buffer));
  return inputs.memory.back()->data();
}

// The prefixes that the sequences share, as rows of a step have them.
Status MlaBench::share(const MlaShape& shape, Inputs& inputs, BatchView& batch) {
  if (!shape.prefixes) return ok_status();
  std::vector<PrefixView> prefixes(size(shape.batch));
  std::vector<std::int32_t> row_prefixes(size(shape.batch), -1);
  for (int r = 0; r < shape.batch; ++r) {
    const int prefix = r / shape.members;
    row_prefixes[size(r)] = prefix;
    prefixes[size(prefix)] = {prefix * shape.members, r % shape.members + 1, 0, shape.shared, -1};
  }
  LATENTD_ASSIGN_OR_RETURN(void* views,
                           upload(inputs, prefixes.data(), prefixes.size() * sizeof(PrefixView)));
  LATENTD_ASSIGN_OR_RETURN(void* of_rows,
                           upload(inputs, row_prefixes.data(), row_prefixes.size() * 4));
  batch.prefixes = static_cast<const PrefixView*>(views);
  batch.row_prefixes = static_cast<const std::int32_t*>(of_rows);
  return ok_status();
}

Status MlaBench::make_inputs(const MlaShape& shape, Inputs& inputs) {
  const int tokens = shape.batch * shape.query;
  AbsorbedAttentionParams p;
  p.geometry.num_heads = shape.heads;
  p.geometry.kv_lora_rank = kMlaLatent;
  p.geometry.rope_dim = kMlaRope;
  p.geometry.nope_dim = 128;
  p.geometry.v_dim = 128;
  p.geometry.softmax_scale = 1.0F / std::sqrt(192.0F);
  p.cache.pool = pool_->data();
  p.cache.page_tokens = layout_.page_tokens();
  p.cache.dtype = layout_.dtype();

  std::vector<RowView> rows;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> slots;
  for (int r = 0; r < shape.batch; ++r) {
    rows.push_back({r, r * shape.query, shape.query, shape.context - shape.query});
    for (int i = 0; i < shape.query; ++i) {
      positions.push_back(shape.context - shape.query + i);
      slots.push_back(r);
    }
  }
  LATENTD_ASSIGN_OR_RETURN(void* device_rows,
                           upload(inputs, rows.data(), rows.size() * sizeof(RowView)));
  LATENTD_ASSIGN_OR_RETURN(void* device_positions,
                           upload(inputs, positions.data(), positions.size() * 4));
  LATENTD_ASSIGN_OR_RETURN(void* device_slots, upload(inputs, slots.data(), slots.size() * 4));
  p.batch.num_tokens = tokens;
  p.batch.num_rows = shape.batch;
  p.batch.rows = static_cast<const RowView*>(device_rows);
  p.batch.positions = static_cast<const std::int32_t*>(device_positions);
  p.batch.token_slots = static_cast<const std::int32_t*>(device_slots);
  p.batch.max_pages = layout_.pages_for_tokens(shape.context);
  LATENTD_RETURN_IF_ERROR(share(shape, inputs, p.batch));

  // The sets are layers of one cache, read through one page table.
  const std::vector<std::int32_t> own_pages =
      page_layout(shape, p.batch.max_pages, layout_.page_tokens());
  const std::int64_t pages = *std::max_element(own_pages.begin(), own_pages.end()) + 1;
  const std::size_t layer_bytes = layout_.layer_bytes();
  const auto fitting = static_cast<int>(pool_->size() / (size(pages) * layer_bytes));
  const auto rotated = static_cast<int>(kRotatedBytes / (size(pages) * layer_bytes)) + 2;
  const int sets = std::clamp(rotated, 1, std::min(kMostSets, fitting));
  p.cache.page_stride = size(sets) * layer_bytes;
  p.cache.num_pages = static_cast<std::int32_t>(pool_->size() / p.cache.page_stride);
  std::vector<std::int32_t> order(size(p.cache.num_pages));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(kSeed);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<std::int32_t> entries;
  entries.reserve(own_pages.size());
  for (const std::int32_t page : own_pages) entries.push_back(order[size(page)]);
  LATENTD_ASSIGN_OR_RETURN(void* table, upload(inputs, entries.data(), entries.size() * 4));
  p.batch.page_table = static_cast<const std::int32_t*>(table);

  const std::size_t vectors = size(tokens) * size(shape.heads);
  inputs.out_bytes = vectors * kMlaLatent * 2;
  LATENTD_ASSIGN_OR_RETURN(inputs.out, upload(inputs, nullptr, inputs.out_bytes));
  p.out = inputs.out;
  for (int s = 0; s < sets; ++s) {
    LATENTD_ASSIGN_OR_RETURN(void* queries, upload(inputs, nullptr, vectors * kMlaWidth * 2));
    context_.check(fill_random(context_.stream(), queries, vectors * kMlaWidth, 1.0F,
                               static_cast<std::uint32_t>(s + 2)),
                   "filling queries");
    p.cache.layer_offset = size(s) * layer_bytes;
    if (layout_.dtype() == DType::kF8E4M3) {
      p.cache.scales_offset = p.cache.layer_offset + layout_.plane_offset(0, 1);
      p.cache.rope_offset = p.cache.layer_offset + layout_.plane_offset(0, 2);
    }
    p.absorbed = queries;
    inputs.sets.push_back(p);
  }
  return context_.synchronize();
}

Status MlaBench::check(const MlaShape& shape, const Inputs& inputs, MlaResult& result) {
  const std::int64_t vectors = std::int64_t{shape.batch} * shape.query * shape.heads;
  const auto samples = static_cast<int>(std::min<std::int64_t>(vectors, kMostSamples));
  const AbsorbedAttentionParams& p = inputs.sets.front();
  Inputs own;
  LATENTD_ASSIGN_OR_RETURN(void* scratch, upload(own, nullptr,
                                                 size(samples) * size(p.batch.max_pages) *
                                                     size(p.cache.page_tokens) * 4));
  LATENTD_ASSIGN_OR_RETURN(void* errors, upload(own, nullptr, size(samples) * sizeof(double2)));
  LATENTD_ASSIGN_OR_RETURN(void* count, upload(own, nullptr, sizeof(unsigned long long)));
  context_.check(cudaMemsetAsync(inputs.out, 0xff, inputs.out_bytes, context_.stream()), "poison");
  attention_.run(p);
  context_.check(count_not_finite(context_.stream(), inputs.out, inputs.out_bytes / 2,
                                  static_cast<unsigned long long*>(count)),
                 "counting");
  // An odd step meets every head.
  const std::int64_t step = std::max<std::int64_t>(1, (vectors / samples - 1) | 1);
  context_.check(compare(context_.stream(), p, samples, step, static_cast<float*>(scratch),
                         static_cast<double2*>(errors)),
                 "reference");
  std::vector<double2> host(size(samples));
  context_.check(cudaMemcpyAsync(host.data(), errors, host.size() * sizeof(double2),
                                 cudaMemcpyDeviceToHost, context_.stream()),
                 "reading errors");
  context_.check(cudaMemcpyAsync(&result.not_finite, count, sizeof(result.not_finite),
                                 cudaMemcpyDeviceToHost, context_.stream()),
                 "reading errors");
  LATENTD_RETURN_IF_ERROR(context_.synchronize());
  double error = 0.0;
  double norm = 0.0;
  for (const double2& one : host) {
    error += one.x;
    norm += one.y;
  }
  result.relative_error = std::sqrt(error / norm);
  return ok_status();
}

template <typename Body>
Result<double> MlaBench::time(int launches, const Body& body) {
  cudaStream_t stream = context_.stream();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  context_.check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capture");
  for (int i = 0; i < launches; ++i) body(i);
  context_.check(cudaStreamEndCapture(stream, &graph), "capture");
  context_.check(cudaGraphInstantiate(&replay, graph, 0), "instantiating");
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  context_.check(cudaEventCreate(&begin), "event");
  context_.check(cudaEventCreate(&end), "event");
  float best = INFINITY;
  for (int i = 0; i < kReplays + 2 && context_.ok(); ++i) {
    context_.check(cudaEventRecord(begin, stream), "event");
    context_.check(cudaGraphLaunch(replay, stream), "replay");
    context_.check(cudaEventRecord(end, stream), "event");
    LATENTD_RETURN_IF_ERROR(context_.synchronize());
    float ms = 0.0F;
    context_.check(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i >= 2) best = std::min(best, ms);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  if (replay != nullptr) cudaGraphExecDestroy(replay);
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (!context_.ok()) return context_.status();
  return 1000.0 * static_cast<double>(best) / launches;
}

Result<MlaResult> MlaBench::run(const MlaShape& shape) {
  MlaResult result;
  Inputs inputs;
  LATENTD_RETURN_IF_ERROR(make_inputs(shape, inputs));
  const PlanAttentionParams plan{inputs.sets.front().batch, inputs.sets.front().geometry,
                                 layout_.page_tokens(), layout_.dtype()};
  attention_.plan(plan);
  attention_.run(inputs.sets.back());  // a plan's first launch begins otherwise
  const auto sets = static_cast<int>(inputs.sets.size());
  const int launches = std::max(sets, 16) / sets * sets;
  LATENTD_ASSIGN_OR_RETURN(
      result.us, time(launches, [&](int i) { attention_.run(inputs.sets[size(i % sets)]); }));
  LATENTD_RETURN_IF_ERROR(check(shape, inputs, result));
  LATENTD_ASSIGN_OR_RETURN(result.plan_us, time(16, [&](int) { attention_.plan(plan); }));
  return result;
}

Result<double> MlaBench::read_rate() {
  constexpr std::size_t kBytes = std::size_t{1} << 30U;
  const std::size_t bytes = std::min(pool_->size(), kBytes);
  LATENTD_ASSIGN_OR_RETURN(
      const double us, time(4, [&](int) {
        context_.check(read_stream(context_.stream(), pool_->data(), bytes, context_.processors()),
                       "read stream");
      }));
  return static_cast<double>(bytes) / us * 1e-6;
}

}  // namespace latentd::cuda::bench
