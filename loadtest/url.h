// Addresses such as http://127.0.0.1:8000/prefix or 127.0.0.1:50051.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace latentd::loadtest {

struct Url {
  std::string host;  // without the brackets of an IPv6 address
  int port = 0;
  std::string path;  // without a slash at its end
};

// kInvalidArgument when it is none, or https (put a proxy that ends TLS in front).
Result<Url> parse_url(std::string_view text, int default_port);

}  // namespace latentd::loadtest
