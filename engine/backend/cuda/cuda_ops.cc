#include "engine/backend/cuda/cuda_ops.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/backend/cuda/attention_policy.h"
#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/few_tokens.h"
#include "engine/backend/cuda/launch.h"
#include "engine/backend/cuda/mla_plan.h"
#include "engine/model/model_config.h"

namespace latentd::cuda {
namespace {

void check_float(const TensorView& tensor, const char* what) {
  LATENTD_CHECK(tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16,
                "{}: fp32 or bf16 expected, got {}", what, tensor.to_string());
}

void check_routing(const RoutingParams& r) {
  LATENTD_CHECK(r.experts_per_token > 0 && r.experts_per_token <= r.num_experts &&
                    r.num_groups > 0 && r.num_experts % r.num_groups == 0 &&
                    r.groups_per_token > 0 && r.groups_per_token <= r.num_groups,
                "{} of {} experts in {} of {} groups", r.experts_per_token, r.num_experts,
                r.groups_per_token, r.num_groups);
}

// Products with one matrix a head: x and out are [tokens, heads, width].
Product per_head(const MlaGeometry& g, std::int32_t num_tokens, std::int32_t x_width,
                 std::int32_t out_width, DType activation) {
  Product product;
  product.x_dtype = activation;
  product.out_dtype = activation;
  product.rows = num_tokens;
  product.batch = g.num_heads;
  product.x_row_stride = std::int64_t{g.num_heads} * x_width;
  product.x_batch_stride = x_width;
  product.out_row_stride = std::int64_t{g.num_heads} * out_width;
  product.out_batch_stride = out_width;
  product.w_row_stride = g.kv_lora_rank;
  product.w_batch_stride = std::int64_t{g.nope_dim + g.v_dim} * g.kv_lora_rank;
  return product;
}

// Whether the product's rows can be copied in pieces of 16 bytes.
bool streams(const Product& p) {
  return p.x_dtype == DType::kBF16 && p.w_dtype == DType::kBF16 && !p.w_columns_contiguous &&
         p.inner % 8 == 0 && in_pieces(p.x, p.x_row_stride * 2) &&
         in_pieces(p.x, p.x_batch_stride * 2) && in_pieces(p.w, p.w_row_stride * 2) &&
         in_pieces(p.w, p.w_batch_stride * 2);
}

const void* advance(const void* data, std::int64_t elements, DType dtype) {
  return static_cast<const char*>(data) + static_cast<std::size_t>(elements) * dtype_size(dtype);
}

void* advance(void* data, std::int64_t elements, DType dtype) {
  return static_cast<char*>(data) + static_cast<std::size_t>(elements) * dtype_size(dtype);
}

std::size_t elements(std::int64_t a, std::int64_t b, std::int64_t c = 1) {
  return static_cast<std::size_t>(a * b * c);
}

}  // namespace

CudaOps::CudaOps(CudaContext& context, std::unique_ptr<Blas> blas, DType activation)
    : context_(context),
      blas_(std::move(blas)),
      activation_(activation),
      absorbed_attention_(context, activation, blas_ == nullptr ? kMlaInvariantPieces : 0),
      experts_(context, activation),
      expanded_(context),
      absorbed_(context),
      latent_(context),
      heads_(context),
      processed_(context) {}

// Without cuBLASLt the mode is batch-invariant, which has no expanded form.
ExpansionPolicy CudaOps::expansion(const MlaGeometry& g, DType cache) const {
  return blas_ != nullptr && expanded_.computes(g, activation_, cache, activation_)
             ? expansion_on_cuda(g.num_heads)
             : ExpansionPolicy{};
}

void CudaOps::reserve(const ReserveParams& p) {
  const ModelConfig& c = *p.config;
  if (c.attention == AttentionKind::kLatent) {
    absorbed_attention_.reserve(p);
    const bool all_expand = blas_ != nullptr && p.expands && expanded_.reserve(p, activation_);
    if (p.expands && !all_expand) take_absorbed_form(p.geometry, p.max_tokens);
  }
  processed_.take<float>(elements(p.max_logit_rows, c.vocab_size));
  experts_.reserve(p);
  context_.freeze_scratch();
}

CudaOps::AbsorbedForm CudaOps::take_absorbed_form(const MlaGeometry& g, std::int32_t num_tokens) {
  const std::int64_t rows = std::int64_t{num_tokens} * g.num_heads;
  const std::size_t element = dtype_size(activation_);
  return {.absorbed = absorbed_.take_bytes(elements(rows, g.latent_dim()) * element),
          .latent = latent_.take_bytes(elements(rows, g.kv_lora_rank) * element),
          .heads = heads_.take_bytes(elements(rows, g.v_dim) * element)};
}

void CudaOps::plan_attention(const PlanAttentionParams& p) { absorbed_attention_.plan(p); }

void CudaOps::multiply(const Product& p, std::string_view doing) {
  if (!context_.ok() || (blas_ != nullptr && blas_->multiply(p))) return;
  check(context_.has_tensor_cores() && streams(p)
            ? launch_product_on_tensor_cores(
                  context_.stream(), p, product_tile(p.rows, context_.has_warp_group_products()))
            : launch_product(context_.stream(), p),
        doing);
}

void CudaOps::prepare(const PrepareParams& p) {
  absorbed_attention_.forget();
  if (context_.ok()) check(launch_prepare(context_.stream(), p), "prepare");
}

void CudaOps::embed(const EmbedParams& p) {
  check_float(p.table, "embedding");
  if (context_.ok()) check(launch_embed(context_.stream(), p, activation_), "embed");
}

void CudaOps::gather(const GatherParams& p) {
  if (context_.ok()) check(launch_gather(context_.stream(), p, activation_), "gather");
}

void CudaOps::rms_norm(const RmsNormParams& p) {
  check_float(p.weight, "norm");
  if (context_.ok()) check(launch_rms_norm(context_.stream(), p, activation_), "rms_norm");
}

void CudaOps::linear(const LinearParams& p) {
  check_float(p.weight, "linear");
  Product product;
  product.x = p.x;
  product.w = p.weight.data;
  product.out = p.out;
  product.x_dtype = activation_;
  product.w_dtype = p.weight.dtype;
  product.out_dtype = p.out_fp32 ? DType::kF32 : activation_;
  product.accumulate = p.accumulate;
  product.rows = p.num_rows;
  product.columns = static_cast<std::int32_t>(p.weight.dim(0));
  product.inner = static_cast<std::int32_t>(p.weight.dim(1));
  product.x_row_stride = product.inner;
  product.w_row_stride = product.inner;
  product.out_row_stride = product.columns;
  multiply(product, "linear");
}

void CudaOps::rope_append(const RopeAppendParams& p) {
  check_float(p.kv_a_norm, "norm of latents");
  LATENTD_CHECK(computes_cache(p.cache.dtype), "a cache of {} is not computed here",
                dtype_name(p.cache.dtype));
  if (context_.ok()) check(launch_rope_append(context_.stream(), p, activation_), "rope_append");
}

void CudaOps::append_keys_values(const AppendKeysValuesParams& p) {
  LATENTD_CHECK(p.cache.dtype == DType::kF32 || p.cache.dtype == DType::kBF16,
                "a cache of {} is not computed here", dtype_name(p.cache.dtype));
  if (!context_.ok()) return;
  check(launch_append_keys_values(context_.stream(), p, activation_), "append_keys_values");
}

void CudaOps::grouped_attention(const GroupedAttentionParams& p) {
  LATENTD_CHECK(p.cache.dtype == DType::kF32 || p.cache.dtype == DType::kBF16,
                "a cache of {} is not computed here", dtype_name(p.cache.dtype));
  if (!context_.ok()) return;
  check(
      launch_grouped_attention(context_.stream(), p, activation_, context_.shared_bytes_of_block()),
      "grouped_attention");
}

void CudaOps::absorb_query(const AbsorbQueryParams& p) {
  check_float(p.kv_b, "kv_b");
  const MlaGeometry& g = p.geometry;
  Product product = per_head(g, p.num_tokens, g.qk_dim(), g.latent_dim(), activation_);
  product.x = p.q;
  product.w = p.kv_b.data;
  product.w_dtype = p.kv_b.dtype;
  product.out = p.absorbed;
  product.w_columns_contiguous = true;
  product.columns = g.kv_lora_rank;
  product.inner = g.nope_dim;
  multiply(product, "absorb_query");
  if (context_.ok()) check(launch_copy_rope(context_.stream(), p, activation_), "absorb_query");
}

void CudaOps::absorbed_attention(const AbsorbedAttentionParams& p) { absorbed_attention_.run(p); }

void CudaOps::project_value(const ProjectValueParams& p) {
  check_float(p.kv_b, "kv_b");
  const MlaGeometry& g = p.geometry;
  Product product = per_head(g, p.num_tokens, g.kv_lora_rank, g.v_dim, activation_);
  product.x = p.latent;
  product.w = advance(p.kv_b.data, std::int64_t{g.nope_dim} * g.kv_lora_rank, p.kv_b.dtype);
  product.w_dtype = p.kv_b.dtype;
  product.out = p.out;
  product.columns = g.v_dim;
  product.inner = g.kv_lora_rank;
  multiply(product, "project_value");
}

// Where keys and values are not expanded, the absorbed form of the same function: more arithmetic.
// Which tokens the rows hold is known to the device alone: products cover all tokens of the step,
// attention and the copy into `out` those of the rows.
void CudaOps::expanded_attention(const ExpandedAttentionParams& p) {
  if (!context_.ok() || (blas_ != nullptr && expanded_.run(p, activation_, *blas_))) return;
  const MlaGeometry& g = p.geometry;
  const auto [absorbed, latent, heads] = take_absorbed_form(g, p.batch.num_tokens);
  if (!context_.ok()) return;
  absorb_query({g, p.q, p.kv_b, absorbed, p.batch.num_tokens});
  absorbed_attention({p.batch, p.cache, g, absorbed, latent});
  project_value({g, latent, p.kv_b, heads, p.batch.num_tokens});
  if (!context_.ok()) return;
  check(launch_copy_row_tokens(context_.stream(), p.batch, heads, p.out, g.num_heads * g.v_dim,
                               activation_),
        "expanded_attention");
}

bool CudaOps::mla_block(const MlaBlockParams& p) {
  if (blas_ == nullptr || !context_.has_warp_group_products() || !fits_few_tokens(p, activation_)) {
    return false;
  }
  if (!context_.ok()) return true;
  const MlaGeometry& g = p.geometry;
  const MlaWeights& w = *p.weights;
  const MlaScratch& s = p.scratch;
  const auto launch = [&](const FewProduct& product) {
    check(launch_few_product(context_.stream(), product), "mla_block");
  };
  FewProduct first;  // of the normed hidden state: queries, or what they are made of, and latents
  first.x = p.hidden;
  first.norm = w.input_norm.data;
  first.norm_eps = g.norm_eps;
  first.num_tokens = p.batch.num_tokens;
  first.inner = g.hidden_size;
  const bool compressed = g.q_lora_rank > 0;
  const TensorView& q = compressed ? w.q_a : w.q;
  first.matrices[0] = {q.data, compressed ? s.q_a : s.q, static_cast<std::int32_t>(q.dim(0))};
  first.matrices[1] = {w.kv_a.data, s.kv_a, g.latent_dim()};
  launch(first);
  if (compressed) {
    FewProduct second;
    second.x = s.q_a;
    second.norm = w.q_a_norm.data;
    second.norm_eps = g.latent_norm_eps;
    second.num_tokens = p.batch.num_tokens;
    second.inner = g.q_lora_rank;
    second.matrices[0] = {w.q_b.data, s.q, g.num_heads * g.qk_dim()};
    launch(second);
  }
  const RopeAppendParams rope{p.batch, p.cache,     g,          s.q,
                              s.kv_a,  w.kv_a_norm, p.rope_cos, p.rope_sin};
  if (!context_.ok()) return true;
  check(launch_absorb_append(context_.stream(), {rope, w.kv_b.data, s.absorbed}), "mla_block");
  absorbed_attention_.run({p.batch, p.cache, g, s.absorbed, s.latent});

  FewProduct values;
  values.x = s.latent;
  values.num_tokens = p.batch.num_tokens;
  values.num_heads = g.num_heads;
  values.inner = g.kv_lora_rank;
  values.w_head_stride = std::int64_t{g.nope_dim + g.v_dim} * g.kv_lora_rank;
  values.matrices[0] = {
      advance(w.kv_b.data, std::int64_t{g.nope_dim} * g.kv_lora_rank, DType::kBF16), s.heads,
      g.v_dim};
  if (context_.ok()) launch(values);
  FewProduct out;
  out.x = s.heads;
  out.num_tokens = p.batch.num_tokens;
  out.inner = g.num_heads * g.v_dim;
  out.accumulate = true;
  out.matrices[0] = {w.o.data, p.hidden, g.hidden_size};
  if (context_.ok()) launch(out);
  return true;
}

void CudaOps::gated_mlp(const MlpWeights& weights, const void* x, void* gate_up, void* out,
                        std::int32_t num_tokens, bool accumulate, bool out_fp32) {
  const std::int64_t count = std::int64_t{num_tokens} * weights.gate.dim(0);
  void* up = advance(gate_up, count, activation_);
  linear({x, weights.gate, gate_up, num_tokens});
  linear({x, weights.up, up, num_tokens});
  if (!context_.ok()) return;
  check(launch_silu_multiply(context_.stream(), gate_up, up, static_cast<std::size_t>(count),
                             activation_),
        "mlp");
  linear({gate_up, weights.down, out, num_tokens, accumulate, out_fp32});
}

void CudaOps::mlp(const MlpParams& p) {
  if (p.num_tokens == 0) return;
  gated_mlp(*p.weights, p.x, p.gate_up, p.hidden, p.num_tokens, /*accumulate=*/true,
            /*out_fp32=*/false);
}

void CudaOps::route(const RouteParams& p) {
  check_routing(p.routing);
  LATENTD_CHECK(!p.correction_bias.is_set() || p.correction_bias.dtype == DType::kF32,
                "the correction bias is fp32, got {}", p.correction_bias.to_string());
  if (context_.ok()) check(launch_route(context_.stream(), p), "route");
}

void CudaOps::experts(const ExpertsParams& p) {
  experts_.run(p, [this](const MlpWeights& shared, const void* x, void* scratch, float* out,
                         std::int32_t num_tokens) {
    gated_mlp(shared, x, scratch, out, num_tokens, /*accumulate=*/false, /*out_fp32=*/true);
  });
}

void CudaOps::ffn_block(const FfnBlockParams& p) {
  const LayerWeights& w = *p.weights;
  const FfnScratch& s = p.scratch;
  const bool moe = !w.moe.experts.empty();
  if (moe) check_routing(p.routing);
  if (!context_.ok() || (moe && blas_ != nullptr && experts_.run_block(p))) return;
  rms_norm({p.hidden, w.post_attention_norm, s.normed, p.num_tokens, p.hidden_size, p.hidden_size,
            p.hidden_size, p.norm_eps});
  if (!moe) {
    mlp({s.normed, &w.mlp, p.hidden, s.gate_up, p.num_tokens, p.hidden_size});
    return;
  }
  linear({s.normed, w.moe.router, s.router_logits, p.num_tokens, /*accumulate=*/false,
          /*out_fp32=*/true});
  route({p.routing, s.router_logits, w.moe.correction_bias, s.expert_ids, s.expert_weights,
         p.num_tokens});
  experts({s.normed, &w.moe, s.expert_ids, s.expert_weights, p.hidden, s.gate_up, p.num_tokens,
           p.hidden_size, p.routing.num_experts, p.routing.experts_per_token});
}

void CudaOps::sample(const SampleParams& p) {
  auto* processed = processed_.take<float>(elements(p.num_rows, p.vocab_size));
  if (processed == nullptr) return;
  if (context_.ok()) check(launch_sample(context_.stream(), p, processed), "sample");
}

}  // namespace latentd::cuda
