#include "tests/conformance/device.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace latentd::conformance {
namespace {

std::vector<std::byte> encode(DType dtype, std::span<const float> values) {
  std::vector<std::byte> bytes(values.size() * dtype_size(dtype));
  if (dtype == DType::kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const BFloat16 value = to_bfloat16(values[i]);
    std::memcpy(bytes.data() + i * sizeof(value), &value, sizeof(value));
  }
  return bytes;
}

std::vector<float> decode(DType dtype, std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / dtype_size(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&values[i], bytes.data() + i * sizeof(float), sizeof(float));
    } else {
      BFloat16 value{};
      std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
      values[i] = to_float(value);
    }
  }
  return values;
}

}  // namespace

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const BackendUnderTest& backend : backends()) {
    for (const DType weights : {DType::kF32, DType::kBF16}) {
      for (const DType cache : backend.caches) cases.push_back({&backend, weights, cache});
    }
  }
  return cases;
}

std::string case_name(const Case& test_case) {
  return test_case.backend->name + "_weights_" + std::string(dtype_name(test_case.weights)) +
         "_cache_" + std::string(dtype_name(test_case.cache));
}

Device::Device(const BackendUnderTest& backend, int threads) {
  auto made = backend.make(threads);
  LATENTD_CHECK(made.ok(), "{}: {}", backend.name, made.status().to_string());
  backend_ = std::move(made).value();
}

double Device::tolerance() const {
  return backend_->activation_dtype() == DType::kF32 ? 1e-5 : 2e-2;
}

void* Device::memory(std::size_t bytes) {
  auto buffer = backend_->allocate(MemoryKind::kDevice, bytes, "test");
  LATENTD_CHECK(buffer.ok(), "{}", buffer.status().to_string());
  buffers_.push_back(std::move(buffer).value());
  return buffers_.back()->data();
}

void* Device::upload(const void* values, std::size_t bytes) {
  auto staging = backend_->allocate(MemoryKind::kStaging, bytes, "test");
  LATENTD_CHECK(staging.ok(), "{}", staging.status().to_string());
  if (bytes > 0) std::memcpy(staging.value()->data(), values, bytes);
  void* device = memory(bytes);
  backend_->copy_in(device, staging.value()->data(), bytes);
  const Status status = backend_->wait(backend_->record());
  LATENTD_CHECK(status.ok(), "{}", status.to_string());
  return device;
}

void Device::download(const void* device, void* values, std::size_t bytes) {
  auto staging = backend_->allocate(MemoryKind::kStaging, bytes, "test");
  LATENTD_CHECK(staging.ok(), "{}", staging.status().to_string());
  backend_->copy_out(staging.value()->data(), device, bytes);
  const Status status = backend_->wait(backend_->record());
  LATENTD_CHECK(status.ok(), "{}", status.to_string());
  if (bytes > 0) std::memcpy(values, staging.value()->data(), bytes);
}

void* Device::activations(std::span<const float> values) {
  const auto bytes = encode(backend_->activation_dtype(), values);
  return upload(bytes.data(), bytes.size());
}

void* Device::empty_activations(std::size_t count) {
  return memory(count * dtype_size(backend_->activation_dtype()));
}

std::vector<float> Device::read_activations(const void* device, std::size_t count) {
  std::vector<std::byte> bytes(count * dtype_size(backend_->activation_dtype()));
  download(device, bytes.data(), bytes.size());
  return decode(backend_->activation_dtype(), bytes);
}

std::vector<double> Device::as_seen(std::span<const float> values) const {
  return to_double(rounded_to(backend_->activation_dtype(), values));
}

Tensor Device::tensor(std::span<const float> values, DType dtype,
                      std::initializer_list<std::int64_t> shape) {
  const auto bytes = encode(dtype, values);
  // Checkpoints align tensors to their element size only: start 2 bytes past a border.
  constexpr std::size_t kOffset = 2;
  host_.push_back(std::make_unique<std::byte[]>(bytes.size() + kOffset));
  std::byte* data = host_.back().get() + (dtype == DType::kBF16 ? kOffset : 0);
  std::copy(bytes.begin(), bytes.end(), data);
  Tensor tensor;
  tensor.host = make_tensor_view(data, dtype, shape);
  LATENTD_CHECK(tensor.host.num_bytes() == bytes.size(), "{} of {} bytes", tensor.host.to_string(),
                bytes.size());
  auto device = backend_->upload(tensor.host);
  LATENTD_CHECK(device.ok(), "{}", device.status().to_string());
  tensor.device = device.value();
  return tensor;
}

std::vector<float> random_values(std::mt19937_64& random, std::size_t count, float scale) {
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

std::vector<double> to_double(std::span<const float> values) {
  return {values.begin(), values.end()};
}

std::vector<float> rounded_to(DType dtype, std::span<const float> values) {
  return decode(dtype, encode(dtype, values));
}

}  // namespace latentd::conformance
