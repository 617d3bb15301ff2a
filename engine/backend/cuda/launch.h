// Launchers: one function an operation of kernels, between the backend and the device code.
//
// Contract: arguments are checked by the backend; a launcher chooses a kernel and a grid, enqueues
// on `stream` and returns what the runtime says of the launch. Sizes of zero launch nothing.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "engine/backend/cuda/expert_params.h"
#include "engine/backend/cuda/few_tokens.h"
#include "engine/backend/cuda/mla_attention_params.h"
#include "engine/backend/cuda/product.h"
#include "engine/backend/op_params.h"

namespace latentd::cuda {

// Fills `data` with the elements of `tensor`, fp32 or bf16.
cudaError_t launch_fill_random(cudaStream_t stream, const RandomTensor& tensor, void* data);
cudaError_t launch_prepare(cudaStream_t stream, const PrepareParams& p);
cudaError_t launch_embed(cudaStream_t stream, const EmbedParams& p, DType activation);
cudaError_t launch_gather(cudaStream_t stream, const GatherParams& p, DType activation);
cudaError_t launch_rms_norm(cudaStream_t stream, const RmsNormParams& p, DType activation);
// gate[i] = silu(gate[i]) * up[i], i < count.
cudaError_t launch_silu_multiply(cudaStream_t stream, void* gate, const void* up, std::size_t count,
                                 DType activation);
cudaError_t launch_rope_append(cudaStream_t stream, const RopeAppendParams& p, DType activation);
// out[t] = x[t], [tokens, width], for the tokens that the batch's rows hold.
cudaError_t launch_copy_row_tokens(cudaStream_t stream, const BatchView& batch, const void* x,
                                   void* out, int width, DType activation);
// Any dtypes, strides and alignment; no tensor cores.
cudaError_t launch_product(cudaStream_t stream, const Product& p);
// bf16 on tensor cores, one order of k for every number of rows; tile_rows is product_tile's.
// REQUIRES: rows of x and w are k-contiguous and begin at multiples of 16 bytes.
cudaError_t launch_product_on_tensor_cores(cudaStream_t stream, const Product& p, int tile_rows);
// The rotated parts of the queries into `absorbed`.
cudaError_t launch_copy_rope(cudaStream_t stream, const AbsorbQueryParams& p, DType activation);
// cudaErrorInvalidConfiguration when one head does not fit into `shared_bytes`.
cudaError_t launch_absorbed_attention(cudaStream_t stream, const AbsorbedAttentionParams& p,
                                      DType activation, std::size_t shared_bytes);
cudaError_t launch_append_keys_values(cudaStream_t stream, const AppendKeysValuesParams& p,
                                      DType activation);
// cudaErrorInvalidConfiguration when one head does not fit into `shared_bytes`.
cudaError_t launch_grouped_attention(cudaStream_t stream, const GroupedAttentionParams& p,
                                     DType activation, std::size_t shared_bytes);
// Divides `rows` for launch_mla_attention.
cudaError_t launch_mla_plan(cudaStream_t stream, const MlaPlanParams& p);
// For what mla_kernel_fits; cudaErrorInvalidValue when an address or a stride is not a multiple of
// 16 bytes. Needs shares * group CTAs to be resident at once.
cudaError_t launch_mla_attention(cudaStream_t stream, const MlaAttentionParams& p);
// The same over an fp8 cache; prefixes are not shared.
cudaError_t launch_mla_attention_fp8(cudaStream_t stream, const MlaAttentionParams& p);
cudaError_t launch_route(cudaStream_t stream, const RouteParams& p);
// norm, router, route and sort of few tokens. REQUIRES: fits_gate.
cudaError_t launch_gate(cudaStream_t stream, const GateStep& p);
// Sorts the entries and computes act, given and the sums into hidden; `shared` is complete.
cudaError_t launch_experts(cudaStream_t stream, const ExpertStep& p);
// The same in bf16 on tensor cores, shared experts included; part_tokens is expert_tile's.
// REQUIRES: rows of x and of all matrices, act and hidden begin at multiples of 16 bytes.
cudaError_t launch_experts_on_tensor_cores(cudaStream_t stream, const ExpertStep& p);
// REQUIRES: fits_few_tokens. Both begin while the launch before them ends.
cudaError_t launch_few_product(cudaStream_t stream, const FewProduct& p);
cudaError_t launch_absorb_append(cudaStream_t stream, const AbsorbAppend& p);
cudaError_t launch_sample(cudaStream_t stream, const SampleParams& p, float* processed);

}  // namespace latentd::cuda
