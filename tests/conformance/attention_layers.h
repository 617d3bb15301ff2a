// Absorbed attention as a step has it: a plan, and layer after layer with queries of its own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/conformance/device.h"

namespace latentd::conformance {

// The result of the last layer, whose queries are `q`. On a GPU the first has the same queries and
// must give the same bits, and two lie between them: a layer finds what those before it have left.
inline std::vector<float> attend_in_layers(Device& device, const MlaGeometry& g,
                                           const BatchView& batch, const CacheView& cache,
                                           const std::vector<float>& q) {
  const auto elements = static_cast<std::size_t>(batch.num_tokens) *
                        static_cast<std::size_t>(g.num_heads) *
                        static_cast<std::size_t>(g.kv_lora_rank);
  const void* queries = device.activations(q);
  void* last = device.empty_activations(elements);
  device->plan_attention({batch, g, cache.page_tokens, cache.dtype});
  if (device->name() != "cuda") {
    device->absorbed_attention({batch, cache, g, queries, last});
    return device.read_activations(last, elements);
  }
  std::vector<float> others = q;
  std::reverse(others.begin(), others.end());
  void* first = device.empty_activations(elements);
  void* between = device.empty_activations(elements);
  device->absorbed_attention({batch, cache, g, queries, first});
  device->absorbed_attention({batch, cache, g, device.activations(others), between});
  for (float& value : others) value = -value;
  device->absorbed_attention({batch, cache, g, device.activations(others), between});
  device->absorbed_attention({batch, cache, g, queries, last});
  std::vector<float> result = device.read_activations(last, elements);
  EXPECT_EQ(device.read_activations(first, elements), result) << "layers have different bits";
  return result;
}

}  // namespace latentd::conformance
