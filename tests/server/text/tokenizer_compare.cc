// Compares Tokenizer with what the `tokenizers` package answered.
//
// usage: tokenizer_compare TOKENIZER_JSON TEXTS EXPECTED
//
// TEXTS and EXPECTED are what tools/corpus writes: for each text its bytes; its ids, with special
// tokens; the ids decoded with and without special tokens. Also feeds the ids to a Detokenizer one
// by one. Prints the first texts that differ and exits with 1, or a line with the speed.

#include <spdlog/fmt/fmt.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "base/mmap_file.h"
#include "server/text/detokenizer.h"
#include "server/text/tokenizer.h"

namespace latentd {
namespace {

constexpr int kMaxReports = 5;

// Of this one thread: the time on the wall depends on what else runs here.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Records of a 32-bit count and that many elements.
class Records {
 public:
  explicit Records(const MmapFile& file)
      : rest_(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()) {}

  bool done() const { return rest_.empty(); }

  std::optional<std::string_view> next(std::size_t element_size) {
    std::uint32_t count = 0;
    if (rest_.size() < sizeof(count)) return std::nullopt;
    std::memcpy(&count, rest_.data(), sizeof(count));
    const std::size_t size = count * element_size;
    if (rest_.size() - sizeof(count) < size) return std::nullopt;
    const std::string_view record = rest_.substr(sizeof(count), size);
    rest_.remove_prefix(sizeof(count) + size);
    return record;
  }

 private:
  std::string_view rest_;
};

struct Text {
  std::string_view bytes;
  std::vector<TokenId> ids;
  std::string_view decoded;
  std::string_view decoded_without_special;
};

std::optional<std::vector<Text>> read_texts(const MmapFile& texts, const MmapFile& expected) {
  std::vector<Text> out;
  Records in(texts);
  Records answers(expected);
  while (!in.done()) {
    const auto bytes = in.next(1);
    const auto ids = answers.next(sizeof(TokenId));
    const auto decoded = answers.next(1);
    const auto without = answers.next(1);
    if (!bytes || !ids || !decoded || !without) return std::nullopt;
    Text text{*bytes, std::vector<TokenId>(ids->size() / sizeof(TokenId)), *decoded, *without};
    std::memcpy(text.ids.data(), ids->data(), ids->size());
    out.push_back(std::move(text));
  }
  if (!answers.done()) return std::nullopt;
  return out;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  Detokenizer detokenizer(tokenizer, /*skip_special_tokens=*/false);
  std::string out;
  for (const TokenId id : ids) out += detokenizer.push(id);
  return out + detokenizer.finish();
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 200)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte >= 0x20 && byte < 0x7F ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  return out;
}

void report(std::size_t index, const Text& text, const std::vector<TokenId>& ids) {
  std::size_t at = 0;
  while (at < ids.size() && at < text.ids.size() && ids[at] == text.ids[at]) ++at;
  fmt::print("text {}: ids differ at {}: {} ids, expected {}\n  \"{}\"\n", index, at, ids.size(),
             text.ids.size(), escaped(text.bytes));
  for (std::size_t i = at; i < at + 6; ++i) {
    fmt::print("  [{}] {} expected {}\n", i, i < ids.size() ? ids[i] : -1,
               i < text.ids.size() ? text.ids[i] : -1);
  }
}

int compare(const Tokenizer& tokenizer, const std::vector<Text>& texts) {
  std::size_t bytes = 0;
  std::size_t tokens = 0;
  int failures = 0;
  double encoding = 0;
  for (std::size_t i = 0; i < texts.size() && failures < kMaxReports; ++i) {
    const Text& text = texts[i];
    const double start = processor_seconds();
    const std::vector<TokenId> ids = tokenizer.encode(text.bytes, /*add_special_tokens=*/true);
    encoding += processor_seconds() - start;
    bytes += text.bytes.size();
    tokens += ids.size();
    if (ids != text.ids) {
      ++failures;
      report(i, text, ids);
    } else if (tokenizer.decode(ids, false) != text.decoded ||
               tokenizer.decode(ids, true) != text.decoded_without_special ||
               streamed(tokenizer, ids) != text.decoded) {
      ++failures;
      fmt::print("text {}: decoded text differs\n  \"{}\"\n", i, escaped(text.bytes));
    }
  }
  if (failures > 0) return 1;
  fmt::print("{} texts, {} bytes, {} tokens are identical; encoded at {:.1f} MB/s\n", texts.size(),
             bytes, tokens, static_cast<double>(bytes) / 1e6 / encoding);
  return 0;
}

int run(const char* tokenizer_json, const char* texts_path, const char* expected_path) {
  const double start = processor_seconds();
  const auto tokenizer = Tokenizer::load(tokenizer_json);
  const double loading = processor_seconds() - start;
  const auto texts = MmapFile::open(texts_path);
  const auto expected = MmapFile::open(expected_path);
  for (const Status& status : {tokenizer.status(), texts.status(), expected.status()}) {
    if (status.ok()) continue;
    fmt::print(stderr, "{}\n", status.to_string());
    return 2;
  }
  const auto all = read_texts(*texts, *expected);
  if (!all || all->empty()) {
    fmt::print(stderr, "the files do not belong together, or hold no text\n");
    return 2;
  }
  fmt::print("loaded in {:.1f} ms; ", loading * 1e3);
  return compare(**tokenizer, *all);
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: tokenizer_compare TOKENIZER_JSON TEXTS EXPECTED\n");
    return 2;
  }
  return latentd::run(argv[1], argv[2], argv[3]);
}
