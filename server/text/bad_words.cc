#include "server/text/bad_words.h"

#include <algorithm>
#include <utility>

namespace latentd {
namespace {

class BadWords final : public TokenConstraint {
 public:
  BadWords(std::vector<std::vector<TokenId>> words, std::unique_ptr<TokenConstraint> inner)
      : words_(std::move(words)), inner_(std::move(inner)) {
    for (const auto& word : words_) longest_ = std::max(longest_, word.size());
  }

  bool accept(TokenId token) override {
    if (inner_ != nullptr && !inner_->accept(token)) return false;
    recent_.push_back(token);
    if (recent_.size() >= longest_) recent_.erase(recent_.begin());
    return true;
  }

  void fill_mask(std::span<std::uint32_t> words) const override {
    if (inner_ == nullptr) {
      std::ranges::fill(words, ~0U);
    } else {
      inner_->fill_mask(words);
    }
    for (const auto& word : words_) {
      const auto bit = static_cast<std::size_t>(word.back());
      if (is_begun(word) && bit / 32 < words.size()) words[bit / 32] &= ~(1U << (bit % 32));
    }
    const auto nothing = [](std::uint32_t bits) { return bits == 0; };
    if (inner_ != nullptr && std::ranges::all_of(words, nothing)) inner_->fill_mask(words);
  }

  bool complete() const override { return inner_ != nullptr && inner_->complete(); }

 private:
  // All but its last token stands at the end of the text.
  bool is_begun(const std::vector<TokenId>& word) const {
    const std::size_t before = word.size() - 1;
    return before <= recent_.size() &&
           std::equal(word.begin(), word.end() - 1,
                      recent_.end() - static_cast<std::ptrdiff_t>(before));
  }

  const std::vector<std::vector<TokenId>> words_;
  const std::unique_ptr<TokenConstraint> inner_;
  std::size_t longest_ = 1;
  std::vector<TokenId> recent_;  // generated last, as many as matter
};

}  // namespace

std::unique_ptr<TokenConstraint> forbid_words(const std::vector<std::string>& words,
                                              const Tokenizer& tokenizer,
                                              std::unique_ptr<TokenConstraint> inner) {
  std::vector<std::vector<TokenId>> forbidden;
  for (const std::string& word : words) {
    for (const std::string& form : {word, " " + word}) {
      auto tokens = tokenizer.encode(form, /*add_special_tokens=*/false);
      if (!tokens.empty()) forbidden.push_back(std::move(tokens));
    }
  }
  return std::make_unique<BadWords>(std::move(forbidden), std::move(inner));
}

}  // namespace latentd
