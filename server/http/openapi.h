// The OpenAPI document of what the HTTP door serves: openapi.json, as it lies beside this file.
//
// tests/e2e/test_openapi.py holds it to the router, to the fields that are read, and to a running
// server.
#pragma once

#include <string_view>

namespace latentd {

std::string_view openapi_document();

}  // namespace latentd
