// How CUDA launches divide their work: pure functions, tested without a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/backend/cuda/arena_layout.h"
#include "engine/backend/cuda/attention_policy.h"
#include "engine/backend/cuda/expert_policy.h"
#include "engine/backend/cuda/kernel_policy.h"

namespace latentd::cuda {
namespace {

constexpr std::size_t kHopperShared = 227 * 1024;
constexpr std::size_t kAdaShared = 99 * 1024;

TEST(ArenaLayout, PacksTensorsAtAlignedPlaces) {
  const std::vector<std::size_t> sizes = {1, 256, 0, 257, 5};
  const ArenaLayout layout = ArenaLayout::of(sizes);
  EXPECT_EQ(layout.offsets, (std::vector<std::size_t>{0, 256, 512, 512, 1024}));
  EXPECT_EQ(layout.bytes, 1280U);
}

TEST(ArenaLayout, CoversEveryByteOfEveryTensorOnceWhateverTheChunks) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::size_t> sizes(1 + random() % 12);
    for (std::size_t& size : sizes) size = random() % 3 == 0 ? 0 : random() % 2000;
    const ArenaLayout layout = ArenaLayout::of(sizes);
    const std::size_t chunk = 1 + random() % 1500;
    std::vector<std::size_t> covered(sizes.size(), 0);
    for (std::size_t begin = 0; begin < layout.bytes; begin += chunk) {
      const std::size_t end = std::min(begin + chunk, layout.bytes);
      layout.for_each_piece(
          begin, end,
          [&](std::size_t tensor, std::size_t first, std::size_t in_arena, std::size_t bytes) {
            EXPECT_EQ(first, covered[tensor]);
            EXPECT_EQ(in_arena, layout.offsets[tensor] + first);
            EXPECT_GE(in_arena, begin);
            EXPECT_LE(in_arena + bytes, end);
            covered[tensor] += bytes;
          });
    }
    EXPECT_EQ(covered, sizes);
  }
}

TEST(AttentionPolicy, SharesABlockAmongAsManyHeadsAsFit) {
  EXPECT_EQ(attention_heads_of_block(16, 512, 64, kHopperShared), 8);
  EXPECT_EQ(attention_heads_of_block(128, 512, 64, kHopperShared), 8);
  EXPECT_EQ(attention_heads_of_block(16, 512, 64, kAdaShared), 4);
  for (const int kv_lora : {20, 128, 256, 512, 1024}) {
    for (const std::size_t shared : {kAdaShared, kHopperShared}) {
      const int heads = attention_heads_of_block(64, kv_lora, 64, shared);
      if (heads == 0) continue;
      EXPECT_LE(attention_shared_bytes(heads, kv_lora, 64), shared) << kv_lora;
    }
  }
}

TEST(AttentionPolicy, SharesNoMoreThanThereAreHeads) {
  EXPECT_EQ(attention_heads_of_block(1, 128, 32, kHopperShared), 1);
  EXPECT_EQ(attention_heads_of_block(2, 128, 32, kHopperShared), 2);
  EXPECT_EQ(attention_heads_of_block(3, 128, 32, kHopperShared), 4);
  EXPECT_EQ(attention_heads_of_block(20, 128, 32, kHopperShared), 8);
}

TEST(AttentionPolicy, SaysWhenNotEvenOneHeadFits) {
  EXPECT_EQ(attention_heads_of_block(1, 4096, 64, kHopperShared), 0);
}

TEST(AttentionPolicy, SharesKeysAndValuesAmongTheHeadsOfAGroup) {
  EXPECT_EQ(grouped_attention_heads_of_block(1, 128, kAdaShared), 1);
  EXPECT_EQ(grouped_attention_heads_of_block(4, 128, kAdaShared), 4);
  EXPECT_EQ(grouped_attention_heads_of_block(5, 64, kAdaShared), 8);
  EXPECT_EQ(grouped_attention_heads_of_block(64, 128, kHopperShared), 8);
  EXPECT_EQ(grouped_attention_heads_of_block(8, 4096, kHopperShared), 0);
  for (const int head_dim : {64, 80, 128, 256, 512}) {
    for (const std::size_t shared : {kAdaShared, kHopperShared}) {
      const int heads = grouped_attention_heads_of_block(8, head_dim, shared);
      if (heads == 0) continue;
      EXPECT_LE(grouped_attention_shared_bytes(heads, head_dim), shared) << head_dim;
    }
  }
}

TEST(ExpertPolicy, NoRoutingNeedsMorePartsThanTheBound) {
  constexpr unsigned kSeed = 20261129;
  std::mt19937 random(kSeed);
  for (int trial = 0; trial < 2000; ++trial) {
    const int experts = 1 + static_cast<int>(random() % 300);
    const int entries = 1 + static_cast<int>(random() % 5000);
    const auto chosen = 1 + random() % static_cast<unsigned>(experts);
    std::vector<int> counts(static_cast<std::size_t>(experts));
    for (int i = 0; i < entries; ++i) ++counts[random() % chosen];
    for (const int part : {1, 8, 16, 32, kGenericPart, kNarrowPart, kWidePart}) {
      int parts = 0;
      for (const int count : counts) parts += (count + part - 1) / part;
      ASSERT_LE(parts, most_expert_parts(entries, experts, part))
          << entries << " entries of " << experts << " experts by " << part << ", seed " << kSeed;
    }
  }
}

TEST(ExpertPolicy, ProductTilesGrowWithTheRows) {
  for (const bool warp_groups : {false, true}) {
    int before = 0;
    for (int rows = 1; rows <= 2048; ++rows) {
      const int tile = product_tile(rows, warp_groups);
      EXPECT_GE(tile, before) << rows;
      before = tile;
    }
    EXPECT_EQ(before, warp_groups ? kTilePart : 32);
  }
}

TEST(ExpertPolicy, OnlyFewTokensAreRoutedInOneLaunch) {
  EXPECT_TRUE(fits_gate(1, 2048, 64));
  EXPECT_TRUE(fits_gate(16, 7168, 256));
  EXPECT_FALSE(fits_gate(1024, 2048, 64));
  EXPECT_FALSE(fits_gate(1, 2044, 64)) << "rows that end within a piece";
  EXPECT_FALSE(fits_gate(1, 16384, 64)) << "more than a block's shared memory";
}

TEST(ExpertPolicy, TilesGrowWithTheTokensOfAnExpert) {
  EXPECT_EQ(expert_tile(1, 6, 64, true), 8);
  EXPECT_EQ(expert_tile(32, 6, 64, true), 16);
  EXPECT_EQ(expert_tile(64, 6, 64, true), kNarrowPart);
  EXPECT_EQ(expert_tile(1024, 6, 64, true), kWidePart);
  EXPECT_EQ(expert_tile(1024, 6, 64, false), 32);
  for (const bool warp_groups : {false, true}) {
    int before = 0;
    for (int tokens = 1; tokens <= 4096; ++tokens) {
      const int tile = expert_tile(tokens, 6, 64, warp_groups);
      EXPECT_GE(tile, before) << tokens;
      before = tile;
    }
  }
}

// Whatever a step's tokens and tiles, what `reserve` takes is enough.
TEST(ExpertPolicy, NoStepNeedsMoreScratchThanTheLargestIsReservedFor) {
  struct Model {
    int experts_per_token;
    int experts;
    int shared;
  };
  for (const Model& m : {Model{6, 64, 2}, Model{8, 256, 1}, Model{2, 8, 0}, Model{1, 3, 5}}) {
    for (const int most : {1, 7, 300, kMostExpertTokens}) {
      const ExpertScratch reserved =
          expert_scratch(most, most * m.experts_per_token, m.experts, m.shared, 1);
      for (int tokens = 1; tokens <= most; tokens += 1 + tokens / 9) {
        for (const bool warp_groups : {false, true}) {
          for (const int shared : {0, m.shared}) {
            const int entries = tokens * m.experts_per_token;
            for (const int part :
                 {expert_tile(tokens, m.experts_per_token, m.experts, warp_groups), kGenericPart}) {
              const ExpertScratch needed = expert_scratch(tokens, entries, m.experts, shared, part);
              EXPECT_LE(needed.given_rows, reserved.given_rows) << tokens;
              EXPECT_LE(needed.parts, reserved.parts) << tokens << " in parts of " << part;
            }
          }
        }
      }
    }
  }
}

constexpr std::string_view kUsualBuild = "80,89,90a";
constexpr std::size_t kAmpereShared = 163 * 1024;

TEST(KernelPolicy, TakesHoppersOwnKernelsOnHopperAlone) {
  const KernelChoice hopper = choose_kernels(kUsualBuild, {9, 0}, kHopperShared);
  EXPECT_TRUE(hopper.any);
  EXPECT_TRUE(hopper.tensor_cores);
  EXPECT_TRUE(hopper.warp_group);
}

TEST(KernelPolicy, TakesPortableKernelsOnAmpereAndAda) {
  for (const auto& [card, shared] :
       {std::pair{Capability{8, 0}, kAmpereShared}, std::pair{Capability{8, 6}, kAdaShared},
        std::pair{Capability{8, 9}, kAdaShared}}) {
    const KernelChoice choice = choose_kernels(kUsualBuild, card, shared);
    EXPECT_TRUE(choice.any) << card.minor;
    EXPECT_FALSE(choice.tensor_cores) << card.minor;
    EXPECT_FALSE(choice.warp_group) << card.minor;
  }
}

TEST(KernelPolicy, HasNothingForOtherCards) {
  for (const Capability card : {Capability{7, 5}, Capability{9, 5}, Capability{10, 0},
                                Capability{12, 0}, Capability{0, 0}}) {
    EXPECT_FALSE(choose_kernels(kUsualBuild, card, kHopperShared).any)
        << card.major << "." << card.minor;
  }
  EXPECT_FALSE(choose_kernels("90a", {8, 0}, kAmpereShared).any);
  EXPECT_FALSE(choose_kernels("89", {8, 6}, kAdaShared).any) << "newer code on an older card";
  EXPECT_FALSE(choose_kernels("", {9, 0}, kHopperShared).any);
}

TEST(KernelPolicy, WithoutTheArchitecturesOwnCodeHoppersKernelsAreEmpty) {
  const KernelChoice plain = choose_kernels("80,90", {9, 0}, kHopperShared);
  EXPECT_TRUE(plain.any);
  EXPECT_TRUE(plain.tensor_cores);
  EXPECT_FALSE(plain.warp_group);
}

TEST(KernelPolicy, ARefusalNamesTheCardAndWhatTheBuildHolds) {
  EXPECT_EQ(no_code_message(kUsualBuild, "NVIDIA B200", {10, 0}),
            "NVIDIA B200 has compute capability 10.0, and this build holds code for sm_80,89,90a "
            "only: build it with -DLATENTD_CUDA_ARCHITECTURES=100, or use --device cpu");
}

}  // namespace
}  // namespace latentd::cuda
