#include "engine/backend/cuda/bench/prefill_case.h"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <numeric>
#include <random>
#include <span>

#include "base/check.h"
#include "engine/backend/cuda/cuda_memory.h"

namespace latentd::cuda {
namespace {

constexpr std::int32_t kPageTokens = 64;
constexpr std::uint64_t kSeed = 20261124;

template <std::integral T>
std::size_t size(T value) {
  return static_cast<std::size_t>(value);
}

std::vector<std::uint16_t> random_bf16(std::size_t count, float scale, std::uint64_t seed) {
  std::vector<std::uint16_t> values(count);
  std::uint64_t state = seed;
  for (std::uint16_t& value : values) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const auto unit = static_cast<float>(state >> 40U) / static_cast<float>(1U << 23U) - 1.0F;
    value = to_bfloat16(unit * scale).bits;
  }
  return values;
}

double widen(std::uint16_t bits) { return static_cast<double>(to_float(BFloat16{bits})); }

}  // namespace

MlaGeometry deepseek_geometry(std::int32_t heads) {
  MlaGeometry g;
  g.num_heads = heads;
  g.kv_lora_rank = 512;
  g.nope_dim = 128;
  g.rope_dim = 64;
  g.v_dim = 128;
  g.softmax_scale = 1.0F / std::sqrt(192.0F);
  return g;
}

template <typename T>
T* PrefillCase::device(const std::vector<T>& values) {
  const std::size_t bytes = values.size() * sizeof(T);
  auto buffer = allocate_buffer(context_, MemoryKind::kDevice, bytes, "benchmark");
  LATENTD_CHECK(buffer.ok(), "{}", buffer.status().to_string());
  buffers_.push_back(std::move(buffer).value());
  void* data = buffers_.back()->data();
  context_.check(cudaMemcpy(data, values.data(), bytes, cudaMemcpyHostToDevice), "uploading");
  return static_cast<T*>(data);
}

PrefillCase::PrefillCase(CudaContext& context, const PrefillShape& shape)
    : context_(context), shape_(shape), geometry_(deepseek_geometry(shape.heads)) {
  const MlaGeometry& g = geometry_;
  const std::int32_t length = shape.cached + shape.new_tokens;
  const std::int32_t pages = (length + kPageTokens - 1) / kPageTokens;
  const std::int32_t tokens = shape.rows * shape.new_tokens;
  q_ = random_bf16(size(tokens) * size(g.num_heads) * size(g.qk_dim()), 5.0F, kSeed);
  kv_b_ = random_bf16(size(g.num_heads) * size(g.nope_dim + g.v_dim) * size(g.kv_lora_rank), 0.07F,
                      kSeed + 1);
  pool_ = random_bf16(size(shape.rows) * size(pages) * size(kPageTokens) * size(g.latent_dim()),
                      1.0F, kSeed + 2);
  table_.resize(size(shape.rows) * size(pages));
  std::iota(table_.begin(), table_.end(), 0);
  std::shuffle(table_.begin(), table_.end(), std::mt19937_64(kSeed));
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> slots;
  for (std::int32_t r = 0; r < shape.rows; ++r) {
    rows_.push_back({r, r * shape.new_tokens, shape.new_tokens, shape.cached});
    for (std::int32_t i = 0; i < shape.new_tokens; ++i) {
      positions.push_back(shape.cached + i);
      slots.push_back(r);
    }
  }
  out_size_ = size(tokens) * size(g.num_heads) * size(g.v_dim);

  BatchView& batch = params_.batch;
  batch.num_tokens = tokens;
  batch.num_rows = shape.rows;
  batch.positions = device(positions);
  batch.token_slots = device(slots);
  batch.rows = device(rows_);
  batch.host_rows = rows_.data();
  batch.page_table = device(table_);
  batch.max_pages = pages;
  const std::size_t page_bytes = size(kPageTokens * g.latent_dim()) * sizeof(std::uint16_t);
  params_.cache = {.pool = device(pool_),
                   .page_stride = page_bytes,
                   .page_tokens = kPageTokens,
                   .num_pages = shape.rows * pages,
                   .dtype = DType::kBF16};
  params_.geometry = g;
  params_.q = device(q_);
  params_.kv_b = make_tensor_view(device(kv_b_), DType::kBF16,
                                  {g.num_heads, g.nope_dim + g.v_dim, g.kv_lora_rank});
  params_.out = device(std::vector<std::uint16_t>(out_size_, 0xffff));
}

ExpandedAttentionParams PrefillCase::params() const { return params_; }

const void* PrefillCase::fill(void* device, std::size_t count) const {
  const auto values = random_bf16(count, 1.0F, kSeed + 3);
  context_.check(
      cudaMemcpy(device, values.data(), count * sizeof(values[0]), cudaMemcpyHostToDevice),
      "uploading");
  return device;
}

double PrefillCase::pairs() const {
  const double n = shape_.new_tokens;
  return shape_.rows * (n * shape_.cached + n * (n + 1) / 2);
}

// In the absorbed form, which is cheap for a few queries.
std::vector<double> PrefillCase::expected(std::int32_t token, std::int32_t head) const {
  const MlaGeometry& g = geometry_;
  const auto lora = size(g.kv_lora_rank);
  const auto nope = size(g.nope_dim);
  const auto latent_dim = size(g.latent_dim());
  const RowView& row = rows_[size(token / shape_.new_tokens)];
  const auto at = size(token) * size(g.num_heads) + size(head);
  const std::uint16_t* q = q_.data() + at * size(g.qk_dim());
  const std::uint16_t* w = kv_b_.data() + size(head) * size(g.nope_dim + g.v_dim) * lora;
  std::vector<double> absorbed(latent_dim);
  for (std::size_t i = 0; i < nope; ++i) {
    for (std::size_t k = 0; k < lora; ++k) absorbed[k] += widen(q[i]) * widen(w[i * lora + k]);
  }
  for (std::size_t i = lora; i < latent_dim; ++i) absorbed[i] = widen(q[nope + i - lora]);

  std::vector<double> latent(lora);
  double total = 0.0;
  const std::int32_t count = row.start + token - row.first_token + 1;
  for (std::int32_t j = 0; j < count; ++j) {
    const auto page =
        size(table_[size(row.slot) * size(params_.batch.max_pages) + size(j / kPageTokens)]);
    const std::uint16_t* key =
        pool_.data() + (page * size(kPageTokens) + size(j % kPageTokens)) * latent_dim;
    double score = 0.0;
    for (std::size_t i = 0; i < latent_dim; ++i) score += absorbed[i] * widen(key[i]);
    // Scores stay far below the range of a double: no maximum is needed.
    const double weight = std::exp(score * static_cast<double>(g.softmax_scale));
    total += weight;
    for (std::size_t i = 0; i < lora; ++i) latent[i] += weight * widen(key[i]);
  }
  std::vector<double> out(size(g.v_dim));
  for (std::size_t v = 0; v < out.size(); ++v) {
    for (std::size_t k = 0; k < lora; ++k) {
      out[v] += latent[k] / total * widen(w[(nope + v) * lora + k]);
    }
  }
  return out;
}

double PrefillCase::relative_error() const {
  constexpr int kSamples = 24;
  std::vector<std::uint16_t> out(out_size_);
  if (!context_.synchronize().ok() ||
      !context_.check(
          cudaMemcpy(out.data(), params_.out, out.size() * sizeof(out[0]), cudaMemcpyDeviceToHost),
          "reading results")) {
    return INFINITY;
  }
  std::mt19937_64 random(kSeed);
  double difference = 0.0;
  double norm = 0.0;
  for (int sample = 0; sample < kSamples; ++sample) {
    const auto token = static_cast<std::int32_t>(random() % size(params_.batch.num_tokens));
    const auto head = static_cast<std::int32_t>(random() % size(geometry_.num_heads));
    const std::vector<double> wanted = expected(token, head);
    const auto at = (size(token) * size(geometry_.num_heads) + size(head)) * wanted.size();
    for (std::size_t v = 0; v < wanted.size(); ++v) {
      difference += (widen(out[at + v]) - wanted[v]) * (widen(out[at + v]) - wanted[v]);
      norm += wanted[v] * wanted[v];
    }
  }
  const double error = std::sqrt(difference / norm);
  return std::isfinite(error) ? error : INFINITY;
}

}  // namespace latentd::cuda
