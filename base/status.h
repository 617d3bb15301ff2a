// Status: the outcome of an operation that a caller or the environment can make fail.
//
// Contract: a value type, cheap to move, safe to copy between threads. Codes carry gRPC's numbers
// (grpc/status.h), so a door maps them without a table. Broken invariants of our own are not
// errors: they end the process through LATENTD_CHECK (base/check.h).
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace latentd {

enum class StatusCode : int {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// The upper-case name that gRPC uses for `code`, for example "INVALID_ARGUMENT".
std::string_view status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The request field at fault, as the client spelled it ("max_tokens"); empty when there is none.
  const std::string& field() const { return field_; }
  Status&& with_field(std::string field) && {
    field_ = std::move(field);
    return std::move(*this);
  }

  // "INVALID_ARGUMENT: max_tokens: must be at least 1, got -3", or "OK".
  std::string to_string() const;

  friend bool operator==(const Status&, const Status&) = default;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
  std::string field_;
};

inline Status ok_status() { return {}; }

// A caller's mistake in `field`: the message says what the limit is and what was given.
inline Status invalid_argument(std::string field, std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message)).with_field(std::move(field));
}

}  // namespace latentd

// Returns from the enclosing function when `expr` (a Status) is not ok.
#define LATENTD_RETURN_IF_ERROR(expr)                                        \
  do {                                                                       \
    if (::latentd::Status latentd_status_ = (expr); !latentd_status_.ok()) { \
      return latentd_status_;                                                \
    }                                                                        \
  } while (false)
