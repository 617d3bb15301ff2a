#include "engine/backend/cpu/cpu_backend.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace latentd {
namespace {

TEST(CpuBackend, RefusesAbsurdThreadCounts) {
  for (const int threads : {-1, 1 << 20}) {
    const auto backend = make_cpu_backend({.threads = threads});
    ASSERT_FALSE(backend.ok());
    EXPECT_EQ(backend.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(backend.status().field(), "cpu-threads");
  }
}

TEST(CpuBackend, GivesOutZeroedAlignedMemoryOfEverySize) {
  const auto backend = make_cpu_backend({.threads = 1}).value();
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4096},
                                  (std::size_t{1} << 20) - 1, std::size_t{3} << 20}) {
    const auto buffer = backend->allocate(MemoryKind::kDevice, bytes, "test").value();
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % 64, 0U);
    const auto* data = static_cast<const unsigned char*>(buffer->data());
    for (std::size_t i = 0; i < bytes; i += 97) ASSERT_EQ(data[i], 0);
  }
}

TEST(CpuBackend, SaysWhatItCouldNotAllocate) {
  const auto backend = make_cpu_backend({.threads = 1}).value();
  const auto buffer = backend->allocate(MemoryKind::kDevice, std::size_t{1} << 60, "cache pool");
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(buffer.status().message().find("cache pool"), std::string::npos);
  EXPECT_NE(buffer.status().message().find("1152921504606846976"), std::string::npos);
}

TEST(CpuBackend, UsesWeightsInPlaceUnlessToldToCopyThem) {
  const std::vector<float> values(1000, 2.5F);
  const TensorView host = make_tensor_view(values.data(), DType::kF32, {10, 100});
  const auto in_place = make_cpu_backend({.threads = 1}).value();
  EXPECT_EQ(in_place->upload(host).value().data, host.data);

  const auto copying = make_cpu_backend({.threads = 1, .copy_weights = true}).value();
  std::vector<TensorView> copies;
  for (int i = 0; i < 3; ++i) copies.push_back(copying->upload(host).value());
  for (const TensorView& copy : copies) {
    EXPECT_NE(copy.data, host.data);
    EXPECT_EQ(copy.to_string(), host.to_string());
    EXPECT_EQ(std::memcmp(copy.data, values.data(), host.num_bytes()), 0);
  }
}

TEST(CpuBackend, CopiesTensorsLargerThanItsChunks) {
  const auto copying = make_cpu_backend({.threads = 1, .copy_weights = true}).value();
  const std::vector<std::uint8_t> values(std::size_t{65} << 20, 7);
  const TensorView host =
      make_tensor_view(values.data(), DType::kU8, {static_cast<std::int64_t>(values.size())});
  const TensorView copy = copying->upload(host).value();
  EXPECT_EQ(std::memcmp(copy.data, values.data(), values.size()), 0);
}

}  // namespace
}  // namespace latentd
