#include "tests/support/golden.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "engine/model/model_config.h"
#include "engine/model/safetensors.h"

namespace latentd::test {
namespace {

std::filesystem::path tiny_directory() { return source_directory() / "tests/data/tiny"; }

template <typename T>
std::vector<T> read_tensor(const Safetensors& file, const std::string& name) {
  const SafetensorsEntry* entry = file.find(name);
  LATENTD_CHECK(entry != nullptr && entry->dtype && dtype_size(*entry->dtype) == sizeof(T),
                "no tensor {} of {}-byte elements", name, sizeof(T));
  std::vector<T> values(entry->bytes.size() / sizeof(T));
  std::memcpy(values.data(), entry->bytes.data(), entry->bytes.size());
  return values;
}

}  // namespace

std::filesystem::path source_directory() {
  const char* elsewhere = std::getenv("LATENTD_SOURCE_DIR");
  return elsewhere != nullptr ? elsewhere : LATENTD_SOURCE_DIR;
}

std::filesystem::path tiny_checkpoint(std::string_view name) { return tiny_directory() / name; }

std::vector<std::string> tiny_checkpoint_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(tiny_directory())) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool caches_latents(std::string_view name) {
  return load_model_config(tiny_checkpoint(name)).value().attention == AttentionKind::kLatent;
}

std::vector<double> GoldenRun::logits_at(std::size_t position) const {
  const auto first = logits.begin() + static_cast<std::ptrdiff_t>(position * vocab_size);
  return {first, first + static_cast<std::ptrdiff_t>(vocab_size)};
}

GoldenRun load_golden(std::string_view checkpoint, std::string_view length) {
  const auto file = Safetensors::open_file(tiny_checkpoint(checkpoint) / "golden.safetensors");
  LATENTD_CHECK(file.ok(), "{}", file.status().to_string());
  const std::string suffix = "." + std::string(length);
  GoldenRun run;
  run.prompt = read_tensor<TokenId>(*file, "prompt" + suffix);
  run.logits = read_tensor<float>(*file, "logits" + suffix);
  run.greedy = read_tensor<TokenId>(*file, "greedy" + suffix);
  run.gaps = read_tensor<float>(*file, "gap" + suffix);
  run.vocab_size = run.logits.size() / run.prompt.size();
  return run;
}

}  // namespace latentd::test
