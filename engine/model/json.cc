#include "engine/model/json.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/mmap_file.h"

namespace latentd {
namespace {

// Builds the document from the parser's events; returning false stops the parser. The names and
// signatures of the events are nlohmann's.
class DocumentBuilder final : public nlohmann::json_sax<Json> {
 public:
  DocumentBuilder(Json& root, int max_depth) : root_(root), max_depth_(max_depth) {}

  const std::string& error() const { return error_; }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return fail("binary values are not JSON"); }

  bool start_object(std::size_t /*elements*/) override { return open(Json::object()); }
  bool start_array(std::size_t /*elements*/) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    const auto [member, inserted] = members.try_emplace(std::move(name));
    if (!inserted) return fail("duplicate key \"" + member->first + "\"");
    target_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& reason) override {
    // nlohmann's text opens with "[json.exception.parse_error.101] ".
    const std::string text = reason.what();
    const std::size_t bracket = text.find("] ");
    return fail(text.substr(bracket == std::string::npos ? 0 : bracket + 2) + " (byte " +
                std::to_string(position) + ")");
  }

 private:
  bool fail(std::string reason) {
    error_ = std::move(reason);
    return false;
  }

  template <typename T>
  bool add(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }

  // Puts a value where the document goes on. Pointers to open containers stay valid: an array grows
  // only while its last element is closed.
  Json* place(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_object()) {
      *target_ = std::move(value);
      return target_;
    }
    auto& elements = open_.back()->get_ref<Json::array_t&>();
    elements.push_back(std::move(value));
    return &elements.back();
  }

  bool open(Json&& container) {
    if (static_cast<int>(open_.size()) >= max_depth_) {
      return fail("nested deeper than " + std::to_string(max_depth_) + " levels");
    }
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Json& root_;
  const int max_depth_;
  std::vector<Json*> open_;
  Json* target_ = nullptr;  // the value of the key that was last seen
  std::string error_;
};

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return Status(StatusCode::kResourceExhausted, "JSON of " + std::to_string(text.size()) +
                                                      " bytes is larger than the limit of " +
                                                      std::to_string(limits.max_bytes));
  }
  Json root;
  DocumentBuilder builder(root, limits.max_depth);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return Status(StatusCode::kInvalidArgument, "malformed JSON: " + builder.error());
  }
  return root;
}

Result<Json> parse_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  LATENTD_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, limits.max_bytes));
  auto document = parse_json(text, limits);
  if (document.ok()) return document;
  return Status(document.status().code(), path.string() + ": " + document.status().message());
}

Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t max_bytes) {
  LATENTD_ASSIGN_OR_RETURN(const MmapFile file, MmapFile::open(path));
  const auto bytes = file.bytes();
  if (bytes.size() > max_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  path.string() + ": " + std::to_string(bytes.size()) +
                      " bytes are more than the limit of " + std::to_string(max_bytes));
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace latentd
