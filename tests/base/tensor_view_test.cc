#include "base/tensor_view.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

TEST(TensorView, KnowsItsSize) {
  const float data[6] = {};
  const TensorView view = make_tensor_view(data, DType::kBF16, {2, 3});
  EXPECT_TRUE(view.is_set());
  EXPECT_EQ(view.num_elements(), 6);
  EXPECT_EQ(view.num_bytes(), 12U);
  EXPECT_EQ(view.to_string(), "bf16 [2, 3]");
}

TEST(TensorView, IsUnsetByDefault) { EXPECT_FALSE(TensorView().is_set()); }

}  // namespace
}  // namespace latentd
