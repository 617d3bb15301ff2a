// RecordingBackend: a backend that passes everything on to another, and keeps the logits that its
// sampler was given.
//
// Rows are known by the seed of their request and the position of the token that is drawn, or whose
// logprob is asked for; give every request a seed of its own. For tests that compare logits bit by
// bit.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/backend/backend.h"

namespace latentd {

class RecordingBackend final : public Backend {
 public:
  using Key = std::pair<std::uint64_t, std::int32_t>;  // seed, position

  explicit RecordingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  // Logits of every row, the last time it was computed.
  const std::map<Key, std::vector<float>>& logits() const { return logits_; }

  std::string_view name() const override { return inner_->name(); }
  std::string device_name() const override { return inner_->device_name(); }
  DType activation_dtype() const override { return inner_->activation_dtype(); }
  Result<std::unique_ptr<Buffer>> allocate(MemoryKind kind, std::size_t bytes,
                                           std::string_view purpose) override {
    return inner_->allocate(kind, bytes, purpose);
  }
  std::optional<DeviceMemory> memory() const override { return inner_->memory(); }
  Status upload_all(std::span<TensorView* const> tensors, const UploadProgress& progress) override {
    return inner_->upload_all(tensors, progress);
  }
  Status create_random(std::span<const RandomTensor> tensors) override {
    return inner_->create_random(tensors);
  }
  void copy_in(void* device, const void* staging, std::size_t bytes) override {
    inner_->copy_in(device, staging, bytes);
  }
  void copy_out(void* staging, const void* device, std::size_t bytes) override {
    inner_->copy_out(staging, device, bytes);
  }
  void stage_in(void* device, const void* staging, std::size_t bytes) override {
    inner_->stage_in(device, staging, bytes);
  }
  void stage_out(void* staging, const void* device, std::size_t bytes) override {
    inner_->stage_out(staging, device, bytes);
  }
  Fence record() override { return inner_->record(); }
  Status wait(Fence fence) override { return inner_->wait(fence); }
  Status reserve(const ReserveParams& p) override { return inner_->reserve(p); }
  // Reading the logits is nothing that a replay could repeat.
  Status run(const std::optional<BucketKey>& /*bucket*/,
             const std::function<void()>& body) override {
    return inner_->run(std::nullopt, body);
  }
  void prepare(const PrepareParams& p) override { inner_->prepare(p); }
  void embed(const EmbedParams& p) override { inner_->embed(p); }
  void rms_norm(const RmsNormParams& p) override { inner_->rms_norm(p); }
  void linear(const LinearParams& p) override { inner_->linear(p); }
  void rope_append(const RopeAppendParams& p) override { inner_->rope_append(p); }
  void plan_attention(const PlanAttentionParams& p) override { inner_->plan_attention(p); }
  void absorb_query(const AbsorbQueryParams& p) override { inner_->absorb_query(p); }
  void absorbed_attention(const AbsorbedAttentionParams& p) override {
    inner_->absorbed_attention(p);
  }
  void project_value(const ProjectValueParams& p) override { inner_->project_value(p); }
  void expanded_attention(const ExpandedAttentionParams& p) override {
    inner_->expanded_attention(p);
  }
  void mlp(const MlpParams& p) override { inner_->mlp(p); }
  void route(const RouteParams& p) override { inner_->route(p); }
  void experts(const ExpertsParams& p) override { inner_->experts(p); }
  void gather(const GatherParams& p) override { inner_->gather(p); }
  void attention_block(const AttentionBlockParams& p) override { inner_->attention_block(p); }
  void ffn_block(const FfnBlockParams& p) override { inner_->ffn_block(p); }

  void sample(const SampleParams& p) override {
    const auto count = static_cast<std::size_t>(p.num_rows);
    const auto vocab = static_cast<std::size_t>(p.vocab_size);
    const std::vector<SampleRow> rows = read(p.rows, count);
    const std::vector<float> logits = read(p.logits, count * vocab);
    for (std::size_t i = 0; i < count; ++i) {
      const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(i * vocab);
      logits_[{rows[i].seed, rows[i].position}].assign(begin,
                                                       begin + static_cast<std::ptrdiff_t>(vocab));
    }
    inner_->sample(p);
  }

 private:
  template <typename T>
  std::vector<T> read(const T* device, std::size_t count) {
    const auto staging =
        inner_->allocate(MemoryKind::kStaging, count * sizeof(T), "recorded").value();
    inner_->copy_out(staging->data(), device, count * sizeof(T));
    const Status status = inner_->wait(inner_->record());
    LATENTD_CHECK(status.ok(), "{}", status.to_string());
    const auto* values = static_cast<const T*>(staging->data());
    return std::vector<T>(values, values + count);
  }

  std::unique_ptr<Backend> inner_;
  std::map<Key, std::vector<float>> logits_;
};

}  // namespace latentd
