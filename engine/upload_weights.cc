#include "engine/upload_weights.h"

namespace latentd {
namespace {

class Uploader {
 public:
  explicit Uploader(Backend& backend) : backend_(backend) {}

  void tensor(TensorView& view) {
    if (!view.is_set() || !status_.ok()) return;
    Result<TensorView> uploaded = backend_.upload(view);
    if (uploaded.ok()) {
      view = *uploaded;
    } else {
      status_ = uploaded.status();
    }
  }
  void mlp(MlpWeights& weights) {
    tensor(weights.gate);
    tensor(weights.up);
    tensor(weights.down);
  }
  void attention(MlaWeights& weights) {
    for (TensorView* view :
         {&weights.input_norm, &weights.q, &weights.q_a, &weights.q_a_norm, &weights.q_b,
          &weights.kv_a, &weights.kv_a_norm, &weights.kv_b, &weights.o}) {
      tensor(*view);
    }
  }
  void layer(LayerWeights& weights) {
    attention(weights.attention);
    tensor(weights.post_attention_norm);
    mlp(weights.mlp);
    tensor(weights.moe.router);
    tensor(weights.moe.correction_bias);
    for (MlpWeights& expert : weights.moe.experts) mlp(expert);
    mlp(weights.moe.shared);
  }
  const Status& status() const { return status_; }

 private:
  Backend& backend_;
  Status status_;
};

}  // namespace

Result<ModelWeights> upload_weights(Backend& backend, const ModelWeights& host) {
  ModelWeights device = host;
  Uploader uploader(backend);
  const bool tied = host.lm_head.data == host.embedding.data;
  uploader.tensor(device.embedding);
  for (LayerWeights& layer : device.layers) uploader.layer(layer);
  uploader.tensor(device.final_norm);
  if (tied) {
    device.lm_head = device.embedding;
  } else {
    uploader.tensor(device.lm_head);
  }
  if (!uploader.status().ok()) return uploader.status();
  return device;
}

}  // namespace latentd
