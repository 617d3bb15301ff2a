// What attention operations need to know of a model's config.json.
//
// Contract: pure functions.
#pragma once

#include "engine/backend/op_params.h"
#include "engine/model/model_config.h"

namespace latentd {

MlaGeometry mla_geometry(const ModelConfig& config);  // REQUIRES: AttentionKind::kLatent
GqaGeometry gqa_geometry(const ModelConfig& config);  // REQUIRES: AttentionKind::kGrouped

}  // namespace latentd
