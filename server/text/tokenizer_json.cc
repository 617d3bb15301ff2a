#include "server/text/tokenizer_json.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

namespace latentd {

namespace {

using nlohmann::json;

constexpr std::size_t kMaxDepth = 64;

// nlohmann's event interface: every function returns false to stop, with `error` set.
class Reader {
 public:
  explicit Reader(TokenizerJson& out) : out_(out) {}

  const std::string& error() const { return error_; }

  bool null() { return value(nullptr); }
  bool boolean(bool v) { return value(v); }
  bool number_float(double v, const std::string&) { return value(v); }
  bool binary(json::binary_t&) { return fail("binary data"); }
  bool number_unsigned(std::uint64_t v) {
    if (table_ != Table::kVocabulary) return value(v);
    return v <= INT32_MAX ? token(static_cast<std::int64_t>(v)) : fail("model.vocab: id too large");
  }
  bool number_integer(std::int64_t v) { return table_ == Table::kVocabulary ? token(v) : value(v); }
  bool string(std::string& v) {
    if (table_ == Table::kMerges) return merge_line(v);
    if (table_ == Table::kMergePair) return merge_part(v);
    return value(std::move(v));
  }

  bool start_object(std::size_t) {
    if (table_ != Table::kNone) return fail("a vocabulary or merges with an object inside");
    if (at_table("vocab")) return enter(Table::kVocabulary);
    return open(json::object());
  }
  bool start_array(std::size_t) {
    if (table_ == Table::kMerges) return enter(Table::kMergePair);
    if (table_ != Table::kNone) return fail("a vocabulary or a merge with an array inside");
    if (at_table("merges")) return enter(Table::kMerges);
    return open(json::array());
  }
  bool end_object() {
    if (table_ == Table::kVocabulary) return enter(Table::kNone);
    return close();
  }
  bool end_array() {
    if (table_ == Table::kMergePair) {
      if (parts_ != 2) return fail(fmt::format("{}: not a pair", merge_path()));
      return enter(Table::kMerges);
    }
    if (table_ == Table::kMerges) return enter(Table::kNone);
    return close();
  }
  bool key(std::string& v) {
    if (table_ == Table::kVocabulary) {
      key_.swap(v);
      return true;
    }
    if (open_.back()->contains(v)) return fail(fmt::format("the key \"{}\" is there twice", v));
    keys_.back() = std::move(v);
    return true;
  }
  template <typename Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    return fail(fmt::format("not JSON at byte {}", position));
  }

 private:
  enum class Table { kNone, kVocabulary, kMerges, kMergePair };

  bool fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  bool at_table(std::string_view name) const {
    return keys_.size() == 2 && keys_[0] == "model" && keys_[1] == name;
  }

  bool enter(Table table) {
    if (table_ == Table::kNone) (*open_.back())[keys_.back()] = nullptr;  // a second one is found
    table_ = table;
    parts_ = 0;
    return true;
  }

  // Where a value at this place of the tree goes.
  json* place(json v) {
    if (open_.empty()) {
      out_.tree = std::move(v);
      return &out_.tree;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(v));
      return &open_.back()->back();
    }
    return &((*open_.back())[keys_.back()] = std::move(v));
  }

  bool value(json v) {
    if (table_ == Table::kVocabulary) return fail("model.vocab: an id that is not a whole number");
    if (table_ != Table::kNone) return fail(fmt::format("{}: not text", merge_path()));
    place(std::move(v));
    return true;
  }

  bool open(json container) {
    if (open_.size() >= kMaxDepth) return fail(fmt::format("deeper than {} levels", kMaxDepth));
    open_.push_back(place(std::move(container)));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  std::uint32_t append(std::string_view text) {
    const auto begin = static_cast<std::uint32_t>(out_.text.size());
    out_.text.append(text);
    return begin;
  }

  bool token(std::int64_t id) {
    out_.vocabulary.push_back({append(key_), static_cast<std::uint32_t>(key_.size()), id});
    return true;
  }

  std::string merge_path() const { return fmt::format("model.merges[{}]", out_.merges.size()); }

  bool merge_line(std::string_view line) {
    if (line.starts_with("#version")) return true;  // a comment of older files
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      return fail(fmt::format("{}: not two tokens with a space between", merge_path()));
    }
    add_merge(line.substr(0, space), line.substr(space + 1));
    return true;
  }

  bool merge_part(std::string& part) {
    if (parts_++ == 0) {
      key_.swap(part);
    } else {
      add_merge(key_, part);
    }
    return parts_ <= 2 || fail(fmt::format("{}: not a pair", merge_path()));
  }

  void add_merge(std::string_view left, std::string_view right) {
    const std::uint32_t begin = append(left);
    append(right);
    out_.merges.push_back(
        {begin, static_cast<std::uint32_t>(left.size()), static_cast<std::uint32_t>(right.size())});
  }

  TokenizerJson& out_;
  std::vector<json*> open_;        // the containers around this place, outermost first
  std::vector<std::string> keys_;  // the key in each, empty for an array
  Table table_ = Table::kNone;
  std::string key_;  // in the vocabulary; the left token of a merge pair
  int parts_ = 0;
  std::string error_;
};

}  // namespace

Result<TokenizerJson> read_tokenizer_json(std::string_view text) {
  const auto malformed = [](std::string message) {
    return Status(StatusCode::kInvalidArgument, std::move(message));
  };
  if (text.size() > kMaxTokenizerBytes) {
    return malformed(fmt::format("{} bytes, at most {}", text.size(), kMaxTokenizerBytes));
  }
  TokenizerJson out;
  out.text.reserve(text.size());
  Reader reader(out);
  try {
    if (!json::sax_parse(text.begin(), text.end(), &reader)) return malformed(reader.error());
  } catch (const std::exception& e) {
    return malformed(e.what());
  }
  if (!out.tree.is_object()) return malformed("not a JSON object");
  return out;
}

}  // namespace latentd
