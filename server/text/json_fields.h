// Typed fields of a JSON object, with errors that name the path.
//
// Contract: pure functions; `path` is where `object` is ("pre_tokenizer.pretokenizers[1]").
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace latentd {

inline Status bad_field(StatusCode code, const std::string& path, std::string_view what) {
  return {code, path + ": " + std::string(what)};
}

inline Status unimplemented_field(const std::string& path, std::string_view what) {
  return bad_field(StatusCode::kUnimplemented, path, what);
}

inline Status malformed_field(const std::string& path, std::string_view what) {
  return bad_field(StatusCode::kInvalidArgument, path, what);
}

// The member, or nullptr when it is absent or null.
inline const nlohmann::json* member(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

inline Result<std::string> string_field(const nlohmann::json& object, const std::string& path,
                                        const char* name) {
  const nlohmann::json* value = member(object, name);
  if (value == nullptr || !value->is_string()) {
    return malformed_field(path + "." + name, "must be a string");
  }
  return *value->get_ptr<const std::string*>();
}

inline Result<bool> bool_field(const nlohmann::json& object, const std::string& path,
                               const char* name, bool when_absent) {
  const nlohmann::json* value = member(object, name);
  if (value == nullptr) return when_absent;
  if (!value->is_boolean()) return malformed_field(path + "." + name, "must be true or false");
  return *value->get_ptr<const bool*>();
}

}  // namespace latentd
