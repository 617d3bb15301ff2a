#include "server/http/response.h"

namespace latentd {

void append_sse(std::string& out, std::string_view json) {
  out += "data: ";
  out += json;
  out += "\n\n";
}

}  // namespace latentd
