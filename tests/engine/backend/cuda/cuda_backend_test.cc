// What the CUDA backend does beside its operations: memory, copies, fences, errors.
#include "engine/backend/cuda/cuda_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/model/model_config.h"
#include "tests/support/needs_cuda.h"

namespace latentd {
namespace {

[[maybe_unused]] const bool kNeedsCuda = test::skip_without_cuda();

constexpr std::size_t kMiB = std::size_t{1} << 20;

class CudaBackend : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = make_cuda_backend({});
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    backend_ = std::move(made).value();
  }

  std::unique_ptr<Buffer> memory(MemoryKind kind, std::size_t bytes) {
    return backend_->allocate(kind, bytes, "test").value();
  }
  std::vector<unsigned char> read(const void* device, std::size_t bytes) {
    const auto staging = memory(MemoryKind::kStaging, bytes);
    backend_->copy_out(staging->data(), device, bytes);
    EXPECT_TRUE(backend_->wait(backend_->record()).ok());
    const auto* begin = static_cast<const unsigned char*>(staging->data());
    return {begin, begin + bytes};
  }
  // An attention that no kernel can hold: its launch fails without harm to the device.
  void enqueue_impossible_attention() {
    AbsorbedAttentionParams p;
    p.batch.num_tokens = p.batch.num_rows = 1;
    p.geometry.num_heads = 1;
    p.geometry.kv_lora_rank = 1 << 20;
    backend_->absorbed_attention(p);
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(CudaBackend, GivesOutZeroedMemory) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{1000}, 3 * kMiB}) {
    {
      const auto dirty = memory(MemoryKind::kDevice, bytes);
      const auto staging = memory(MemoryKind::kStaging, bytes);
      std::memset(staging->data(), 0xff, bytes);
      backend_->copy_in(dirty->data(), staging->data(), bytes);
      ASSERT_TRUE(backend_->wait(backend_->record()).ok());
    }
    const auto buffer = memory(MemoryKind::kDevice, bytes);
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(read(buffer->data(), bytes), std::vector<unsigned char>(bytes));
  }
}

TEST_F(CudaBackend, UploadsTensorsOfEverySize) {
  std::vector<TensorView> uploaded;
  std::vector<std::vector<std::uint8_t>> hosts;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{300}, 8 * kMiB, 8 * kMiB + 1,
                                  21 * kMiB + 7, 65 * kMiB, std::size_t{5}}) {
    auto& host = hosts.emplace_back(bytes);
    for (std::size_t i = 0; i < bytes; ++i) host[i] = static_cast<std::uint8_t>(i * 31 + i / 251);
    const auto view = make_tensor_view(host.data(), DType::kU8, {static_cast<std::int64_t>(bytes)});
    uploaded.push_back(backend_->upload(view).value());
  }
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    EXPECT_EQ(read(uploaded[i].data, hosts[i].size()), hosts[i]) << hosts[i].size() << " bytes";
  }
}

TEST_F(CudaBackend, UploadsManyTensorsIntoOneArena) {
  std::mt19937 random(5);
  std::vector<std::vector<std::uint8_t>> hosts;
  for (int i = 0; i < 200; ++i) {
    hosts.emplace_back(i % 7 == 0 ? 0 : random() % (i % 20 == 1 ? 9 * kMiB : 5000));
    for (std::uint8_t& byte : hosts.back()) byte = static_cast<std::uint8_t>(random());
  }
  std::vector<TensorView> views;
  for (const auto& host : hosts) {
    views.push_back(
        make_tensor_view(host.data(), DType::kU8, {static_cast<std::int64_t>(host.size())}));
  }
  std::vector<TensorView*> tensors;
  for (TensorView& view : views) tensors.push_back(&view);
  std::size_t done = 0;
  std::size_t total = 1;
  const auto progress = [&](std::size_t now, std::size_t all) {
    done = now;
    total = all;
  };
  ASSERT_TRUE(backend_->begin_upload(tensors, {}).ok());
  ASSERT_TRUE(backend_->finish_upload(progress).ok());
  EXPECT_EQ(done, total) << "the last report is of all";
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(views[i].data) % 256, 0U);
    EXPECT_EQ(read(views[i].data, hosts[i].size()), hosts[i]) << i;
  }
}

// As at a server's start: graphs are captured, and their kernels run, beside the upload.
TEST_F(CudaBackend, StepsCapturedWhileWeightsArriveComputeWithThem) {
  constexpr int kRows = 8;
  constexpr int kInner = 2048;
  constexpr int kColumns = 65536;
  std::vector<std::uint16_t> values(std::size_t{kColumns} * kInner);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = to_bfloat16(static_cast<float>(i * 7919 % 1001) / 1000.0F - 0.5F).bits;
  }
  const auto host = make_tensor_view(values.data(), DType::kBF16, {kColumns, kInner});
  const auto host_x = make_tensor_view(values.data(), DType::kBF16, {kRows, kInner});
  const TensorView x = backend_->upload(host_x).value();
  const auto out = memory(MemoryKind::kDevice, std::size_t{kRows} * kColumns * sizeof(float));
  TensorView weight = host;
  TensorView* const tensors[] = {&weight};
  ASSERT_TRUE(backend_->begin_upload(tensors, {}).ok());
  LinearParams p{x.data, weight, out->data(), kRows};
  p.out_fp32 = true;
  const auto step = [&] { backend_->linear(p); };
  ASSERT_TRUE(backend_->run(BucketKey{0, 0, kRows}, step).ok());
  ASSERT_TRUE(backend_->finish_upload({}).ok());
  ASSERT_TRUE(backend_->run(BucketKey{0, 0, kRows}, step).ok());
  const auto replayed = read(out->data(), out->size());
  ASSERT_TRUE(backend_->run({}, step).ok());
  EXPECT_EQ(replayed, read(out->data(), out->size()));
  EXPECT_TRUE(std::any_of(replayed.begin(), replayed.end(), [](auto byte) { return byte != 0; }));
  EXPECT_EQ(
      std::memcmp(read(weight.data, weight.num_bytes()).data(), values.data(), weight.num_bytes()),
      0);
}

TEST_F(CudaBackend, EndsWhileWeightsArrive) {
  const std::vector<std::uint8_t> values(512 * kMiB, 3);
  TensorView weight = make_tensor_view(values.data(), DType::kU8, {512 << 20});
  TensorView* const tensors[] = {&weight};
  ASSERT_TRUE(backend_->begin_upload(tensors, {}).ok());
  backend_ = nullptr;
}

TEST_F(CudaBackend, NeedsNoMoreScratchThanWasReservedOrFails) {
  ModelConfig config;
  config.vocab_size = 1000;
  const ModelWeights weights;
  ReserveParams reserve;
  reserve.config = &config;
  reserve.weights = &weights;
  reserve.max_logit_rows = 16;
  ASSERT_TRUE(backend_->reserve(reserve).ok());
  SampleParams p;
  p.vocab_size = config.vocab_size;
  p.num_rows = 32;
  const Status status = backend_->run({}, [&] { backend_->sample(p); });
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_NE(status.message().find("scratch of 128000 bytes needed"), std::string::npos)
      << status.message();
}

TEST_F(CudaBackend, MakesTheRandomTensorsOfTheCpu) {
  const auto cpu = make_cpu_backend({.threads = 1}).value();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const float limit : {0.0F, 0.03F}) {
      TensorView here = make_tensor_view(nullptr, dtype, {1000, 777});
      TensorView there = here;
      const RandomTensor ours{&here, 11, limit, 1.0F};
      const RandomTensor theirs{&there, 11, limit, 1.0F};
      ASSERT_TRUE(backend_->create_random({&ours, 1}).ok());
      ASSERT_TRUE(cpu->create_random({&theirs, 1}).ok());
      const auto* bytes = static_cast<const unsigned char*>(there.data);
      EXPECT_EQ(read(here.data, here.num_bytes()),
                std::vector<unsigned char>(bytes, bytes + there.num_bytes()));
    }
  }
}

TEST_F(CudaBackend, RefusesMoreMemoryThanThereIsAndGoesOn) {
  const auto refused = backend_->allocate(MemoryKind::kDevice, std::size_t{1} << 50, "cache");
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.status().message().find("cache"), std::string::npos);
  EXPECT_TRUE(backend_->allocate(MemoryKind::kDevice, kMiB, "cache").ok());
  EXPECT_TRUE(backend_->run({}, [] {}).ok());
}

TEST_F(CudaBackend, KeepsItsFirstError) {
  const Fence before = backend_->record();
  EXPECT_FALSE(backend_->run({}, [&] { enqueue_impossible_attention(); }).ok());
  const Status first = backend_->wait(before);
  EXPECT_EQ(first.code(), StatusCode::kUnavailable) << first.to_string();
  bool called = false;
  EXPECT_EQ(backend_->run({}, [&] { called = true; }), first);
  EXPECT_FALSE(called) << "nothing is enqueued after an error";
  EXPECT_EQ(backend_->wait(backend_->record()), first);
  EXPECT_EQ(backend_->allocate(MemoryKind::kDevice, 1, "test").status(), first);
}

TEST_F(CudaBackend, PassesFencesInAnyOrderOfWaiting) {
  std::vector<Fence> fences;
  const auto device = memory(MemoryKind::kDevice, kMiB);
  const auto staging = memory(MemoryKind::kStaging, kMiB);
  for (int i = 0; i < 40; ++i) {
    backend_->copy_in(device->data(), staging->data(), kMiB);
    fences.push_back(backend_->record());
  }
  for (const std::size_t i :
       {std::size_t{3}, std::size_t{20}, std::size_t{7}, std::size_t{39}, std::size_t{0}}) {
    EXPECT_TRUE(backend_->wait(fences[i]).ok());
  }
}

TEST_F(CudaBackend, RepeatsItsBits) {
  constexpr int kRows = 33;
  constexpr int kSide = 256;
  std::vector<std::uint16_t> values(kSide * kSide);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = to_bfloat16(static_cast<float>(i * 7919 % 1000) / 1000.0F - 0.5F).bits;
  }
  const auto matrix = make_tensor_view(values.data(), DType::kBF16, {kSide, kSide});
  std::vector<unsigned char> first;
  for (int run = 0; run < 3; ++run) {
    auto backend = make_cuda_backend({}).value();
    std::swap(backend, backend_);
    const TensorView weight = backend_->upload(matrix).value();
    const TensorView x = backend_->upload(matrix).value();
    const auto out = memory(MemoryKind::kDevice, kRows * kSide * sizeof(float));
    LinearParams p{x.data, weight, out->data(), kRows};
    p.out_fp32 = true;
    backend_->linear(p);
    const auto bits = read(out->data(), out->size());
    if (run == 0) first = bits;
    EXPECT_EQ(bits, first) << "run " << run;
  }
}

TEST(CudaBackendOptions, AreChecked) {
  EXPECT_EQ(make_cuda_backend({.device = 1000}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(make_cuda_backend({.device = -1}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(make_cuda_backend({.activation = DType::kI32}).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd
