#include "tests/engine/model/checkpoint_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/check.h"
#include "base/dtype.h"

namespace latentd::test {

TempDirectory::TempDirectory() {
  std::string pattern = testing::TempDir() + "latentd-XXXXXX";
  LATENTD_CHECK(::mkdtemp(pattern.data()) != nullptr, "no temporary folder {}", pattern);
  path_ = pattern;
}

TempDirectory::~TempDirectory() { std::filesystem::remove_all(path_); }

std::filesystem::path TempDirectory::write(std::string_view name, std::string_view text) const {
  const auto path = path_ / name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string safetensors_file(std::string_view header, std::string_view data) {
  std::string padded(header);
  padded.resize((padded.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = padded.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file.append(padded).append(data);
}

std::string safetensors_file(const std::map<std::string, FileTensor>& tensors) {
  std::string header = "{";
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    if (header.size() > 1) header += ",";
    data.resize((data.size() + 7) / 8 * 8, '\0');
    header += fmt::format(R"("{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name,
                          tensor.dtype, fmt::join(tensor.shape, ","), data.size(),
                          data.size() + tensor.bytes.size());
    data += tensor.bytes;
  }
  return safetensors_file(header + "}", data);
}

FileTensor file_tensor(std::string_view dtype, std::vector<std::int64_t> shape, float first_value) {
  FileTensor tensor{std::string(dtype), std::move(shape), {}};
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= extent;
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = first_value + static_cast<float>(i);
    if (dtype == "F32") {
      tensor.bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    } else {
      const BFloat16 narrow = to_bfloat16(value);
      tensor.bytes.append(reinterpret_cast<const char*>(&narrow), sizeof(narrow));
    }
  }
  return tensor;
}

}  // namespace latentd::test
