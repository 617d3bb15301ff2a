#include "server/text/tokenizer.h"

#include <spdlog/fmt/fmt.h>

#include <mutex>
#include <utility>

#include "base/mmap_file.h"
#include "server/text/tokenizer_parts.h"
#include "server/text/utf8.h"

namespace latentd {

namespace {

constexpr std::size_t kMaxKeptScratchText = std::size_t{1} << 18;

// What one encode works with. Kept between calls, since it also remembers pieces.
struct EncodeScratch {
  PreTokenizer::Scratch pre_tokenizer;
  Bpe::Scratch bpe;
  std::vector<AddedTokens::Part> parts;
  std::vector<AddedTokens::Part> inner_parts;
  std::vector<std::string_view> pieces;
};

// As many scratches as ever ran at once, at most.
class ScratchPool {
 public:
  std::unique_ptr<EncodeScratch> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<EncodeScratch>();
    auto scratch = std::move(idle_.back());
    idle_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<EncodeScratch> scratch) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeScratch>> idle_;
};

}  // namespace

class Tokenizer::Impl {
 public:
  static Result<std::unique_ptr<const Impl>> build(const TokenizerJson& file) {
    LATENTD_RETURN_IF_ERROR(check_normalizer(file));
    LATENTD_RETURN_IF_ERROR(check_decoder(file));
    auto impl = std::make_unique<Impl>();
    LATENTD_ASSIGN_OR_RETURN(impl->pre_tokenizer_, build_pre_tokenizer(file));
    LATENTD_ASSIGN_OR_RETURN(impl->vocabulary_, build_vocabulary(file));
    LATENTD_ASSIGN_OR_RETURN(Bpe bpe, build_bpe(file, impl->vocabulary_));
    impl->bpe_.emplace(std::move(bpe));
    LATENTD_ASSIGN_OR_RETURN(std::vector<AddedToken> added,
                             build_added_tokens(file, impl->vocabulary_));
    LATENTD_ASSIGN_OR_RETURN(impl->frame_, build_special_frame(file, impl->vocabulary_));
    impl->set_added_tokens(std::move(added));
    return std::unique_ptr<const Impl>(std::move(impl));
  }

  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const {
    std::string replaced;
    if (!utf8::valid(text)) {
      replaced = utf8::replace_invalid(text);
      text = replaced;
    }
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 3 + 8);
    if (add_special_tokens) ids = frame_.before;
    std::unique_ptr<EncodeScratch> scratch = pool_.take();
    scratch->parts.clear();
    plain_added_.split(text, scratch->parts);
    for (const AddedTokens::Part& part : scratch->parts) {
      if (part.id >= 0) {
        ids.push_back(part.id);
      } else {
        encode_between(part.text, *scratch, ids);
      }
    }
    // What a huge text made it grow to is not kept.
    if (text.size() <= kMaxKeptScratchText) pool_.give_back(std::move(scratch));
    if (add_special_tokens) ids.insert(ids.end(), frame_.after.begin(), frame_.after.end());
    return ids;
  }

  const Vocabulary& vocabulary() const { return vocabulary_; }

  bool is_special(TokenId token) const {
    return token >= 0 && static_cast<std::size_t>(token) < special_.size() &&
           special_[static_cast<std::size_t>(token)];
  }

 private:
  void set_added_tokens(std::vector<AddedToken> tokens) {
    special_.resize(static_cast<std::size_t>(vocabulary_.end()));
    std::vector<AddedToken> plain;
    std::vector<AddedToken> normalized;
    for (AddedToken& token : tokens) {
      special_[static_cast<std::size_t>(token.id)] = token.special;
      (token.normalized ? normalized : plain).push_back(std::move(token));
    }
    plain_added_ = AddedTokens(std::move(plain));
    normalized_added_ = AddedTokens(std::move(normalized));
  }

  // Text with none of the added tokens that are looked for before normalization.
  void encode_between(std::string_view text, EncodeScratch& scratch,
                      std::vector<TokenId>& ids) const {
    scratch.inner_parts.clear();
    normalized_added_.split(text, scratch.inner_parts);
    for (const AddedTokens::Part& part : scratch.inner_parts) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      pre_tokenizer_.split(part.text, scratch.pre_tokenizer, scratch.pieces);
      for (const std::string_view piece : scratch.pieces) bpe_->encode(piece, scratch.bpe, ids);
    }
  }

  Vocabulary vocabulary_;
  PreTokenizer pre_tokenizer_;
  std::optional<Bpe> bpe_;  // refers to vocabulary_
  AddedTokens plain_added_;
  AddedTokens normalized_added_;
  SpecialFrame frame_;
  std::vector<bool> special_;
  mutable ScratchPool pool_;
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  LATENTD_ASSIGN_OR_RETURN(const MmapFile file, MmapFile::open(tokenizer_json));
  const auto bytes = file.bytes();
  auto tokenizer = parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (tokenizer) return tokenizer;
  return Status(tokenizer.status().code(),
                fmt::format("{}: {}", tokenizer_json.string(), tokenizer.status().message()));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::parse(std::string_view json) {
  LATENTD_ASSIGN_OR_RETURN(const TokenizerJson file, read_tokenizer_json(json));
  LATENTD_ASSIGN_OR_RETURN(std::unique_ptr<const Impl> impl, Impl::build(file));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return impl_->encode(text, add_special_tokens);
}

std::string_view Tokenizer::token_bytes(TokenId token) const {
  return impl_->vocabulary().bytes(token);
}

std::string_view Tokenizer::token_text(TokenId token) const {
  return impl_->vocabulary().spelling(token);
}

bool Tokenizer::is_special(TokenId token) const { return impl_->is_special(token); }

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->vocabulary().find(token);
}

std::string Tokenizer::decode(const std::vector<TokenId>& tokens, bool skip_special_tokens) const {
  std::string bytes;
  for (const TokenId token : tokens) {
    if (!skip_special_tokens || !is_special(token)) bytes.append(token_bytes(token));
  }
  return utf8::replace_invalid(bytes);
}

int Tokenizer::vocab_size() const { return impl_->vocabulary().end(); }

}  // namespace latentd
