// Moves every matrix of a model into a backend's memory.
#pragma once

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/model/weights.h"

namespace latentd {

// The same weights as device views; a head tied to the embedding stays tied. Progress and speed go
// to the terminal or the log. Errors of Backend::upload_all.
Result<ModelWeights> upload_weights(Backend& backend, const ModelWeights& host);

}  // namespace latentd
