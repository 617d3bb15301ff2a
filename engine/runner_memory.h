// RunnerMemory: what one rank keeps on the device, allocated once: first all that the
// configuration alone gives a size, then the cache, which takes what is left.
//
// Contract: owned by ModelRunner; plain buffers.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/backend/backend.h"
#include "engine/forward.h"
#include "engine/memory_use.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"
#include "engine/step_buffers.h"
#include "kvcache/cache_layout.h"

namespace latentd {

struct RunnerOptions;

struct RunnerMemory {
  // Rows of token counts that one step may reset before the host waits for the device.
  static constexpr std::size_t kCountRows = 4;

  std::unique_ptr<const ModelWeights> weights;           // device views, at a lasting address
  std::unique_ptr<Buffer> cache_pool;                    // num_pages * page_bytes
  std::unique_ptr<Buffer> page_table;                    // [slots, max_pages] int32
  std::unique_ptr<Buffer> last_tokens;                   // [slots] TokenId
  std::unique_ptr<Buffer> token_counts;                  // [slots, vocab] uint16
  std::unique_ptr<Buffer> count_staging;                 // [kCountRows, vocab] uint16, host
  std::unique_ptr<Buffer> rope_cos, rope_sin;            // [positions, rope / 2] fp32
  std::unique_ptr<Buffer> gathered;                      // [kLogitsSlice, hidden]
  std::unique_ptr<Buffer> logits;                        // [kLogitsSlice, vocab] fp32
  std::vector<std::unique_ptr<Buffer>> scratch_buffers;  // behind `scratch`
  ForwardScratch scratch;
  std::array<StepBuffers, 2> ring;
  std::vector<MemoryUse> workspace;  // device memory of the above, without weights and cache

  // All but the cache, and what the backend's operations need of their own. `weights` are device
  // views.
  static Result<RunnerMemory> create(Backend& backend, const ModelConfig& config,
                                     ModelWeights weights, const CacheLayout& layout,
                                     const RunnerOptions& options);
  Status allocate_cache(Backend& backend, const CacheLayout& layout, int num_pages);

  std::size_t workspace_bytes() const;
};

}  // namespace latentd
