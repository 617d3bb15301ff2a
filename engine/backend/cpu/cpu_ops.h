// The operations of the CPU backend, one free function each; see op_params.h for what they compute.
//
// Contract: called by the engine's thread; complete when they return.
#pragma once

#include "engine/backend/cpu/cpu_context.h"
#include "engine/backend/op_params.h"

namespace latentd::cpu {

// Fills `data` with the elements of `tensor`.
void fill_random(CpuContext& context, const RandomTensor& tensor, void* data);

void prepare(CpuContext& context, const PrepareParams& params);
void embed(CpuContext& context, const EmbedParams& params);
void gather(CpuContext& context, const GatherParams& params);
void rms_norm(CpuContext& context, const RmsNormParams& params);
void linear(CpuContext& context, const LinearParams& params);

void rope_append(CpuContext& context, const RopeAppendParams& params);
void absorb_query(CpuContext& context, const AbsorbQueryParams& params);
void absorbed_attention(CpuContext& context, const AbsorbedAttentionParams& params);
void project_value(CpuContext& context, const ProjectValueParams& params);
void expanded_attention(CpuContext& context, const ExpandedAttentionParams& params);

void append_keys_values(CpuContext& context, const AppendKeysValuesParams& params);
void grouped_attention(CpuContext& context, const GroupedAttentionParams& params);

void mlp(CpuContext& context, const MlpParams& params);
void route(CpuContext& context, const RouteParams& params);
void experts(CpuContext& context, const ExpertsParams& params);

void sample(CpuContext& context, const SampleParams& params);

}  // namespace latentd::cpu
