#include "loadtest/report_reader.h"

#include <nlohmann/json.hpp>

namespace latentd::loadtest {

using Json = nlohmann::json;

namespace {

const Json& find(const Json& root, const ReportReader::Path& path) {
  static const Json none;
  const Json* node = &root;
  for (const char* key : path) {
    if (!node->is_object()) return none;
    const auto found = node->find(key);
    if (found == node->end()) return none;
    node = &*found;
  }
  return *node;
}

std::string text_of(const Json& node) {
  if (node.is_null()) return "";
  return node.is_string() ? node.get<std::string>() : node.dump();
}

}  // namespace

struct ReportReader::Document {
  Json root;

  const Json& at(const Path& path) const { return find(root, path); }
};

ReportReader::ReportReader(std::unique_ptr<Document> document) : document_(std::move(document)) {}
ReportReader::ReportReader(ReportReader&&) noexcept = default;
ReportReader& ReportReader::operator=(ReportReader&&) noexcept = default;
ReportReader::~ReportReader() = default;

Result<ReportReader> ReportReader::parse(std::string_view json) {
  auto document = std::make_unique<Document>();
  document->root = Json::parse(json, nullptr, false);
  if (document->at({"schema"}) != "latentd.loadtest/1") {
    return invalid_argument("report", "is not JSON of the schema latentd.loadtest/1");
  }
  return ReportReader(std::move(document));
}

double ReportReader::number(const Path& path) const {
  const Json& node = document_->at(path);
  return node.is_number() ? node.get<double>() : 0.0;
}

std::string ReportReader::text(const Path& path) const { return text_of(document_->at(path)); }

bool ReportReader::flag(const Path& path) const {
  const Json& node = document_->at(path);
  return node.is_boolean() && node.get<bool>();
}

std::size_t ReportReader::size(const Path& path) const {
  const Json& node = document_->at(path);
  return node.is_array() ? node.size() : 0;
}

std::vector<std::pair<std::string, std::uint64_t>> ReportReader::counts(const char* key) const {
  std::vector<std::pair<std::string, std::uint64_t>> list;
  const Json& node = document_->at({key});
  if (!node.is_object()) return list;
  for (const auto& [name, value] : node.items()) {
    if (value.is_number_integer()) list.emplace_back(name, value.get<std::uint64_t>());
  }
  return list;
}

std::vector<std::vector<double>> ReportReader::rows(const Path& path) const {
  std::vector<std::vector<double>> rows;
  const Json& node = document_->at(path);
  if (!node.is_array()) return rows;
  for (const Json& item : node) {
    std::vector<double>& row = rows.emplace_back();
    if (!item.is_array()) continue;
    for (const Json& value : item) row.push_back(value.is_number() ? value.get<double>() : 0.0);
  }
  return rows;
}

std::vector<std::string> ReportReader::column(const char* list, const Path& path) const {
  std::vector<std::string> values;
  const Json& node = document_->at({list});
  if (!node.is_array()) return values;
  for (const Json& item : node) values.push_back(text_of(find(item, path)));
  return values;
}

}  // namespace latentd::loadtest
