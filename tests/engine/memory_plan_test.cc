#include "engine/memory_plan.h"

#include <gtest/gtest.h>

#include <cmath>

namespace latentd {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// DeepSeek-V2-Lite's shape, as far as memory is concerned.
ModelConfig v2_lite() {
  ModelConfig config;
  config.num_layers = 27;
  config.num_heads = 16;
  config.kv_lora_rank = 512;
  config.qk_nope_head_dim = 128;
  config.qk_rope_head_dim = 64;
  config.v_head_dim = 128;
  config.max_position_embeddings = 163'840;
  config.dtype = DType::kBF16;
  return config;
}

TEST(MemoryPlan, FollowsTheCheckpointsDtypeAndCountsBytesExactly) {
  const auto plan = plan_memory(v2_lite(), {}, 1'000 * 31'104 * std::size_t{64});
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  EXPECT_EQ(plan->layout.planes().front().dtype, DType::kBF16);
  EXPECT_EQ(plan->layout.bytes_per_token(), 31'104U);
  EXPECT_EQ(plan->num_pages, 1'000);
  EXPECT_EQ(mha_bytes_per_token(v2_lite(), DType::kBF16), 276'480U);
}

TEST(MemoryPlan, CountsThePlanesOfAnFp8Cache) {
  for (const Device device : {Device::kCpu, Device::kCuda}) {
    EngineOptions options;
    options.device = device;
    options.kv_cache_dtype = DType::kF8E4M3;
    const auto plan = plan_memory(v2_lite(), options, 1'000 * 31'104 * std::size_t{64});
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    EXPECT_EQ(plan->layout.dtype(), DType::kF8E4M3);
    EXPECT_EQ(plan->layout.bytes_per_token(), 27U * 656);
    EXPECT_EQ(plan->num_pages, 1'756);
  }
}

// Llama 3.1 8B's shape: 32 layers, 8 heads of keys and values for 32 of queries.
TEST(MemoryPlan, CachesTheKeysAndValuesOfGroupedAttention) {
  ModelConfig config;
  config.attention = AttentionKind::kGrouped;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.qk_rope_head_dim = config.v_head_dim = 128;
  config.max_position_embeddings = 131'072;
  const auto plan = plan_memory(config, {}, std::size_t{4} << 30);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  ASSERT_EQ(plan->layout.planes().size(), 2U);
  EXPECT_EQ(plan->layout.planes()[0].elements_per_token, 1'024);
  EXPECT_EQ(plan->layout.planes()[1].elements_per_token, 1'024);
  EXPECT_EQ(plan->layout.bytes_per_token(), 131'072U);
  EXPECT_EQ(plan->num_pages, 512);
  EXPECT_EQ(mha_bytes_per_token(config, DType::kBF16), 524'288U);

  EngineOptions fp8;
  fp8.device = Device::kCpu;
  fp8.kv_cache_dtype = DType::kF8E4M3;
  const Status refused = plan_memory(config, fp8, std::size_t{4} << 30).status();
  EXPECT_EQ(refused.code(), StatusCode::kUnimplemented);
  EXPECT_EQ(refused.field(), "kv_cache_dtype");
}

TEST(MemoryPlan, ShortensAnUnsetContextToWhatTheCacheHolds) {
  const auto plan = plan_memory(v2_lite(), {}, 100 * kMiB);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  EXPECT_EQ(plan->max_model_len, plan->num_pages * 64);
  EXPECT_LT(plan->max_model_len, 163'840);
}

TEST(MemoryPlan, RefusesALengthThatTheCacheCannotHoldWithBothNumbers) {
  EngineOptions options;
  options.max_model_len = 8'192;
  options.kv_cache_tokens = 4'096;
  const Status status = plan_memory(v2_lite(), options, 0).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("4096"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("8192"), std::string::npos) << status.message();
}

TEST(MemoryPlan, NamesTheOptionThatIsOutOfRange) {
  EngineOptions options;
  options.kv_cache_tokens = 1'024;
  options.max_model_len = 200'000;
  EXPECT_EQ(plan_memory(v2_lite(), options, 0).status().field(), "max_model_len");
  options.max_model_len = 512;
  options.max_num_seqs = 256;
  options.max_num_batched_tokens = 100;
  EXPECT_EQ(plan_memory(v2_lite(), options, 0).status().field(), "max_num_batched_tokens");
  options.max_num_batched_tokens = 0;
  options.pipeline_depth = 3;
  EXPECT_EQ(plan_memory(v2_lite(), options, 0).status().field(), "pipeline_depth");
  options.pipeline_depth = 0;
  options.kv_cache_dtype = DType::kF16;
  EXPECT_EQ(plan_memory(v2_lite(), options, 0).status().field(), "kv_cache_dtype");
  options.kv_cache_dtype.reset();
  options.dtype = DType::kBF16;
  EXPECT_EQ(plan_memory(v2_lite(), options, 0).status().field(), "dtype");
}

TEST(MemoryPlan, AStepsTokensFollowTheDeviceAndHoldEverySequence) {
  EngineOptions options;
  options.kv_cache_tokens = 65'536;
  const auto tokens = [&options] {
    const auto plan = plan_memory(v2_lite(), options, 0);
    return plan.ok() ? plan->max_num_batched_tokens : -1;
  };
  EXPECT_EQ(tokens(), 128);
  options.device = Device::kCuda;
  EXPECT_EQ(tokens(), 2048);
  options.max_num_seqs = 4000;
  EXPECT_EQ(tokens(), 4000);
}

TEST(MemoryPlan, GivesAProcessItsShareOfADeviceAndNeverMoreThanIsFree) {
  const std::size_t gib = 1024 * kMiB;
  const DeviceMemory alone{.total = 80 * gib, .free = 79 * gib, .used_by_process = 0};
  EXPECT_EQ(device_budget(alone, 0.9), 72 * gib);
  const DeviceMemory loaded{.total = 80 * gib, .free = 49 * gib, .used_by_process = 30 * gib};
  EXPECT_EQ(device_budget(loaded, 0.9), 42 * gib);
  EXPECT_EQ(device_budget(loaded, 0.25), 0U) << "more is used than the share";
  const DeviceMemory crowded{.total = 80 * gib, .free = 10 * gib, .used_by_process = 0};
  EXPECT_EQ(device_budget(crowded, 0.9), 10 * gib);
}

TEST(MemoryPlan, RefusesAShareThatIsNone) {
  for (const double share : {0.0, -1.0, 1.01, std::nan("")}) {
    EngineOptions options;
    options.gpu_memory_utilization = share;
    EXPECT_EQ(plan_memory(v2_lite(), options, kMiB).status().field(), "gpu_memory_utilization");
  }
}

TEST(MemoryPlan, NamesTheBudgetThatHoldsNoSequence) {
  const Status status = plan_memory(v2_lite(), {}, 1'000'000).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("0 pages of 1990656 bytes in 1000000 bytes"), std::string::npos)
      << status.message();
}

TEST(MemoryPlan, TakesAQuarterOfMemoryAndAtMostFourGiB) {
  EXPECT_EQ(cpu_cache_budget(8 * 1024 * kMiB), 2 * 1024 * kMiB);
  EXPECT_EQ(cpu_cache_budget(64 * 1024 * kMiB), 4 * 1024 * kMiB);
  EXPECT_GT(memory_limit_bytes(), 0U);
}

}  // namespace
}  // namespace latentd
