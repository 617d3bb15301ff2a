#include "engine/backend/cpu/cpu_backend.h"

#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/cpu/cpu_ops.h"

namespace latentd {
namespace {

constexpr int kMaxThreads = 1024;

// Expanding a key costs kv_lora * (nope + v) multiply-adds a head, and saves each query that meets
// it the difference between the forms. Measured, it pays from a quarter more tokens than that,
// however many are cached.
ExpansionPolicy expansion_on_cpu(const MlaGeometry& g) {
  const double expansion = g.kv_lora_rank * (g.nope_dim + g.v_dim);
  const double absorbed = 2 * g.kv_lora_rank + g.rope_dim;
  const double expanded = g.qk_dim() + g.v_dim;
  if (absorbed <= expanded) return {};
  return ExpansionPolicy::from(static_cast<int>(1.25 * expansion / (absorbed - expanded)) + 1);
}

// Large buffers are mapped: zero pages cost nothing until they are touched.
class CpuBuffer final : public Buffer {
 public:
  static constexpr std::size_t kMapFrom = std::size_t{1} << 20;
  static constexpr std::size_t kAlignment = 64;

  static Result<std::unique_ptr<Buffer>> make(std::size_t bytes, std::string_view purpose) {
    const std::size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    void* data = nullptr;
    if (size >= kMapFrom) {
      data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (data == MAP_FAILED) data = nullptr;
      if (data != nullptr) madvise(data, size, MADV_HUGEPAGE);  // a wish, not a need
    } else {
      data = std::aligned_alloc(kAlignment, size == 0 ? kAlignment : size);
      if (data != nullptr) std::memset(data, 0, size);
    }
    if (data == nullptr) {
      return Status(StatusCode::kResourceExhausted,
                    fmt::format("{}: cannot allocate {} bytes of memory: {}", purpose, bytes,
                                std::generic_category().message(errno)));
    }
    return std::unique_ptr<Buffer>(new CpuBuffer(data, bytes, size));
  }

  ~CpuBuffer() override {
    if (reserved_ >= kMapFrom) {
      munmap(data_, reserved_);
    } else {
      std::free(data_);
    }
  }

  CpuBuffer(const CpuBuffer&) = delete;
  CpuBuffer& operator=(const CpuBuffer&) = delete;

  void* data() override { return data_; }
  std::size_t size() const override { return size_; }

 private:
  CpuBuffer(void* data, std::size_t size, std::size_t reserved)
      : data_(data), size_(size), reserved_(reserved) {}

  void* data_;
  std::size_t size_;
  std::size_t reserved_;
};

// Copies of tensors, one behind the other in large buffers.
class TensorArena {
 public:
  Result<TensorView> copy(const TensorView& host) {
    LATENTD_ASSIGN_OR_RETURN(void* data, place(host.num_bytes()));
    TensorView view = host;
    view.data = std::memcpy(data, host.data, host.num_bytes());
    return view;
  }

  Result<void*> place(std::size_t num_bytes) {
    constexpr std::size_t kChunk = std::size_t{64} << 20;
    constexpr std::size_t kAlignment = 64;
    const std::size_t bytes = (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > left_) {
      LATENTD_ASSIGN_OR_RETURN(auto buffer, CpuBuffer::make(std::max(bytes, kChunk), "weights"));
      buffers_.push_back(std::move(buffer));
      next_ = static_cast<std::byte*>(buffers_.back()->data());
      left_ = buffers_.back()->size();
    }
    void* data = next_;
    next_ += bytes;
    left_ -= bytes;
    return data;
  }

 private:
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, bool copy_weights) : context_(threads), copy_weights_(copy_weights) {}

  std::string_view name() const override { return "cpu"; }
  std::string device_name() const override { return "cpu"; }
  DType activation_dtype() const override { return DType::kF32; }

  Result<std::unique_ptr<Buffer>> allocate(MemoryKind /*kind*/, std::size_t bytes,
                                           std::string_view purpose) override {
    return CpuBuffer::make(bytes, purpose);
  }
  Status begin_upload(std::span<TensorView* const> tensors, const HostReader& /*read*/) override {
    uploaded_ = 0;
    if (!copy_weights_) return ok_status();
    for (TensorView* view : tensors) {
      LATENTD_ASSIGN_OR_RETURN(*view, weights_.copy(*view));
      uploaded_ += view->num_bytes();
    }
    return ok_status();
  }
  Status finish_upload(const UploadProgress& progress) override {
    if (progress && uploaded_ > 0) progress(uploaded_, uploaded_);
    return ok_status();
  }
  Status create_random(std::span<const RandomTensor> tensors) override {
    for (const RandomTensor& tensor : tensors) {
      LATENTD_ASSIGN_OR_RETURN(void* data, weights_.place(tensor.view->num_bytes()));
      cpu::fill_random(context_, tensor, data);
      tensor.view->data = data;
    }
    return ok_status();
  }

  void copy_in(void* device, const void* staging, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(device, staging, bytes);
  }
  void copy_out(void* staging, const void* device, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(staging, device, bytes);
  }

  Fence record() override { return {++last_fence_}; }
  Status wait(Fence /*fence*/) override { return ok_status(); }
  // Scratch is host memory: operations take it as they meet larger steps.
  ExpansionPolicy expansion(const MlaGeometry& g, DType /*cache*/) const override {
    return expansion_on_cpu(g);
  }
  Status reserve(const ReserveParams& /*params*/) override { return ok_status(); }
  Status capture(const BucketKey& /*bucket*/, const std::function<void()>& /*body*/) override {
    return ok_status();
  }
  Status run(const std::optional<BucketKey>& /*bucket*/,
             const std::function<void()>& body) override {
    body();
    return ok_status();
  }

  void prepare(const PrepareParams& params) override { cpu::prepare(context_, params); }
  void embed(const EmbedParams& params) override { cpu::embed(context_, params); }
  void rms_norm(const RmsNormParams& params) override { cpu::rms_norm(context_, params); }
  void linear(const LinearParams& params) override { cpu::linear(context_, params); }
  void rope_append(const RopeAppendParams& params) override { cpu::rope_append(context_, params); }
  void plan_attention(const PlanAttentionParams& /*params*/) override {}
  void absorb_query(const AbsorbQueryParams& params) override {
    cpu::absorb_query(context_, params);
  }
  void absorbed_attention(const AbsorbedAttentionParams& params) override {
    cpu::absorbed_attention(context_, params);
  }
  void project_value(const ProjectValueParams& params) override {
    cpu::project_value(context_, params);
  }
  void expanded_attention(const ExpandedAttentionParams& params) override {
    cpu::expanded_attention(context_, params);
  }
  void append_keys_values(const AppendKeysValuesParams& params) override {
    cpu::append_keys_values(context_, params);
  }
  void grouped_attention(const GroupedAttentionParams& params) override {
    cpu::grouped_attention(context_, params);
  }
  void mlp(const MlpParams& params) override { cpu::mlp(context_, params); }
  void route(const RouteParams& params) override { cpu::route(context_, params); }
  void experts(const ExpertsParams& params) override { cpu::experts(context_, params); }
  void gather(const GatherParams& params) override { cpu::gather(context_, params); }
  void sample(const SampleParams& params) override { cpu::sample(context_, params); }

 private:
  cpu::CpuContext context_;
  bool copy_weights_;
  std::size_t uploaded_ = 0;  // bytes that the last upload copied
  TensorArena weights_;
  std::uint64_t last_fence_ = 0;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cpu_backend(const CpuBackendOptions& options) {
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return invalid_argument("cpu-threads", fmt::format("must be between 0 and {}, got {}",
                                                       kMaxThreads, options.threads));
  }
  const int threads = options.threads == 0 ? usable_cpu_count() : options.threads;
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(threads, options.copy_weights));
}

}  // namespace latentd
