#include "kvcache/cache_layout.h"

#include <gtest/gtest.h>

namespace latentd {
namespace {

TEST(CacheLayout, CountsTheBytesOfPublishedMlaModelsExactly) {
  // DeepSeek-V2-Lite: 27 layers; V3: 61 layers; both 512 latents and 64 rope values.
  EXPECT_EQ(CacheLayout::mla(27, 512, 64, DType::kBF16).bytes_per_token(), 31'104U);
  EXPECT_EQ(CacheLayout::mla(61, 512, 64, DType::kBF16).bytes_per_token(), 70'272U);
  EXPECT_EQ(CacheLayout::mla(27, 512, 64, DType::kF32).bytes_per_token(), 62'208U);
  EXPECT_EQ(CacheLayout::mla(27, 512, 64, DType::kBF16).page_bytes(), 64U * 31'104U);
}

TEST(CacheLayout, GivesHeadsTwoPlanes) {
  // The V2-Lite shape as MHA: 16 heads, keys of 192, values of 128.
  const CacheLayout layout = CacheLayout::kv_heads(27, 16, 192, 128, DType::kBF16);
  ASSERT_EQ(layout.planes().size(), 2U);
  EXPECT_EQ(layout.planes()[0].name, "keys");
  EXPECT_EQ(layout.planes()[1].name, "values");
  EXPECT_EQ(layout.bytes_per_token(), 276'480U);
}

TEST(CacheLayout, LaysPagesThenLayersThenPlanesThenTokens) {
  const CacheLayout layout = CacheLayout::kv_heads(3, 2, 8, 4, DType::kF32, 16);
  const std::size_t key_plane = 2 * 8 * 4 * 16;
  const std::size_t value_plane = 2 * 4 * 4 * 16;
  EXPECT_EQ(layout.layer_bytes(), key_plane + value_plane);
  EXPECT_EQ(layout.page_bytes(), 3 * (key_plane + value_plane));
  EXPECT_EQ(layout.plane_offset(0, 1), key_plane);
  EXPECT_EQ(layout.plane_offset(2, 1), 2 * layout.layer_bytes() + key_plane);
  EXPECT_EQ(layout.offset(PageId(5), 2, 1, 7),
            5 * layout.page_bytes() + 2 * layout.layer_bytes() + key_plane + 7 * 2 * 4 * 4);
  EXPECT_EQ(layout.offset(PageId(0), 0, 0, 0), 0U);
}

TEST(CacheLayout, TilesAPageWithoutGapsOrOverlaps) {
  const CacheLayout layout = CacheLayout::kv_heads(2, 1, 8, 16, DType::kBF16, 32);
  std::size_t expected = 0;
  for (int layer = 0; layer < 2; ++layer) {
    for (int plane = 0; plane < 2; ++plane) {
      for (int token = 0; token < 32; ++token) {
        ASSERT_EQ(layout.offset(PageId(0), layer, plane, token), expected);
        expected += layout.planes()[static_cast<std::size_t>(plane)].bytes_per_token();
      }
    }
  }
  EXPECT_EQ(expected, layout.page_bytes());
}

TEST(CacheLayout, RoundsTokensUpToPages) {
  const CacheLayout layout = CacheLayout::mla(1, 128, 32, DType::kBF16);
  EXPECT_EQ(layout.pages_for_tokens(0), 0);
  EXPECT_EQ(layout.pages_for_tokens(1), 1);
  EXPECT_EQ(layout.pages_for_tokens(64), 1);
  EXPECT_EQ(layout.pages_for_tokens(65), 2);
}

TEST(CacheLayout, AcceptsPagesOf16And32And64Tokens) {
  for (const int tokens : {16, 32, 64}) {
    EXPECT_TRUE(CacheLayout::mla(27, 512, 64, DType::kBF16, tokens).validate().ok()) << tokens;
  }
}

TEST(CacheLayout, NamesWhatIsInvalid) {
  const auto field = [](const CacheLayout& layout) {
    const Status status = layout.validate();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.field();
  };
  EXPECT_EQ(field(CacheLayout::mla(0, 512, 64, DType::kBF16)), "num_layers");
  EXPECT_EQ(field(CacheLayout::mla(1, 512, 64, DType::kBF16, 48)), "page_tokens");
  EXPECT_EQ(field(CacheLayout::mla(1, 0, 0, DType::kBF16)), "latent");
  EXPECT_EQ(field(CacheLayout::kv_heads(1, 1, 8, 0, DType::kBF16)), "values");
}

TEST(CacheLayout, StartsEveryPlaneOnA16ByteBorder) {
  const CacheLayout layout = CacheLayout::kv_heads(3, 1, 7, 5, DType::kF8E4M3, 16);
  ASSERT_TRUE(layout.validate().ok());
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(layout.plane_offset(layer, 0) % 16, 0U);
    EXPECT_EQ(layout.plane_offset(layer, 1) % 16, 0U);
  }
  EXPECT_EQ(layout.page_bytes() % 16, 0U);
}

TEST(CacheLayout, ComparesAsAValue) {
  EXPECT_EQ(CacheLayout::mla(2, 128, 32, DType::kF32), CacheLayout::mla(2, 128, 32, DType::kF32));
  EXPECT_NE(CacheLayout::mla(2, 128, 32, DType::kF32), CacheLayout::mla(2, 128, 32, DType::kBF16));
}

TEST(CacheLayoutDeathTest, RefusesIndicesOutsideThePage) {
  const CacheLayout layout = CacheLayout::mla(2, 128, 32, DType::kF32);
  EXPECT_DEATH(layout.plane_offset(2, 0), "layer 2 of 2");
  EXPECT_DEATH(layout.plane_offset(0, 1), "plane 1 of 1");
  EXPECT_DEATH(layout.offset(PageId(0), 0, 0, 64), "token 64 of 64");
}

}  // namespace
}  // namespace latentd
