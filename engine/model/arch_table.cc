#include "engine/model/arch_table.h"

#include <algorithm>
#include <array>

namespace latentd {
namespace {

constexpr std::array kDeepseekV2Selections = {
    SelectionMethod{"greedy", ExpertSelection::kGreedy, /*correction_bias=*/false},
    SelectionMethod{"gready", ExpertSelection::kGreedy, false},  // the published default's spelling
    SelectionMethod{"group_limited_greedy", ExpertSelection::kGroupLimitedMax, false},
};

constexpr std::array kDeepseekV3Selections = {
    SelectionMethod{"noaux_tc", ExpertSelection::kGroupLimitedTop2, /*correction_bias=*/true},
};

constexpr std::array kDeepseekRopeTypes = {RopeType{"default", RopeKind::kPlain},
                                           RopeType{"yarn", RopeKind::kYarn}};

constexpr std::array kLlamaRopeTypes = {RopeType{"default", RopeKind::kPlain},
                                        RopeType{"linear", RopeKind::kLinear},
                                        RopeType{"llama3", RopeKind::kLlama3}};

constexpr std::array kArchitectures = {
    ArchitectureRow{.name = "DeepseekV2ForCausalLM",
                    .attention = AttentionKind::kLatent,
                    .rope_types = kDeepseekRopeTypes,
                    .selections = kDeepseekV2Selections,
                    .topk_method = "greedy",
                    .scoring = GateScoring::kSoftmax,
                    .normalize_weights = false,
                    .weight_scale = 1.0F,
                    .rope_interleaved = true,
                    .latent_norm_eps = 1e-6F,
                    .scales_normalized_weights = false},
    ArchitectureRow{.name = "DeepseekV3ForCausalLM",
                    .attention = AttentionKind::kLatent,
                    .rope_types = kDeepseekRopeTypes,
                    .selections = kDeepseekV3Selections,
                    .topk_method = "noaux_tc",
                    .scoring = GateScoring::kSigmoid,
                    .normalize_weights = true,
                    .weight_scale = 2.5F,
                    .rope_interleaved = true,
                    .latent_norm_eps = 1e-6F,
                    .scales_normalized_weights = true},
    ArchitectureRow{.name = "LlamaForCausalLM",
                    .attention = AttentionKind::kGrouped,
                    .rope_types = kLlamaRopeTypes,
                    .selections = {},
                    .rope_interleaved = false},
};

}  // namespace

std::span<const ArchitectureRow> architecture_table() { return kArchitectures; }

const ArchitectureRow* find_architecture(std::string_view name) {
  const auto row = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                [&](const ArchitectureRow& r) { return r.name == name; });
  return row == kArchitectures.end() ? nullptr : &*row;
}

}  // namespace latentd
