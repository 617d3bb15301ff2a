// RecordingBackend: a backend that passes everything on to another, and keeps the logits that its
// sampler was given.
//
// Rows are known by the seed of their request and the position of the token that is drawn, or whose
// logprob is asked for; give every request a seed of its own. For tests that compare logits bit by
// bit.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/backend/backend.h"
#include "tests/support/forwarding_backend.h"

namespace latentd {

class RecordingBackend final : public ForwardingBackend {
 public:
  using Key = std::pair<std::uint64_t, std::int32_t>;  // seed, position

  using ForwardingBackend::ForwardingBackend;

  // Logits of every row, the last time it was computed.
  const std::map<Key, std::vector<float>>& logits() const { return logits_; }

  // Reading the logits is nothing that a replay could repeat.
  Status capture(const BucketKey& /*bucket*/, const std::function<void()>& /*body*/) override {
    return ok_status();
  }
  Status run(const std::optional<BucketKey>& /*bucket*/,
             const std::function<void()>& body) override {
    return inner().run(std::nullopt, body);
  }
  void sample(const SampleParams& p) override {
    const auto count = static_cast<std::size_t>(p.num_rows);
    const auto vocab = static_cast<std::size_t>(p.vocab_size);
    const std::vector<SampleRow> rows = read(p.rows, count);
    const std::vector<float> logits = read(p.logits, count * vocab);
    for (std::size_t i = 0; i < count; ++i) {
      const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(i * vocab);
      logits_[{rows[i].seed, rows[i].position}].assign(begin,
                                                       begin + static_cast<std::ptrdiff_t>(vocab));
    }
    inner().sample(p);
  }

 private:
  template <typename T>
  std::vector<T> read(const T* device, std::size_t count) {
    const auto staging =
        inner().allocate(MemoryKind::kStaging, count * sizeof(T), "recorded").value();
    inner().copy_out(staging->data(), device, count * sizeof(T));
    const Status status = inner().wait(inner().record());
    LATENTD_CHECK(status.ok(), "{}", status.to_string());
    const auto* values = static_cast<const T*>(staging->data());
    return std::vector<T>(values, values + count);
  }

  std::map<Key, std::vector<float>> logits_;
};

}  // namespace latentd
