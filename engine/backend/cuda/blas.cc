#include "engine/backend/cuda/blas.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

namespace latentd::cuda {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
// Shapes remembered: a server meets as many as there are token counts of steps.
constexpr std::size_t kMostPlans = 8192;
constexpr std::int64_t kMostAlignment = 256;

cudaDataType_t data_type(DType dtype) { return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

// The largest power of two that divides all addresses.
std::int64_t alignment_of(const Product& p) {
  const auto size = [](DType dtype) { return static_cast<std::uint64_t>(dtype_size(dtype)); };
  const auto address = [](const void* data) { return reinterpret_cast<std::uint64_t>(data); };
  const auto stride = [&](std::int64_t elements, DType dtype) {
    return static_cast<std::uint64_t>(elements) * size(dtype);
  };
  std::uint64_t bits = address(p.x) | address(p.w) | address(p.out) |
                       static_cast<std::uint64_t>(kMostAlignment) |
                       stride(p.x_row_stride, p.x_dtype) | stride(p.w_row_stride, p.w_dtype) |
                       stride(p.out_row_stride, p.out_dtype);
  if (p.batch > 1) {
    bits |= stride(p.x_batch_stride, p.x_dtype) | stride(p.w_batch_stride, p.w_dtype) |
            stride(p.out_batch_stride, p.out_dtype);
  }
  return static_cast<std::int64_t>(bits & (~bits + 1));
}

}  // namespace

// cuBLASLt counts columns first, so it computes out^T = w x^T: its A is w, its B is x.
struct Blas::Plan {
  ~Plan() {
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
    for (cublasLtMatrixLayout_t layout : {w, x, out}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
  }

  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t w = nullptr;
  cublasLtMatrixLayout_t x = nullptr;
  cublasLtMatrixLayout_t out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  bool usable = false;
};

namespace {

bool make_layout(cublasLtMatrixLayout_t& layout, DType dtype, std::int64_t rows,
                 std::int64_t columns, std::int64_t stride, std::int32_t batch,
                 std::int64_t batch_stride) {
  return cublasLtMatrixLayoutCreate(&layout, data_type(dtype), static_cast<std::uint64_t>(rows),
                                    static_cast<std::uint64_t>(columns),
                                    stride) == CUBLAS_STATUS_SUCCESS &&
         cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                          sizeof(batch)) == CUBLAS_STATUS_SUCCESS &&
         cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                          &batch_stride,
                                          sizeof(batch_stride)) == CUBLAS_STATUS_SUCCESS;
}

// Owns a preference for the time of one question.
class Preference {
 public:
  Preference() { good_ = cublasLtMatmulPreferenceCreate(&handle_) == CUBLAS_STATUS_SUCCESS; }
  ~Preference() {
    if (handle_ != nullptr) cublasLtMatmulPreferenceDestroy(handle_);
  }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;

  template <typename T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    good_ = good_ && cublasLtMatmulPreferenceSetAttribute(handle_, attribute, &value,
                                                          sizeof(value)) == CUBLAS_STATUS_SUCCESS;
  }
  bool good() const { return good_; }
  cublasLtMatmulPreference_t handle() const { return handle_; }

 private:
  cublasLtMatmulPreference_t handle_ = nullptr;
  bool good_ = false;
};

}  // namespace

Blas::Blas(CudaContext& context) : context_(context) {}

Result<std::unique_ptr<Blas>> Blas::make(CudaContext& context) {
  std::unique_ptr<Blas> blas(new Blas(context));
  const cublasStatus_t status = cublasLtCreate(&blas->handle_);
  if (status != CUBLAS_STATUS_SUCCESS) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("starting cuBLASLt: {}", cublasLtGetStatusName(status)));
  }
  LATENTD_ASSIGN_OR_RETURN(
      blas->workspace_,
      allocate_buffer(context, MemoryKind::kDevice, kWorkspaceBytes, "cuBLASLt workspace"));
  return blas;
}

Blas::~Blas() {
  plans_.clear();
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

Blas::Key Blas::key_of(const Product& p) {
  return {static_cast<std::int64_t>(p.x_dtype),
          static_cast<std::int64_t>(p.out_dtype),
          p.w_columns_contiguous ? 1 : 0,
          p.accumulate ? 1 : 0,
          p.rows,
          p.columns,
          p.inner,
          p.batch,
          p.x_row_stride,
          p.w_row_stride,
          p.out_row_stride,
          p.x_batch_stride,
          p.w_batch_stride,
          p.out_batch_stride,
          alignment_of(p)};
}

std::unique_ptr<Blas::Plan> Blas::plan(const Product& p, std::int64_t alignment) const {
  auto plan = std::make_unique<Plan>();
  const cublasOperation_t w_operation = p.w_columns_contiguous ? CUBLAS_OP_N : CUBLAS_OP_T;
  const std::int64_t w_rows = p.w_columns_contiguous ? p.columns : p.inner;
  const std::int64_t w_columns = p.w_columns_contiguous ? p.inner : p.columns;
  const bool described =
      cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
          CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &w_operation,
                                     sizeof(w_operation)) == CUBLAS_STATUS_SUCCESS &&
      make_layout(plan->w, p.w_dtype, w_rows, w_columns, p.w_row_stride, p.batch,
                  p.w_batch_stride) &&
      make_layout(plan->x, p.x_dtype, p.inner, p.rows, p.x_row_stride, p.batch, p.x_batch_stride) &&
      make_layout(plan->out, p.out_dtype, p.columns, p.rows, p.out_row_stride, p.batch,
                  p.out_batch_stride);
  if (!described) return plan;

  Preference preference;
  preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                 static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    preference.set(attribute, static_cast<std::uint32_t>(alignment));
  }
  if (!preference.good()) return plan;
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, plan->operation, plan->w, plan->x, plan->out,
                                     plan->out, preference.handle(), 1, &found, &count);
  plan->usable = status == CUBLAS_STATUS_SUCCESS && count == 1 &&
                 found.state == CUBLAS_STATUS_SUCCESS && found.workspaceSize <= kWorkspaceBytes;
  plan->algorithm = found.algo;
  return plan;
}

bool Blas::multiply(const Product& p) {
  if (p.x_dtype != p.w_dtype || !is_float(p.x_dtype)) return false;
  if (p.rows == 0 || p.columns == 0 || p.inner == 0 || p.batch == 0) return false;
  const Key key = key_of(p);
  auto entry = plans_.find(key);
  if (entry == plans_.end()) {
    if (plans_.size() >= kMostPlans) plans_.clear();
    entry = plans_.emplace(key, plan(p, key.back())).first;
  }
  const Plan& plan = *entry->second;
  if (!plan.usable) return false;
  const float alpha = 1.0F;
  const float beta = p.accumulate ? 1.0F : 0.0F;
  const cublasStatus_t status = cublasLtMatmul(
      handle_, plan.operation, &alpha, p.w, plan.w, p.x, plan.x, &beta, p.out, plan.out, p.out,
      plan.out, &plan.algorithm, workspace_->data(), kWorkspaceBytes, context_.stream());
  if (status != CUBLAS_STATUS_SUCCESS) {
    context_.fail(Status(StatusCode::kUnavailable,
                         fmt::format("product of [{}, {}] and [{}, {}]: {}", p.rows, p.inner,
                                     p.columns, p.inner, cublasLtGetStatusName(status))));
  }
  return true;
}

}  // namespace latentd::cuda
