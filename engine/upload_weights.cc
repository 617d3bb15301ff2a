#include "engine/upload_weights.h"

#include <vector>

namespace latentd {
namespace {

// The views of a model that are set.
class Views {
 public:
  explicit Views(ModelWeights& weights) {
    add(weights.embedding);
    for (LayerWeights& layer : weights.layers) add_layer(layer);
    add(weights.final_norm);
    if (weights.lm_head.data != weights.embedding.data) add(weights.lm_head);
  }

  const std::vector<TensorView*>& all() const { return views_; }

 private:
  void add(TensorView& view) {
    if (view.is_set()) views_.push_back(&view);
  }
  void add_mlp(MlpWeights& weights) {
    for (TensorView* view : {&weights.gate, &weights.up, &weights.down}) add(*view);
  }
  void add_layer(LayerWeights& weights) {
    visit_dense_tensors(weights, [this](TensorView& view) { add(view); });
    for (MlpWeights& expert : weights.moe.experts) add_mlp(expert);
  }

  std::vector<TensorView*> views_;
};

}  // namespace

Result<ModelWeights> WeightUpload::begin(const Checkpoint& checkpoint) {
  const ModelWeights& host = checkpoint.weights();
  ModelWeights device = host;
  const auto read = [&checkpoint](const std::byte* from, std::span<std::byte> to) {
    return checkpoint.read(from, to);
  };
  LATENTD_RETURN_IF_ERROR(backend_.begin_upload(Views(device).all(), read));
  if (host.lm_head.data == host.embedding.data) device.lm_head = device.embedding;
  return device;
}

Status WeightUpload::finish() {
  return backend_.finish_upload(
      [this](std::size_t done, std::size_t total) { progress_.show(done, total); });
}

Result<ModelWeights> upload_weights(Backend& backend, const Checkpoint& checkpoint) {
  WeightUpload upload(backend);
  LATENTD_ASSIGN_OR_RETURN(ModelWeights device, upload.begin(checkpoint));
  LATENTD_RETURN_IF_ERROR(upload.finish());
  return device;
}

}  // namespace latentd
