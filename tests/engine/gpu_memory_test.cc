// The GPU's memory: known, counted, given back. These tests compare what is free on the device
// before and after, so nothing else may run there meanwhile.
#include <gtest/gtest.h>

#include <cstdio>
#include <string_view>

#include "engine/backend/cuda/cuda_backend.h"
#include "engine/engine.h"
#include "tests/support/golden.h"
#include "tests/support/inbox.h"
#include "tests/support/needs_cuda.h"

namespace latentd {
namespace {

[[maybe_unused]] const bool kNeedsCuda = test::skip_without_cuda();

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::filesystem::path latent_mini() { return test::source_directory() / "models/latent-mini"; }

EngineOptions gpu_options() {
  EngineOptions options;
  options.device = Device::kCuda;
  options.dtype = DType::kBF16;
  options.kv_cache_tokens = 16'384;
  options.max_model_len = 512;
  return options;
}

class GpuMemory : public ::testing::Test {
 protected:
  Status refused(const EngineOptions& options) {
    const DeviceMemory before = witness_->memory().value();
    const Status status = Engine::load(latent_mini(), options, [](std::span<Event>) {}).status();
    const DeviceMemory after = witness_->memory().value();
    // What the runtime keeps for itself (contexts, code of kernels) it takes once.
    EXPECT_GE(after.free + (std::size_t{64} << 20), before.free);
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.to_string();
    std::printf("%s\n", status.to_string().c_str());
    return status;
  }

  std::unique_ptr<Backend> witness_ = make_cuda_backend({}).value();
};

TEST_F(GpuMemory, IsKnownToTheBackend) {
  const DeviceMemory before = witness_->memory().value();
  EXPECT_GT(before.total, 4096 * kMiB);
  const auto held = witness_->allocate(MemoryKind::kDevice, 512 * kMiB, "test").value();
  const DeviceMemory after = witness_->memory().value();
  EXPECT_EQ(after.total, before.total);
  EXPECT_GE(after.used_by_process, before.used_by_process + 512 * kMiB);
  EXPECT_FALSE(witness_->device_name().empty());
}

TEST_F(GpuMemory, IsNotLeakedWhenWeightsDoNotFit) {
  // A range of addresses is enough: what does not fit is refused before it is read.
  TensorView small = make_tensor_view("x", DType::kU8, {1});
  TensorView large = make_tensor_view("x", DType::kU8, {std::int64_t{1} << 40});
  TensorView* const tensors[] = {&small, &large};
  const DeviceMemory before = witness_->memory().value();
  const Status status = witness_->begin_upload(tensors, {});
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("weights: cannot allocate"), std::string::npos)
      << status.message();
  EXPECT_EQ(witness_->memory()->free, before.free);
  EXPECT_TRUE(witness_->upload(small).ok());
}

TEST_F(GpuMemory, IsAccountedForByTheEngine) {
  Inbox inbox;
  const auto engine = Engine::load(latent_mini(), gpu_options(), inbox.sink()).value();
  const EngineInfo& info = engine->info();
  EXPECT_NE(info.device.find("NVIDIA"), std::string::npos) << info.device;
  const auto bytes = [&info](std::string_view purpose) {
    for (const MemoryUse& use : info.memory) {
      if (use.purpose == purpose) return use.bytes;
    }
    ADD_FAILURE() << "nothing says " << purpose;
    return std::size_t{0};
  };
  EXPECT_EQ(bytes("weights"), info.weight_bytes);
  EXPECT_EQ(bytes("cache"), info.kv_bytes_per_token * 16'384);
  std::size_t sum = 0;
  for (const MemoryUse& use : info.memory) sum += use.bytes;
  const DeviceMemory device = witness_->memory().value();
  EXPECT_NEAR(static_cast<double>(sum), static_cast<double>(device.total), 64.0 * (1 << 20));
  EXPECT_LT(bytes("graphs and kernels"), std::size_t{256} << 20);
}

TEST_F(GpuMemory, RefusesWeightsThatDoNotFit) {
  EngineOptions options = gpu_options();
  options.gpu_memory_utilization = 1e-5;
  const Status status = refused(options);
  EXPECT_NE(status.message().find("the weights need "), std::string::npos) << status.message();
  EXPECT_NE(status.message().find(" bytes; 0 may be used"), std::string::npos) << status.message();
}

TEST_F(GpuMemory, RefusesACacheThatIsLargerThanWhatIsLeft) {
  EngineOptions options = gpu_options();
  options.kv_cache_tokens = std::size_t{1} << 32;
  const Status status = refused(options);
  EXPECT_NE(status.message().find("4294967296"), std::string::npos) << status.message();
}

TEST_F(GpuMemory, RefusesToStartWhenNoSequenceFits) {
  EngineOptions options = gpu_options();
  options.kv_cache_tokens = 0;
  // What is kept for graphs leaves nothing.
  options.gpu_memory_utilization =
      static_cast<double>(std::size_t{200} << 20) / static_cast<double>(witness_->memory()->total);
  const Status status = refused(options);
  EXPECT_NE(status.message().find("max_model_len = 512"), std::string::npos) << status.message();
}

TEST_F(GpuMemory, GivesEverythingBack) {
  Inbox inbox;
  EngineOptions options = gpu_options();
  options.kv_cache_tokens = 0;
  std::size_t free = 0;
  for (int round = 0; round < 3; ++round) {
    const auto engine = Engine::load(latent_mini(), options, inbox.sink());
    ASSERT_TRUE(engine.ok()) << engine.status().to_string();
    EXPECT_GT((*engine)->info().num_pages, 1000);
    if (round == 1) free = witness_->memory()->free;
    if (round == 2) {
      EXPECT_GE(witness_->memory()->free + (8 << 20), free);
    }
  }
}

}  // namespace
}  // namespace latentd
