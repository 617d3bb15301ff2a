#include "server/http/openapi.h"

namespace latentd {
namespace {

#include "openapi_files.inc"

}  // namespace

std::string_view openapi_document() { return openapi_json; }

}  // namespace latentd
