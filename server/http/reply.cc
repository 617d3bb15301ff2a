#include "server/http/reply.h"

#include <nlohmann/json.hpp>

namespace latentd {
namespace {

struct ErrorClass {
  int status;
  const char* type;
  const char* code;  // null: none
};

ErrorClass class_of(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
      return {400, "invalid_request_error", nullptr};
    case StatusCode::kOutOfRange:
      return {400, "invalid_request_error", "context_length_exceeded"};
    case StatusCode::kUnauthenticated:
      return {401, "invalid_request_error", "invalid_api_key"};
    case StatusCode::kPermissionDenied:
      return {403, "invalid_request_error", "permission_denied"};
    case StatusCode::kNotFound:
      return {404, "invalid_request_error", "model_not_found"};
    case StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "rate_limit_exceeded"};
    case StatusCode::kUnavailable:
      return {503, "server_error", "unavailable"};
    case StatusCode::kDeadlineExceeded:
      return {504, "server_error", "deadline_exceeded"};
    default:
      return {500, "server_error", nullptr};
  }
}

std::string render(const std::string& message, const ErrorClass& error, const std::string& field) {
  nlohmann::ordered_json object;
  object["message"] = field.empty() ? message : field + ": " + message;
  object["type"] = error.type;
  object["param"] = nullptr;
  if (!field.empty()) object["param"] = field;
  object["code"] = nullptr;
  if (error.code != nullptr) object["code"] = error.code;
  return nlohmann::ordered_json{{"error", std::move(object)}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string error_object(const Status& status) {
  return render(status.message(), class_of(status.code()), status.field());
}

HttpReply error_reply(const Status& status, int retry_after_ms) {
  HttpReply reply;
  const ErrorClass error = class_of(status.code());
  reply.status = error.status;
  reply.body = error_object(status);
  if (status.code() == StatusCode::kUnauthenticated) {
    reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  }
  // The same request fails again, elsewhere too: it is keyed by its seed.
  if (error.status == 500) reply.headers.emplace_back("X-Should-Retry", "false");
  if (error.status == 429 || error.status == 503) {
    reply.headers.emplace_back("Retry-After", std::to_string((retry_after_ms + 999) / 1000));
    reply.headers.emplace_back("Retry-After-Ms", std::to_string(retry_after_ms));
  }
  return reply;
}

HttpReply http_error(int status, std::string_view message) {
  HttpReply reply;
  reply.status = status;
  reply.body = render(std::string(message), {status, "invalid_request_error", nullptr}, "");
  return reply;
}

}  // namespace latentd
