// Hand-made model directories: temporary folders and safetensors files, valid or not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace latentd::test {

// A folder of its own, removed with its contents at the end.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::string_view text) const;

 private:
  std::filesystem::path path_;
};

// The bytes of a safetensors file: length, header padded to 8, data.
std::string safetensors_file(std::string_view header, std::string_view data);

struct FileTensor {
  std::string dtype = "F32";
  std::vector<std::int64_t> shape;
  std::string bytes;
};

// A valid file of these tensors.
std::string safetensors_file(const std::map<std::string, FileTensor>& tensors);

// A tensor of these values; dtype F32 or BF16.
FileTensor file_tensor(std::string_view dtype, std::vector<std::int64_t> shape, float first_value);

}  // namespace latentd::test
