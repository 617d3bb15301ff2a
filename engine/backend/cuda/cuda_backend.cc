#include "engine/backend/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>
#include <spdlog/fmt/fmt.h>

#include <utility>

#include "engine/backend/cuda/blas.h"
#include "engine/backend/cuda/cuda_context.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/cuda_ops.h"
#include "engine/backend/cuda/graph_cache.h"
#include "engine/backend/cuda/run_timer.h"
#include "engine/backend/cuda/weight_store.h"

namespace latentd {
namespace {

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<cuda::CudaContext> context, std::unique_ptr<cuda::Blas> blas,
              const CudaBackendOptions& options)
      : context_(std::move(context)),
        activation_(options.activation),
        run_timer_(options.run_timer),
        weights_(*context_),
        ops_(*context_, std::move(blas), options.activation),
        graphs_(*context_) {}
  // What the GPU still computes ends before the memory that it uses is freed; errors of the end
  // have nobody left to tell.
  ~CudaBackend() override { (void)context_->synchronize(); }

  std::string_view name() const override { return "cuda"; }
  std::string device_name() const override { return context_->device_name(); }
  int processors() const override { return context_->processors(); }
  DType activation_dtype() const override { return activation_; }

  Result<std::unique_ptr<Buffer>> allocate(MemoryKind kind, std::size_t bytes,
                                           std::string_view purpose) override {
    context_->use_device();
    return cuda::allocate_buffer(*context_, kind, bytes, purpose);
  }

  std::optional<DeviceMemory> memory() const override {
    context_->use_device();
    return context_->memory();
  }

  Status begin_upload(std::span<TensorView* const> tensors, const HostReader& read) override {
    context_->use_device();
    return weights_.begin_upload(tensors, read);
  }
  Status finish_upload(const UploadProgress& progress) override {
    context_->use_device();
    return weights_.finish_upload(progress);
  }
  Status create_random(std::span<const RandomTensor> tensors) override {
    context_->use_device();
    return weights_.create_random(tensors);
  }

  void copy_in(void* device, const void* staging, std::size_t bytes) override {
    copy(device, staging, bytes, cudaMemcpyHostToDevice, "copying to the GPU");
  }
  void copy_out(void* staging, const void* device, std::size_t bytes) override {
    copy(staging, device, bytes, cudaMemcpyDeviceToHost, "copying from the GPU");
  }

  void stage_in(void* device, const void* staging, std::size_t bytes) override {
    context_->use_device();
    context_->upload(device, staging, bytes);
  }
  void stage_out(void* staging, const void* device, std::size_t bytes) override {
    context_->use_device();
    context_->download(staging, device, bytes);
  }

  Fence record() override {
    context_->use_device();
    return context_->record();
  }
  Status wait(Fence fence) override {
    context_->use_device();
    return context_->wait(fence);
  }

  ExpansionPolicy expansion(const MlaGeometry& g, DType cache) const override {
    return ops_.expansion(g, cache);
  }
  Status reserve(const ReserveParams& params) override {
    context_->use_device();
    ops_.reserve(params);
    return context_->status();
  }

  Status run(const std::optional<BucketKey>& bucket, const std::function<void()>& body) override {
    context_->use_device();
    context_->join_uploads();
    if (run_timer_ != nullptr) run_timer_->begin(context_->stream());
    if (bucket.has_value()) {
      graphs_.run(*bucket, body);
    } else if (context_->ok()) {
      body();
    }
    if (run_timer_ != nullptr) run_timer_->end(context_->stream());
    return context_->status();
  }

  Status capture(const BucketKey& bucket, const std::function<void()>& body) override {
    context_->use_device();
    context_->join_uploads();
    graphs_.capture(bucket, body);
    return context_->status();
  }

  void prepare(const PrepareParams& params) override { ops_.prepare(params); }
  void embed(const EmbedParams& params) override { ops_.embed(params); }
  void rms_norm(const RmsNormParams& params) override { ops_.rms_norm(params); }
  void linear(const LinearParams& params) override { ops_.linear(params); }
  void rope_append(const RopeAppendParams& params) override { ops_.rope_append(params); }
  void plan_attention(const PlanAttentionParams& params) override { ops_.plan_attention(params); }
  void absorb_query(const AbsorbQueryParams& params) override { ops_.absorb_query(params); }
  void absorbed_attention(const AbsorbedAttentionParams& params) override {
    ops_.absorbed_attention(params);
  }
  void project_value(const ProjectValueParams& params) override { ops_.project_value(params); }
  void expanded_attention(const ExpandedAttentionParams& params) override {
    ops_.expanded_attention(params);
  }
  void append_keys_values(const AppendKeysValuesParams& params) override {
    ops_.append_keys_values(params);
  }
  void grouped_attention(const GroupedAttentionParams& params) override {
    ops_.grouped_attention(params);
  }
  void mlp(const MlpParams& params) override { ops_.mlp(params); }
  void route(const RouteParams& params) override { ops_.route(params); }
  void experts(const ExpertsParams& params) override { ops_.experts(params); }
  void mla_block(const MlaBlockParams& params) override {
    if (!ops_.mla_block(params)) Backend::mla_block(params);
  }
  void ffn_block(const FfnBlockParams& params) override { ops_.ffn_block(params); }
  void gather(const GatherParams& params) override { ops_.gather(params); }
  void sample(const SampleParams& params) override { ops_.sample(params); }

 private:
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
            std::string_view doing) {
    context_->use_device();
    if (bytes == 0 || !context_->ok()) return;
    context_->check(cudaMemcpyAsync(to, from, bytes, kind, context_->stream()), doing);
  }

  std::unique_ptr<cuda::CudaContext> context_;
  DType activation_;
  cuda::RunTimer* run_timer_;
  cuda::WeightStore weights_;
  cuda::CudaOps ops_;
  cuda::GraphCache graphs_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions& options) {
  if (options.activation != DType::kF32 && options.activation != DType::kBF16) {
    return invalid_argument(
        "dtype", fmt::format("must be fp32 or bf16, got {}", dtype_name(options.activation)));
  }
  LATENTD_ASSIGN_OR_RETURN(auto context, cuda::CudaContext::make(options.device));
  std::unique_ptr<cuda::Blas> blas;
  if (!options.batch_invariant) {
    LATENTD_ASSIGN_OR_RETURN(blas, cuda::Blas::make(*context));
  }
  return std::unique_ptr<Backend>(
      std::make_unique<CudaBackend>(std::move(context), std::move(blas), options));
}

int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace latentd
