#include "server/http/response.h"

#include "server/http/reply.h"

namespace latentd {

void append_sse(std::string& out, std::string_view json) {
  out += "data: ";
  out += json;
  out += "\n\n";
}

void Response::append_error(const Status& status, std::string& out) {
  append_sse(out, error_object(status));
  out += kSseDone;
}

}  // namespace latentd
