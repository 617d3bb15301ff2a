// Checkpoint: an opened model directory whose tensors are bound to ModelWeights.
//
// Reads model.safetensors, or the shards that model.safetensors.index.json names, through mmap:
// opening costs no read of the weights. One table says which tensor (published name, shape, dtypes)
// fills which view; everything that is missing, misshapen or of a wrong dtype is reported at once.
// Tensors that nothing binds are counted and tolerated (num_nextn_predict_layers and the like).
//
// Contract: owns the mappings and whatever had to be transformed; views live as long as it.
// Movable.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "base/result.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"

namespace latentd {

class Checkpoint {
 public:
  // Errors: kNotFound, kInvalidArgument with one line a faulty tensor, kDataLoss (a malformed
  // safetensors file).
  static Result<Checkpoint> open(const std::filesystem::path& directory, const ModelConfig& config);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const ModelWeights& weights() const;
  std::size_t weight_bytes() const;  // of all bound tensors
  int num_unbound_tensors() const;

  // Copies bytes of a tensor past its mapping, so that none of its pages is touched; false when
  // they have to be copied from memory. Any thread.
  bool read(const std::byte* from, std::span<std::byte> to) const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace latentd
