// The architectures that we run, one row each: how a config.json of that name is to be read.
//
// A row holds what the published modelling code of the architecture fixes or assumes: which
// attention it has, how the gate scores and picks experts, which rotation the rope dimensions use,
// what absent fields mean. Adding a variant is adding a row (and a tiny checkpoint to the tests).
// Sources: DeepSeek-V2 arXiv:2405.04434, DeepSeek-V3 arXiv:2412.19437 and Llama arXiv:2407.21783
// with their published modelling code.
//
// Contract: constant data; safe from any thread.
#pragma once

#include <span>
#include <string_view>

#include "engine/model/model_config.h"

namespace latentd {

// A value of topk_method and what it means for the architecture.
struct SelectionMethod {
  std::string_view topk_method;
  ExpertSelection selection = ExpertSelection::kGreedy;
  bool correction_bias = false;
};

// A value of rope_type that the architecture may have.
struct RopeType {
  std::string_view name;
  RopeKind kind = RopeKind::kPlain;
};

struct ArchitectureRow {
  std::string_view name;  // architectures[0]
  AttentionKind attention = AttentionKind::kLatent;
  std::span<const RopeType> rope_types;
  std::span<const SelectionMethod> selections;  // none: every layer is dense

  // What absent fields mean.
  std::string_view topk_method = {};
  GateScoring scoring = GateScoring::kSoftmax;
  bool normalize_weights = false;
  float weight_scale = 1.0F;
  bool rope_interleaved = true;

  // Of the norms inside attention, which the published code builds with its own default rather than
  // with the config's rms_norm_eps.
  float latent_norm_eps = 1e-6F;

  // V2 either normalises the weights of the chosen experts or scales them; V3 does both.
  bool scales_normalized_weights = true;
};

// nullptr when the name is unknown.
const ArchitectureRow* find_architecture(std::string_view name);

std::span<const ArchitectureRow> architecture_table();

}  // namespace latentd
