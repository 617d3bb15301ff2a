// The tiny checkpoints of tests/data/tiny and what transformers says about them
// (tools/golden/make_golden.py).
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace latentd::test {

// The source tree, or what stands for it on another machine: the variable LATENTD_SOURCE_DIR
// (tools/gpu/bundle).
std::filesystem::path source_directory();

// The folder of a tiny checkpoint.
std::filesystem::path tiny_checkpoint(std::string_view name);

// All of them, sorted.
std::vector<std::string> tiny_checkpoint_names();

// Whether a tiny checkpoint's attention caches latents (MLA), rather than keys and values.
bool caches_latents(std::string_view name);

struct GoldenRun {
  std::vector<TokenId> prompt;
  std::size_t vocab_size = 0;
  std::vector<float> logits;  // [prompt, vocab]: at every position
  std::vector<TokenId> greedy;
  std::vector<float> gaps;  // best minus second-best logit where greedy[i] was chosen

  // The logits at one position, widened.
  std::vector<double> logits_at(std::size_t position) const;
};

// `length` is "short" (below one page and chunk) or "long" (above both). Ends the process when the
// file is not there.
GoldenRun load_golden(std::string_view checkpoint, std::string_view length);

}  // namespace latentd::test
