// Moves every matrix of a model into a backend's memory.
#pragma once

#include <memory>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/load_progress.h"
#include "engine/model/weight_binder.h"
#include "engine/model/weights.h"

namespace latentd {

// An upload that runs while other things are made ready. Progress and speed go to the terminal or
// the log.
//
// Contract: used by the backend's thread. REQUIRES: the backend and the checkpoint stay where they
// are until `finish`.
class WeightUpload final {
 public:
  explicit WeightUpload(Backend& backend) : backend_(backend) {}

  // The checkpoint's weights as device views; a head tied to the embedding stays tied. Errors of
  // Backend::begin_upload.
  Result<ModelWeights> begin(const Checkpoint& checkpoint);
  // Afterwards the weights have arrived. Errors of Backend::finish_upload.
  Status finish();

 private:
  Backend& backend_;
  LoadProgress progress_;
};

// Begins and finishes.
Result<ModelWeights> upload_weights(Backend& backend, const Checkpoint& checkpoint);

}  // namespace latentd
