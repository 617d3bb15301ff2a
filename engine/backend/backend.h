// Backend: the device. One of the two interfaces of latentd; cpu/ and cuda/ implement it.
//
// Operations are enqueued in order and may complete later; what they read and write is memory of
// the backend. Whoever reads results on the host copies them out, records a fence and waits for it.
// The CPU backend completes every operation before it returns.
//
// ffn_block and mla_block have default bodies made of the simple operations (the latter's in
// mla_attention_block.h); a backend overrides them to fuse. The block of grouped attention is made
// of operations alone (gqa_attention_block.h).
//
// Contract: used by one thread (the engine's). Operations do not fail for reasons of their
// arguments (checked by LATENTD_CHECK); device faults surface in `run` and `wait` and are sticky.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/dtype.h"
#include "base/result.h"
#include "base/tensor_view.h"
#include "engine/backend/expansion_policy.h"
#include "engine/backend/op_params.h"

namespace latentd {

// Memory of a backend, released with it or by the destructor. Zero-filled when given out.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  virtual std::size_t size() const = 0;
};

enum class MemoryKind : std::uint8_t {
  kDevice,   // where operations compute
  kStaging,  // host memory that copies to and from the device fast (pinned)
};

struct DeviceMemory {
  std::size_t total = 0;            // bytes of the device
  std::size_t free = 0;             // now, whoever uses the rest
  std::size_t used_by_process = 0;  // since the backend was made
};

// Bytes copied so far, and all that there are.
using UploadProgress = std::function<void(std::size_t done, std::size_t total)>;

// Another way to copy a tensor's bytes than from the memory where they lie; false: there is none.
// Called by several threads.
using HostReader = std::function<bool(const std::byte* from, std::span<std::byte> to)>;

// A point in the order of operations.
struct Fence {
  std::uint64_t value = 0;
};

// Steps of equal shape share a captured graph. The key holds all that the captured launches depend
// on: which body, over which of the ring's step buffers, for how many tokens (one a row).
struct BucketKey {
  std::int32_t phase = 0;  // 0 forward, 1 sample
  std::int32_t ring = 0;   // index of the step buffers
  std::int32_t num_tokens = 0;

  friend auto operator<=>(const BucketKey&, const BucketKey&) = default;
};

struct MlaBlockParams;

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;    // "cpu", "cuda"
  virtual std::string device_name() const = 0;  // "cpu", "NVIDIA H100 80GB HBM3"
  virtual DType activation_dtype() const = 0;
  // That compute an operation side by side: the multiprocessors of a GPU.
  virtual int processors() const { return 1; }

  // kResourceExhausted with the numbers when there is not enough; `purpose` names the buffer in the
  // log.
  virtual Result<std::unique_ptr<Buffer>> allocate(MemoryKind kind, std::size_t bytes,
                                                   std::string_view purpose) = 0;
  // Device memory of the backend's own; nothing where the device computes in the host's.
  virtual std::optional<DeviceMemory> memory() const { return std::nullopt; }

  // Begins to copy tensors to device memory, kept until the backend ends, and lets each view point
  // there. They arrive beside the operations; until `finish_upload` what is computed from them is
  // finite, if they are, and means nothing. One upload at a time. Where the device computes from
  // host memory, views may stay as they are: their owner must then outlive the backend's use of
  // them, and otherwise until `finish_upload`. `read` may spare the host's pages.
  // kResourceExhausted with the numbers.
  virtual Status begin_upload(std::span<TensorView* const> tensors, const HostReader& read) = 0;
  // Waits until all have arrived. `progress` is called by this thread, about once a second, and
  // with the whole at the end.
  virtual Status finish_upload(const UploadProgress& progress) = 0;
  // Both for one tensor.
  Result<TensorView> upload(const TensorView& host);
  // Gives tensors device memory, kept until the backend ends, and fills them. Each view comes with
  // dtype (fp32 or bf16) and shape. kResourceExhausted with the numbers.
  virtual Status create_random(std::span<const RandomTensor> tensors) = 0;

  // Ordered copies between staging and device memory.
  virtual void copy_in(void* device, const void* staging, std::size_t bytes) = 0;
  virtual void copy_out(void* staging, const void* device, std::size_t bytes) = 0;

  // Copies beside the operations, so that a step's inputs arrive while the step before computes and
  // its outcomes leave while the step after does. What is staged in is seen by the next `run`; no
  // operation that was not waited for may use `device`. What is staged out is what was enqueued
  // before; it has arrived when a fence recorded later was waited for. Unless overridden, ordered
  // copies.
  virtual void stage_in(void* device, const void* staging, std::size_t bytes) {
    copy_in(device, staging, bytes);
  }
  virtual void stage_out(void* staging, const void* device, std::size_t bytes) {
    copy_out(staging, device, bytes);
  }

  virtual Fence record() = 0;
  virtual Status wait(Fence fence) = 0;  // until everything before the fence is done

  // Which rows are worth expanded_attention rather than absorbed_attention, with a cache of
  // `cache`.
  virtual ExpansionPolicy expansion(const MlaGeometry& geometry, DType cache) const = 0;

  // Allocates what operations need of their own for the largest step, once and before the first
  // operation; from then on an operation that needs more is a fault. Without it (tests) operations
  // allocate what they meet. kResourceExhausted with the numbers.
  virtual Status reserve(const ReserveParams& params) = 0;

  // Runs `body`, which calls operations. With a bucket, a backend may replay what the body enqueued
  // when the bucket was first run: everything else that it depends on then lies in device memory.
  virtual Status run(const std::optional<BucketKey>& bucket, const std::function<void()>& body) = 0;

  // Does beforehand what the first `run` of the bucket would have to, such as capturing `body`.
  // What `body` computes may be computed, and means nothing.
  virtual Status capture(const BucketKey& bucket, const std::function<void()>& body) = 0;

  virtual void prepare(const PrepareParams& params) = 0;
  virtual void embed(const EmbedParams& params) = 0;
  virtual void rms_norm(const RmsNormParams& params) = 0;
  virtual void linear(const LinearParams& params) = 0;
  virtual void rope_append(const RopeAppendParams& params) = 0;
  // Divides the work of absorbed_attention over `batch`, once for all layers of a step; called
  // after `prepare` and before the first absorbed_attention of the same batch.
  virtual void plan_attention(const PlanAttentionParams& params) = 0;
  virtual void absorb_query(const AbsorbQueryParams& params) = 0;
  virtual void absorbed_attention(const AbsorbedAttentionParams& params) = 0;
  virtual void project_value(const ProjectValueParams& params) = 0;
  virtual void expanded_attention(const ExpandedAttentionParams& params) = 0;
  virtual void append_keys_values(const AppendKeysValuesParams& params) = 0;
  virtual void grouped_attention(const GroupedAttentionParams& params) = 0;
  virtual void mlp(const MlpParams& params) = 0;
  virtual void route(const RouteParams& params) = 0;
  virtual void experts(const ExpertsParams& params) = 0;
  virtual void gather(const GatherParams& params) = 0;
  virtual void sample(const SampleParams& params) = 0;

  virtual void mla_block(const MlaBlockParams& params);
  virtual void ffn_block(const FfnBlockParams& params);
};

}  // namespace latentd
