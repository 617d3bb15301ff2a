#include "server/http/tokenize_routes.h"

#include <nlohmann/json.hpp>

#include "server/http/chat_request.h"
#include "server/http/response_json.h"
#include "server/text/utf8.h"

namespace latentd {
namespace {

struct Text {
  std::string text;
  bool add_special_tokens = false;
};

Status check_model(const JsonFields& fields, const ServingModel& model) {
  const Json* name = fields.find("model");
  if (name == nullptr) return ok_status();
  if (!name->is_string()) return invalid_argument("model", "must be a string");
  return check_model_name(name->get_ref<const std::string&>(), model);
}

Result<Text> read_text(JsonFields& fields, std::string_view body, const ServingModel& model) {
  Text out;
  if (fields.find("messages") != nullptr) {
    fields.read("add_special_tokens", out.add_special_tokens);
    LATENTD_ASSIGN_OR_RETURN(const ChatInput chat, read_chat_input(fields, body));
    LATENTD_ASSIGN_OR_RETURN(out.text, render_chat(chat.prompt, model));
    return out;
  }
  if (fields.find("content") != nullptr) {
    fields.read("content", out.text);
    fields.read("add_special", out.add_special_tokens);
    return out;
  }
  if (fields.find("prompt") == nullptr) {
    return invalid_argument("prompt", "is required, or messages, or content");
  }
  out.add_special_tokens = true;
  fields.read("prompt", out.text);
  fields.read("add_special_tokens", out.add_special_tokens);
  return out;
}

OrderedJson piece_json(std::string_view bytes) {
  if (utf8::valid(bytes)) return bytes;
  OrderedJson list = OrderedJson::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

OrderedJson pieces_json(const std::vector<TokenId>& tokens, const Tokenizer& tokenizer) {
  OrderedJson list = OrderedJson::array();
  for (const TokenId token : tokens) {
    OrderedJson piece;
    piece["id"] = token;
    piece["piece"] = piece_json(tokenizer.token_bytes(token));
    list.push_back(std::move(piece));
  }
  return list;
}

HttpReply reply_of(const OrderedJson& json) {
  HttpReply reply;
  reply.body = dump(json);
  return reply;
}

}  // namespace

Result<HttpReply> answer_tokenize(std::string_view body, const ServingModel& model) {
  LATENTD_ASSIGN_OR_RETURN(const Json json, parse_body(body));
  JsonFields fields(json);
  LATENTD_RETURN_IF_ERROR(check_model(fields, model));
  bool with_strings = false;
  bool with_pieces = false;
  fields.read("return_token_strs", with_strings);
  fields.read("with_pieces", with_pieces);
  LATENTD_ASSIGN_OR_RETURN(const Text text, read_text(fields, body, model));
  LATENTD_RETURN_IF_ERROR(fields.status());
  const auto tokens = model.tokenizer->encode(text.text, text.add_special_tokens);
  OrderedJson answer;
  answer["count"] = tokens.size();
  answer["max_model_len"] = model.info.max_model_len;
  answer["tokens"] = tokens;
  if (with_pieces) answer["tokens"] = pieces_json(tokens, *model.tokenizer);
  answer["token_strs"] = nullptr;
  if (with_strings) {
    answer["token_strs"] = OrderedJson::array();
    for (const TokenId token : tokens) {
      answer["token_strs"].push_back(model.tokenizer->token_text(token));
    }
  }
  return reply_of(answer);
}

Result<HttpReply> answer_detokenize(std::string_view body, const ServingModel& model) {
  LATENTD_ASSIGN_OR_RETURN(const Json json, parse_body(body));
  JsonFields fields(json);
  LATENTD_RETURN_IF_ERROR(check_model(fields, model));
  if (fields.find("tokens") == nullptr) return invalid_argument("tokens", "is required");
  std::vector<TokenId> tokens;
  fields.read("tokens", tokens);
  LATENTD_RETURN_IF_ERROR(fields.status());
  for (const TokenId token : tokens) {
    LATENTD_RETURN_IF_ERROR(check_token_id("tokens", token, model));
  }
  const std::string text = model.tokenizer->decode(tokens, /*skip_special_tokens=*/false);
  OrderedJson answer;
  answer["prompt"] = text;
  answer["content"] = text;
  return reply_of(answer);
}

}  // namespace latentd
