// ForwardingBackend: a backend that passes everything on to another; the base of those that look at
// or spoil a part of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "engine/backend/backend.h"

namespace latentd {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::string_view name() const override { return inner_->name(); }
  std::string device_name() const override { return inner_->device_name(); }
  DType activation_dtype() const override { return inner_->activation_dtype(); }
  int processors() const override { return inner_->processors(); }
  Result<std::unique_ptr<Buffer>> allocate(MemoryKind kind, std::size_t bytes,
                                           std::string_view purpose) override {
    return inner_->allocate(kind, bytes, purpose);
  }
  std::optional<DeviceMemory> memory() const override { return inner_->memory(); }
  Status begin_upload(std::span<TensorView* const> tensors, const HostReader& read) override {
    return inner_->begin_upload(tensors, read);
  }
  Status finish_upload(const UploadProgress& progress) override {
    return inner_->finish_upload(progress);
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
  ExpansionPolicy expansion(const MlaGeometry& g, DType cache) const override {
    return inner_->expansion(g, cache);
  }
  Status reserve(const ReserveParams& p) override { return inner_->reserve(p); }
  Status capture(const BucketKey& bucket, const std::function<void()>& body) override {
    return inner_->capture(bucket, body);
  }
  Status run(const std::optional<BucketKey>& bucket, const std::function<void()>& body) override {
    return inner_->run(bucket, body);
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
  void append_keys_values(const AppendKeysValuesParams& p) override {
    inner_->append_keys_values(p);
  }
  void grouped_attention(const GroupedAttentionParams& p) override { inner_->grouped_attention(p); }
  void mlp(const MlpParams& p) override { inner_->mlp(p); }
  void route(const RouteParams& p) override { inner_->route(p); }
  void experts(const ExpertsParams& p) override { inner_->experts(p); }
  void gather(const GatherParams& p) override { inner_->gather(p); }
  void mla_block(const MlaBlockParams& p) override { inner_->mla_block(p); }
  void ffn_block(const FfnBlockParams& p) override { inner_->ffn_block(p); }
  void sample(const SampleParams& p) override { inner_->sample(p); }

 protected:
  Backend& inner() { return *inner_; }

 private:
  std::unique_ptr<Backend> inner_;
};

}  // namespace latentd
