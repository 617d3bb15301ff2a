// ReportReader: a report by paths, where what is missing or of another type reads as 0 or "".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace latentd::loadtest {

class ReportReader final {
 public:
  using Path = std::vector<const char*>;

  // kInvalidArgument when the text is no report of a schema that we know.
  static Result<ReportReader> parse(std::string_view json);

  ReportReader(ReportReader&&) noexcept;
  ReportReader& operator=(ReportReader&&) noexcept;
  ~ReportReader();

  double number(const Path& path) const;
  std::string text(const Path& path) const;  // numbers as they are written
  bool flag(const Path& path) const;
  std::size_t size(const Path& path) const;  // of a list
  // The members of an object that are whole numbers.
  std::vector<std::pair<std::string, std::uint64_t>> counts(const char* key) const;
  // A list of lists of numbers.
  std::vector<std::vector<double>> rows(const Path& path) const;
  // What lies at `path` in each object of the list `list`.
  std::vector<std::string> column(const char* list, const Path& path) const;

 private:
  struct Document;
  explicit ReportReader(std::unique_ptr<Document> document);
  std::unique_ptr<Document> document_;
};

}  // namespace latentd::loadtest
