#include "engine/backend/cuda/bench/cudnn_attention.h"

#include <cudnn_frontend.h>
#include <spdlog/fmt/fmt.h>

#include <unordered_map>
#include <utility>

#include "engine/backend/cuda/cuda_memory.h"

namespace latentd::cuda {
namespace {

namespace fe = cudnn_frontend;

constexpr std::int64_t kQk = 192;
constexpr std::int64_t kV = 128;

enum Tensor : std::int64_t { kQueries = 1, kKeys, kValues, kOut };

// [tokens, heads, width] as the library's [batch, heads, tokens, width].
void set_shape(fe::graph::Tensor_attributes& tensor, std::int64_t uid, std::int64_t heads,
               std::int64_t tokens, std::int64_t width) {
  tensor.set_uid(uid)
      .set_dim({1, heads, tokens, width})
      .set_stride({tokens * heads * width, width, heads * width, 1})
      .set_data_type(fe::DataType_t::BFLOAT16);
}

Status to_status(fe::error_t error) {
  if (error.is_good()) return ok_status();
  return Status(StatusCode::kUnavailable, fmt::format("cuDNN: {}", error.get_message()));
}

}  // namespace

struct CudnnAttention::State {
  explicit State(CudaContext& context_arg) : context(context_arg) {}
  ~State() {
    if (handle != nullptr) cudnnDestroy(handle);
  }

  Status build(std::int32_t heads, std::int32_t queries, std::int32_t keys, float scale) {
    if (cudnnCreate(&handle) != CUDNN_STATUS_SUCCESS ||
        cudnnSetStream(handle, context.stream()) != CUDNN_STATUS_SUCCESS) {
      return Status(StatusCode::kUnavailable, "cuDNN does not start");
    }
    graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    fe::graph::Tensor_attributes q;
    fe::graph::Tensor_attributes k;
    fe::graph::Tensor_attributes v;
    set_shape(q, kQueries, heads, queries, kQk);
    set_shape(k, kKeys, heads, keys, kQk);
    set_shape(v, kValues, heads, keys, kV);
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(false)
                       .set_attn_scale(scale)
                       .set_diagonal_alignment(fe::DiagonalAlignment_t::BOTTOM_RIGHT)
                       .set_diagonal_band_right_bound(0);
    auto [out, stats] = graph.sdpa(graph.tensor(q), graph.tensor(k), graph.tensor(v), options);
    (void)stats;
    set_shape(*out, kOut, heads, queries, kV);
    out->set_output(true);
    LATENTD_RETURN_IF_ERROR(to_status(graph.build(handle, {fe::HeurMode_t::A})));
    std::int64_t bytes = 0;
    LATENTD_RETURN_IF_ERROR(to_status(graph.get_workspace_size(bytes)));
    LATENTD_ASSIGN_OR_RETURN(
        workspace, allocate_buffer(context, MemoryKind::kDevice, static_cast<std::size_t>(bytes),
                                   "cuDNN workspace"));
    return ok_status();
  }

  CudaContext& context;
  cudnnHandle_t handle = nullptr;
  fe::graph::Graph graph;
  std::unique_ptr<Buffer> workspace;
};

CudnnAttention::CudnnAttention(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudnnAttention::~CudnnAttention() = default;

Result<std::unique_ptr<CudnnAttention>> CudnnAttention::make(CudaContext& context,
                                                             std::int32_t num_heads,
                                                             std::int32_t num_queries,
                                                             std::int32_t num_keys, float scale) {
  auto state = std::make_unique<State>(context);
  LATENTD_RETURN_IF_ERROR(state->build(num_heads, num_queries, num_keys, scale));
  return std::unique_ptr<CudnnAttention>(new CudnnAttention(std::move(state)));
}

void CudnnAttention::run(const void* q, const void* k, const void* v, void* out) {
  std::unordered_map<std::int64_t, void*> tensors = {{kQueries, const_cast<void*>(q)},
                                                     {kKeys, const_cast<void*>(k)},
                                                     {kValues, const_cast<void*>(v)},
                                                     {kOut, out}};
  const Status status =
      to_status(state_->graph.execute(state_->handle, tensors, state_->workspace->data()));
  if (!status.ok()) state_->context.fail(status);
}

}  // namespace latentd::cuda
