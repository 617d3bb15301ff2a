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

TEST(CacheLayout, SplitsAnFp8CacheIntoLatentsScalesAndRope) {
  const CacheLayout layout = CacheLayout::mla(27, 512, 64, DType::kF8E4M3);
  const std::vector<CachePlane> planes = {
      {"latent", 512, DType::kF8E4M3}, {"scales", 4, DType::kF32}, {"rope", 64, DType::kBF16}};
  EXPECT_EQ(layout.planes(), planes);
  EXPECT_EQ(layout.dtype(), DType::kF8E4M3);
  EXPECT_EQ(layout.bytes_per_token_and_layer(), 656U);
  EXPECT_EQ(layout.page_bytes(), 27U * 64 * 656);
  EXPECT_EQ(layout.plane_offset(1, 1), 64U * (656 + 512));
  EXPECT_EQ(layout.plane_offset(1, 2), 64U * (656 + 512 + 16));
}

TEST(CacheLayout, CountsAScaleForEveryBegunGroupOf128Latents) {
  const auto bytes = [](int kv_lora_rank, int rope_dim) {
    return CacheLayout::mla(1, kv_lora_rank, rope_dim, DType::kF8E4M3).bytes_per_token();
  };
  EXPECT_EQ(bytes(256, 32), 256U + 2 * 4 + 64);  // MiniCPM3
  EXPECT_EQ(bytes(128, 32), 128U + 4 + 64);      // latent-mini
  EXPECT_EQ(bytes(48, 16), 48U + 4 + 32);
  EXPECT_EQ(bytes(129, 8), 129U + 2 * 4 + 16);
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
  for (const CacheLayout& layout : {CacheLayout::kv_heads(2, 1, 8, 16, DType::kBF16, 32),
                                    CacheLayout::mla(2, 130, 6, DType::kF8E4M3, 32)}) {
    std::size_t expected = 0;
    for (int layer = 0; layer < 2; ++layer) {
      for (std::size_t plane = 0; plane < layout.planes().size(); ++plane) {
        for (int token = 0; token < 32; ++token) {
          ASSERT_EQ(layout.offset(PageId(0), layer, static_cast<int>(plane), token), expected);
          expected += layout.planes()[plane].bytes_per_token();
        }
      }
    }
    EXPECT_EQ(expected, layout.page_bytes());
  }
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
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      EXPECT_TRUE(CacheLayout::mla(27, 512, 64, dtype, tokens).validate().ok()) << tokens;
    }
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
  EXPECT_EQ(field(CacheLayout::mla(1, 0, 16, DType::kF8E4M3)), "latent");
  EXPECT_EQ(field(CacheLayout::mla(1, 32, 0, DType::kF8E4M3)), "rope");
  EXPECT_EQ(field(CacheLayout::kv_heads(1, 1, 8, 0, DType::kBF16)), "values");
}

TEST(CacheLayout, StartsEveryPlaneOnA16ByteBorder) {
  for (const CacheLayout& layout : {CacheLayout::kv_heads(3, 1, 7, 5, DType::kF8E4M3, 16),
                                    CacheLayout::mla(3, 131, 6, DType::kF8E4M3, 16)}) {
    ASSERT_TRUE(layout.validate().ok());
    for (int layer = 0; layer < 3; ++layer) {
      for (std::size_t plane = 0; plane < layout.planes().size(); ++plane) {
        EXPECT_EQ(layout.plane_offset(layer, static_cast<int>(plane)) % 16, 0U);
      }
    }
    EXPECT_EQ(layout.page_bytes() % 16, 0U);
  }
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
