#include "server/text/tokenizer_parts.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <set>
#include <utility>

#include "server/text/json_fields.h"

namespace latentd {

namespace {

using nlohmann::json;

std::string element(const std::string& path, std::string_view list, std::size_t index) {
  return fmt::format("{}.{}[{}]", path, list, index);
}

// The elements of a Sequence, or an error.
Result<const json*> list_field(const json& object, const std::string& path, const char* name) {
  const json* list = member(object, name);
  if (list == nullptr || !list->is_array()) {
    return malformed_field(path + "." + name, "must be an array");
  }
  return list;
}

Status check_model(const json& model) {
  if (!model.is_object()) return malformed_field("model", "must be an object");
  if (member(model, "type") != nullptr) {
    LATENTD_ASSIGN_OR_RETURN(const std::string type, string_field(model, "model", "type"));
    if (type != "BPE") return unimplemented_field("model.type", type);
  }
  if (member(model, "dropout") != nullptr) return unimplemented_field("model.dropout", "not null");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json* affix = member(model, name);
    if (affix != nullptr && *affix != "") {
      return unimplemented_field(std::string("model.") + name, "not empty");
    }
  }
  return ok_status();
}

}  // namespace

Result<Vocabulary> build_vocabulary(const TokenizerJson& file) {
  if (file.vocabulary.empty()) return malformed_field("model.vocab", "must not be empty");
  Vocabulary vocabulary;
  vocabulary.reserve(file.vocabulary.size(), file.text.size());
  for (const TokenizerJson::Token& token : file.vocabulary) {
    const Status status = vocabulary.add(file.spelling(token), token.id);
    if (!status.ok()) return malformed_field("model.vocab", status.message());
  }
  return vocabulary;
}

Result<Bpe> build_bpe(const TokenizerJson& file, const Vocabulary& vocabulary) {
  const json* model = member(file.tree, "model");
  LATENTD_RETURN_IF_ERROR(check_model(model == nullptr ? json() : *model));
  LATENTD_ASSIGN_OR_RETURN(const bool ignore_merges,
                           bool_field(*model, "model", "ignore_merges", false));
  LATENTD_ASSIGN_OR_RETURN(const bool byte_fallback,
                           bool_field(*model, "model", "byte_fallback", false));
  Bpe bpe(vocabulary, ignore_merges);
  // Without a token for every byte these decide what becomes of the others.
  if (bpe.missing_byte() >= 0 && (byte_fallback || member(*model, "unk_token") != nullptr)) {
    return unimplemented_field(
        "model", fmt::format("unk_token or byte_fallback with no token for byte {:#04x}",
                             bpe.missing_byte()));
  }
  bpe.reserve(file.merges.size());
  for (std::size_t i = 0; i < file.merges.size(); ++i) {
    const TokenizerJson::Merge& merge = file.merges[i];
    const auto left = vocabulary.find(file.left(merge));
    const auto right = vocabulary.find(file.right(merge));
    const auto both = vocabulary.find(file.both(merge));
    if (!left || !right || !both) {
      return malformed_field(element("model", "merges", i), "a token that model.vocab lacks");
    }
    bpe.add_merge(*left, *right, *both);
  }
  return bpe;
}

namespace {

Result<AddedToken> read_added_token(const json& item, const std::string& path) {
  AddedToken token;
  LATENTD_ASSIGN_OR_RETURN(token.content, string_field(item, path, "content"));
  if (token.content.empty()) return malformed_field(path + ".content", "must not be empty");
  const json* id = member(item, "id");
  if (id == nullptr || !id->is_number_unsigned() ||
      *id->get_ptr<const json::number_unsigned_t*>() > Vocabulary::kMaxId) {
    return malformed_field(path + ".id", fmt::format("must be 0 .. {}", Vocabulary::kMaxId));
  }
  token.id = static_cast<TokenId>(*id->get_ptr<const json::number_unsigned_t*>());
  LATENTD_ASSIGN_OR_RETURN(token.single_word, bool_field(item, path, "single_word", false));
  LATENTD_ASSIGN_OR_RETURN(token.lstrip, bool_field(item, path, "lstrip", false));
  LATENTD_ASSIGN_OR_RETURN(token.rstrip, bool_field(item, path, "rstrip", false));
  LATENTD_ASSIGN_OR_RETURN(token.special, bool_field(item, path, "special", false));
  LATENTD_ASSIGN_OR_RETURN(token.normalized, bool_field(item, path, "normalized", !token.special));
  return token;
}

}  // namespace

Result<std::vector<AddedToken>> build_added_tokens(const TokenizerJson& file,
                                                   Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  const json* list = member(file.tree, "added_tokens");
  if (list == nullptr) return tokens;
  if (!list->is_array()) return malformed_field("added_tokens", "must be an array");
  const auto model_size = static_cast<TokenId>(vocabulary.size());
  TokenId next = model_size;  // the id of a token that the model does not have
  std::set<std::string_view> contents;
  tokens.reserve(list->size());
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string path = fmt::format("added_tokens[{}]", i);
    LATENTD_ASSIGN_OR_RETURN(AddedToken token, read_added_token((*list)[i], path));
    const auto known = vocabulary.find(token.content);
    if (token.id != known.value_or(next)) {
      return malformed_field(path + ".id", fmt::format("must be {}, the id that follows, got {}",
                                                       known.value_or(next), token.id));
    }
    if (!known) {
      const Status status = vocabulary.add(token.content, token.id);
      if (!status.ok()) return malformed_field(path, status.message());
    }
    next = std::max(next, token.id + 1);
    tokens.push_back(std::move(token));
    if (!contents.insert(tokens.back().content).second) {
      return malformed_field(path + ".content", "is there twice");
    }
  }
  return tokens;
}

namespace {

std::string escaped(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9') ||
                       (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c < ' ';
    if (!plain) pattern.push_back('\\');
    pattern.push_back(c);
  }
  return pattern;
}

Result<PreTokenizer::Step> regex_step(const std::string& path, std::string_view pattern) {
  PreTokenizer::Step step;
  Result<Regex> regex = Regex::compile(pattern);
  if (!regex) return bad_field(regex.status().code(), path, regex.status().message());
  step.regex = *std::move(regex);
  return step;
}

Result<PreTokenizer::Step> split_step(const json& item, const std::string& path) {
  const json* pattern = member(item, "pattern");
  if (pattern == nullptr || !pattern->is_object() || pattern->size() != 1) {
    return malformed_field(path + ".pattern", "must be an object of one of Regex, String");
  }
  const bool literal = pattern->contains("String");
  LATENTD_ASSIGN_OR_RETURN(const std::string text,
                           string_field(*pattern, path + ".pattern", literal ? "String" : "Regex"));
  LATENTD_ASSIGN_OR_RETURN(PreTokenizer::Step step,
                           regex_step(path + ".pattern", literal ? escaped(text) : text));
  LATENTD_ASSIGN_OR_RETURN(const std::string behavior, string_field(item, path, "behavior"));
  LATENTD_ASSIGN_OR_RETURN(const bool invert, bool_field(item, path, "invert", false));
  if (behavior == "Removed") {
    (invert ? step.drop_others : step.drop_matches) = true;
  } else if (behavior != "Isolated") {
    return unimplemented_field(path + ".behavior", behavior);
  }
  return step;
}

// Adds the steps of one pre-tokenizer. `byte_level` is set once the text has become bytes: nothing
// may follow.
Status add_steps(const json& item, const std::string& path, int depth, PreTokenizer& out,
                 bool& byte_level) {
  LATENTD_ASSIGN_OR_RETURN(const std::string type, string_field(item, path, "type"));
  if (type == "Sequence") {
    if (depth > 4) return unimplemented_field(path, "Sequences nested deeper than 4");
    LATENTD_ASSIGN_OR_RETURN(const json* list, list_field(item, path, "pretokenizers"));
    for (std::size_t i = 0; i < list->size(); ++i) {
      LATENTD_RETURN_IF_ERROR(
          add_steps((*list)[i], element(path, "pretokenizers", i), depth + 1, out, byte_level));
    }
    return ok_status();
  }
  if (byte_level) return unimplemented_field(path, "a pre-tokenizer after ByteLevel");
  if (type == "Split") {
    LATENTD_ASSIGN_OR_RETURN(PreTokenizer::Step step, split_step(item, path));
    out.add(std::move(step));
  } else if (type == "Digits") {
    LATENTD_ASSIGN_OR_RETURN(const bool single, bool_field(item, path, "individual_digits", false));
    LATENTD_ASSIGN_OR_RETURN(PreTokenizer::Step step,
                             regex_step(path, single ? R"(\p{N})" : R"(\p{N}+)"));
    out.add(std::move(step));
  } else if (type == "ByteLevel") {
    LATENTD_ASSIGN_OR_RETURN(const bool use_regex, bool_field(item, path, "use_regex", true));
    PreTokenizer::Step step;
    if (use_regex) {
      LATENTD_ASSIGN_OR_RETURN(step, regex_step(path, kGpt2Pattern));
    }
    LATENTD_ASSIGN_OR_RETURN(step.add_prefix_space,
                             bool_field(item, path, "add_prefix_space", true));
    out.add(std::move(step));
    byte_level = true;
  } else {
    return unimplemented_field(path + ".type", type);
  }
  return ok_status();
}

}  // namespace

Result<PreTokenizer> build_pre_tokenizer(const TokenizerJson& file) {
  const json* item = member(file.tree, "pre_tokenizer");
  if (item == nullptr) return unimplemented_field("pre_tokenizer", "none");
  PreTokenizer out;
  bool byte_level = false;
  LATENTD_RETURN_IF_ERROR(add_steps(*item, "pre_tokenizer", 0, out, byte_level));
  if (!byte_level)
    return unimplemented_field("pre_tokenizer", "one that does not end in ByteLevel");
  return out;
}

namespace {

// The ids of special_tokens[name] of a TemplateProcessing.
Status add_special(const json& item, const std::string& path, const std::string& name,
                   const Vocabulary& vocabulary, std::vector<TokenId>& out) {
  const json* all = member(item, "special_tokens");
  const json* special = all == nullptr ? nullptr : member(*all, name.c_str());
  const std::string special_path = path + ".special_tokens." + name;
  if (special == nullptr) return malformed_field(special_path, "is missing");
  LATENTD_ASSIGN_OR_RETURN(const json* ids, list_field(*special, special_path, "ids"));
  for (const json& id : *ids) {
    const bool whole = id.is_number_unsigned();
    const std::uint64_t value = whole ? *id.get_ptr<const json::number_unsigned_t*>() : 0;
    if (!whole || value > Vocabulary::kMaxId ||
        vocabulary.spelling(static_cast<TokenId>(value)).empty()) {
      return malformed_field(special_path + ".ids", "must be ids of the vocabulary");
    }
    out.push_back(static_cast<TokenId>(value));
  }
  return ok_status();
}

Status add_template(const json& item, const std::string& path, const Vocabulary& vocabulary,
                    SpecialFrame& out) {
  LATENTD_ASSIGN_OR_RETURN(const json* pieces, list_field(item, path, "single"));
  SpecialFrame frame;
  bool text_seen = false;
  for (std::size_t i = 0; i < pieces->size(); ++i) {
    const std::string piece_path = element(path, "single", i);
    if (const json* special = member((*pieces)[i], "SpecialToken")) {
      LATENTD_ASSIGN_OR_RETURN(const std::string name, string_field(*special, piece_path, "id"));
      LATENTD_RETURN_IF_ERROR(
          add_special(item, path, name, vocabulary, text_seen ? frame.after : frame.before));
    } else if (member((*pieces)[i], "Sequence") != nullptr && !text_seen) {
      text_seen = true;
    } else {
      return unimplemented_field(piece_path, "not a special token or the one text");
    }
  }
  if (!text_seen) return unimplemented_field(path + ".single", "a template without the text");
  out.before.insert(out.before.begin(), frame.before.begin(), frame.before.end());
  out.after.insert(out.after.end(), frame.after.begin(), frame.after.end());
  return ok_status();
}

Status add_post_processor(const json& item, const std::string& path, int depth,
                          const Vocabulary& vocabulary, SpecialFrame& out) {
  LATENTD_ASSIGN_OR_RETURN(const std::string type, string_field(item, path, "type"));
  if (type == "ByteLevel") return ok_status();  // it only moves offsets
  if (type == "TemplateProcessing") return add_template(item, path, vocabulary, out);
  if (type != "Sequence") return unimplemented_field(path + ".type", type);
  if (depth > 4) return unimplemented_field(path, "Sequences nested deeper than 4");
  LATENTD_ASSIGN_OR_RETURN(const json* list, list_field(item, path, "processors"));
  for (std::size_t i = 0; i < list->size(); ++i) {
    LATENTD_RETURN_IF_ERROR(
        add_post_processor((*list)[i], element(path, "processors", i), depth + 1, vocabulary, out));
  }
  return ok_status();
}

}  // namespace

Result<SpecialFrame> build_special_frame(const TokenizerJson& file, const Vocabulary& vocabulary) {
  SpecialFrame frame;
  if (const json* item = member(file.tree, "post_processor")) {
    LATENTD_RETURN_IF_ERROR(add_post_processor(*item, "post_processor", 0, vocabulary, frame));
  }
  return frame;
}

Status check_normalizer(const TokenizerJson& file) {
  const json* item = member(file.tree, "normalizer");
  if (item == nullptr) return ok_status();
  LATENTD_ASSIGN_OR_RETURN(const std::string type, string_field(*item, "normalizer", "type"));
  if (type != "Sequence") return unimplemented_field("normalizer.type", type);
  LATENTD_ASSIGN_OR_RETURN(const json* list, list_field(*item, "normalizer", "normalizers"));
  if (!list->empty()) return unimplemented_field("normalizer.normalizers[0]", "not empty");
  return ok_status();
}

Status check_decoder(const TokenizerJson& file) {
  const json* item = member(file.tree, "decoder");
  if (item == nullptr) return unimplemented_field("decoder", "none");
  LATENTD_ASSIGN_OR_RETURN(const std::string type, string_field(*item, "decoder", "type"));
  if (type != "ByteLevel") return unimplemented_field("decoder.type", type);
  return ok_status();
}

}  // namespace latentd
