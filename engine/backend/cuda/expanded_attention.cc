#include "engine/backend/cuda/expanded_attention.h"

#include <algorithm>
#include <span>

#include "engine/backend/cuda/launch.h"
#include "engine/backend/cuda/product.h"

namespace latentd::cuda {
namespace {

// kv[j, h] = kv_b(h) latent_j, keys and values of all heads at once.
Product expansion(const ExpandedStep& step, const ExpandedPass& pass, const TensorView& kv_b) {
  const MlaGeometry& g = step.geometry;
  Product product;
  product.x = step.latents;
  product.w = kv_b.data;
  product.out = step.kv;
  product.x_dtype = DType::kBF16;
  product.w_dtype = kv_b.dtype;
  product.out_dtype = DType::kBF16;
  product.rows = pass.num_keys;
  product.columns = g.num_heads * (g.nope_dim + g.v_dim);
  product.inner = g.kv_lora_rank;
  product.x_row_stride = g.latent_dim();
  product.w_row_stride = g.kv_lora_rank;
  product.out_row_stride = product.columns;
  return product;
}

}  // namespace

ExpandedAttention::ExpandedAttention(CudaContext& context)
    : context_(context), latents_(context), kv_(context), state_(context), next_task_(context) {
  hopper_ = context.has_warp_group_products();
}

bool ExpandedAttention::computes(const MlaGeometry& g, DType activation, DType cache,
                                 DType weights) const {
  const bool gathered = cache == DType::kBF16 || cache == DType::kF8E4M3;
  return activation == DType::kBF16 && gathered && weights == DType::kBF16 &&
         g.kv_lora_rank % 8 == 0 && has_expanded_kernel(g, context_.shared_bytes_of_block());
}

bool ExpandedAttention::reserve(const ReserveParams& p, DType activation) {
  const auto computed = [&](const LayerWeights& layer) {
    return computes(p.geometry, activation, p.cache_dtype, layer.mla.kv_b.dtype);
  };
  const auto& layers = p.weights->layers;
  if (std::none_of(layers.begin(), layers.end(), computed)) return false;
  ExpandedStep step;
  take_scratch(most_expanded_scratch(p.geometry, p.max_tokens, p.max_positions), step);
  return std::all_of(layers.begin(), layers.end(), computed);
}

bool ExpandedAttention::take_scratch(const ExpandedScratch& bytes, ExpandedStep& step) {
  step.latents = latents_.take_bytes(bytes.latents);
  step.kv = kv_.take_bytes(bytes.kv);
  if (bytes.state > 0) step.state = static_cast<float*>(state_.take_bytes(bytes.state));
  step.next_task = next_task_.take<std::int32_t>(1);
  return step.latents != nullptr && step.kv != nullptr && step.next_task != nullptr &&
         (bytes.state == 0 || step.state != nullptr);
}

void ExpandedAttention::run_pass(const ExpandedStep& step, const ExpandedPass& pass,
                                 const TensorView& kv_b, Blas& blas) {
  if (!context_.check(launch_gather_latents(context_.stream(), step, pass), "gathering latents")) {
    return;
  }
  const Product product = expansion(step, pass, kv_b);
  if (!blas.multiply(product)) {
    context_.check(launch_product(context_.stream(), product), "expanding latents");
  }
  if (!context_.ok()) return;
  context_.check(launch_expanded_attention(context_.stream(), step, pass), "expanded_attention");
}

bool ExpandedAttention::run(const ExpandedAttentionParams& p, DType activation, Blas& blas) {
  const MlaGeometry& g = p.geometry;
  if (p.batch.host_rows == nullptr || !computes(g, activation, p.cache.dtype, p.kv_b.dtype)) {
    return false;
  }
  const std::span rows(p.batch.host_rows, static_cast<std::size_t>(p.batch.num_rows));
  const std::int32_t most = pass_keys(g.num_heads, g.nope_dim, g.v_dim);
  ExpandedStep step;
  step.batch = p.batch;
  step.cache = p.cache;
  step.geometry = g;
  step.q = p.q;
  step.out = p.out;
  step.hopper = hopper_;
  step.processors = context_.processors();
  ExpandedCursor cursor;
  ExpandedPass pass;
  while (context_.ok() && next_pass(rows, most, cursor, pass)) {
    if (!take_scratch(expanded_scratch(g, pass.num_keys, carried_tiles(pass)), step)) break;
    run_pass(step, pass, p.kv_b, blas);
  }
  return true;
}

}  // namespace latentd::cuda
