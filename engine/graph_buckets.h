// Graph buckets: the sizes to which steps of one token a row are padded, so that few captured
// graphs serve every batch.
//
// Contract: a pure function.
#pragma once

#include <algorithm>
#include <vector>

namespace latentd {

// 1, 2, 4, then multiples of 8 (kernels work on tiles of 8 tokens), at most `most`, which is the
// last. Ascending.
inline std::vector<int> graph_buckets(int most) {
  std::vector<int> buckets;
  for (int size = 1; size < most; size = size < 8 ? 2 * size : size + 8) buckets.push_back(size);
  buckets.push_back(most);
  return buckets;
}

}  // namespace latentd
