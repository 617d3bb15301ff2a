#include "loadtest/request_body.h"

#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <iterator>

namespace latentd::loadtest {
namespace {

void append_int(std::string& out, std::int32_t value) {
  char digits[12];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  out.append(digits, end);
}

void append_prompt(std::string& body, const Target& target, const PlannedRequest& request) {
  std::vector<std::int32_t> tokens;
  tokens.reserve(static_cast<std::size_t>(request.prompt_tokens()));
  append_tokens(request, target.tokens, tokens);
  if (target.api == Api::kChat) {
    body += R"("messages":[{"role":"user","content":")";
    for (const std::int32_t token : tokens) {
      body += ' ';
      append_int(body, token % 1000);
    }
    body += "\"}]";
    return;
  }
  body += "\"prompt\":[";
  for (const std::int32_t token : tokens) {
    append_int(body, token);
    body += ',';
  }
  body.back() = ']';
}

}  // namespace

std::string quote_json(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string http_request(const Target& target, const Tenant& tenant,
                         const PlannedRequest& request) {
  std::string body = "{";
  if (!target.model.empty()) body += "\"model\":" + quote_json(target.model) + ',';
  append_prompt(body, target, request);
  fmt::format_to(std::back_inserter(body),
                 R"(,"max_tokens":{},"temperature":{},"stream":true,)"
                 R"("stream_options":{{"include_usage":true}})",
                 request.max_tokens, target.temperature);
  if (target.ignore_eos) body += ",\"ignore_eos\":true";
  if (target.token_ids) body += ",\"return_token_ids\":true";
  if (tenant.priority != 0) body += fmt::format(",\"priority\":{}", tenant.priority);
  body += '}';

  const std::string& key = tenant.api_key.empty() ? target.api_key : tenant.api_key;
  std::string out = fmt::format(
      "POST {}/v1/{} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\n"
      "Accept: text/event-stream\r\n{}Content-Length: {}\r\n\r\n",
      target.path_prefix, target.api == Api::kChat ? "chat/completions" : "completions",
      target.host, target.port, key.empty() ? "" : "Authorization: Bearer " + key + "\r\n",
      body.size());
  return out += body;
}

}  // namespace latentd::loadtest
