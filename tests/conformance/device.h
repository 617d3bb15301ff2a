// What the conformance tests share: the backends under test, and a device filled from host values.
//
// A new backend is one more entry of backends(); every test then runs on it. Each program of the
// suite has its own list: cpu_backends.cc, cuda_backends.cc.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"
#include "base/tensor_view.h"
#include "engine/backend/backend.h"

namespace latentd::conformance {

struct BackendUnderTest {
  std::string name;
  // threads: 0 for the backend's default; backends without threads ignore it.
  std::function<Result<std::unique_ptr<Backend>>(int threads)> make;
  // A row's bits do not depend on what shares its step (DESIGN rule 4).
  bool batch_invariant = false;
  // Computes the sizes of real models in no time; the other backends run the same cases smaller.
  bool large = false;
  std::vector<DType> caches = {DType::kF32, DType::kBF16};
};

const std::vector<BackendUnderTest>& backends();
inline void PrintTo(const BackendUnderTest& backend, std::ostream* out) { *out << backend.name; }

// A backend with the dtypes of weights and cache: the parameter of most tests.
struct Case {
  const BackendUnderTest* backend;
  DType weights;
  DType cache;
};
std::vector<Case> all_cases();
std::string case_name(const Case& test_case);
inline void PrintTo(const Case& test_case, std::ostream* out) { *out << case_name(test_case); }

// The same values twice: as the host (and the oracle) sees them, and in device memory.
struct Tensor {
  TensorView host;
  TensorView device;
};

class Device {
 public:
  explicit Device(const BackendUnderTest& backend, int threads = 0);

  Backend& backend() { return *backend_; }
  Backend* operator->() { return backend_.get(); }

  // Error bound of a result computed from activations, relative to the largest expected value:
  // fp32 accumulates rounding over sums of at most a few thousand terms, bf16 also rounds inputs
  // and results to 8 bits.
  double tolerance() const;

  void* memory(std::size_t bytes);
  // Activations in the backend's own dtype.
  void* activations(std::span<const float> values);
  void* empty_activations(std::size_t count);
  std::vector<float> read_activations(const void* device, std::size_t count);
  // What the backend sees of `values`: rounded to its activation dtype.
  std::vector<double> as_seen(std::span<const float> values) const;

  template <typename T>
  T* array(std::span<const T> values) {
    return static_cast<T*>(upload(values.data(), values.size_bytes()));
  }
  template <typename T>
  T* array(const std::vector<T>& values) {
    return array(std::span<const T>(values));
  }
  // A copy in host memory that lives as long as the device.
  template <typename T>
  const T* host_array(const std::vector<T>& values) {
    host_.push_back(std::make_unique<std::byte[]>(values.size() * sizeof(T)));
    std::memcpy(host_.back().get(), values.data(), values.size() * sizeof(T));
    return reinterpret_cast<const T*>(host_.back().get());
  }
  template <typename T>
  std::vector<T> read(const T* device, std::size_t count) {
    std::vector<T> values(count);
    download(device, values.data(), count * sizeof(T));
    return values;
  }

  Tensor tensor(std::span<const float> values, DType dtype,
                std::initializer_list<std::int64_t> shape);

 private:
  void* upload(const void* values, std::size_t bytes);
  void download(const void* device, void* values, std::size_t bytes);

  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<std::unique_ptr<std::byte[]>> host_;
};

// Uniform values in [-scale, scale].
std::vector<float> random_values(std::mt19937_64& random, std::size_t count, float scale = 1.0F);

std::vector<double> to_double(std::span<const float> values);
std::vector<float> rounded_to(DType dtype, std::span<const float> values);

}  // namespace latentd::conformance
