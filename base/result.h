// Result<T>: a T, or the Status that says why there is none.
//
// Contract: holds a value exactly when status().ok(). Reading the value of a failed result is a
// broken invariant and ends the process. (g++ 12 has no usable <expected>.)
#pragma once

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace latentd {

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    LATENTD_CHECK(!status_.ok(), "a Result without a value needs an error");
  }

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Status& status() const { return status_; }

  T& value() & {
    LATENTD_CHECK(ok(), "value of a failed Result: {}", status_.to_string());
    return *value_;
  }
  const T& value() const& {
    LATENTD_CHECK(ok(), "value of a failed Result: {}", status_.to_string());
    return *value_;
  }
  T&& value() && {
    LATENTD_CHECK(ok(), "value of a failed Result: {}", status_.to_string());
    return *std::move(value_);
  }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace latentd

#define LATENTD_CONCAT_INNER_(a, b) a##b
#define LATENTD_CONCAT_(a, b) LATENTD_CONCAT_INNER_(a, b)

// `LATENTD_ASSIGN_OR_RETURN(auto x, f())`: x = the value of f(), or returns f()'s error.
// NOLINTBEGIN(bugprone-macro-parentheses): `lhs` may be a declaration
#define LATENTD_ASSIGN_OR_RETURN(lhs, expr) \
  LATENTD_ASSIGN_OR_RETURN_IMPL_(LATENTD_CONCAT_(latentd_result_, __LINE__), lhs, expr)
#define LATENTD_ASSIGN_OR_RETURN_IMPL_(result, lhs, expr) \
  auto result = (expr);                                   \
  if (!result.ok()) return result.status();               \
  lhs = *std::move(result)
// NOLINTEND(bugprone-macro-parentheses)
