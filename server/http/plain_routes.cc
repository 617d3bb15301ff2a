#include "server/http/plain_routes.h"

#include <nlohmann/json.hpp>

#include "server/http/console_assets.h"
#include "server/http/console_state.h"
#include "server/http/openapi.h"
#include "server/version.h"

namespace latentd {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson describe_model(const ServingModel& model, const std::string& name) {
  OrderedJson object;
  object["id"] = name;
  object["object"] = "model";
  object["created"] = model.created_unix;
  object["owned_by"] = "latentd";
  object["root"] = model.name();
  object["parent"] = nullptr;
  object["max_model_len"] = model.info.max_model_len;
  return object;
}

HttpReply json_reply(const OrderedJson& json, int status = 200) {
  HttpReply reply;
  reply.status = status;
  reply.body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return reply;
}

HttpReply list_models(const ServingModel& model) {
  OrderedJson data = OrderedJson::array();
  for (const std::string& name : model.names) data.push_back(describe_model(model, name));
  return json_reply({{"object", "list"}, {"data", std::move(data)}});
}

HttpReply one_model(const ServingModel& model, const std::string& name) {
  if (model.is_called(name)) return json_reply(describe_model(model, name));
  return error_reply(
      Status(StatusCode::kNotFound, "the model `" + name + "` does not exist").with_field("model"));
}

HttpReply readiness(const Frontend& frontend) {
  const std::string state(server_state_name(frontend.state()));
  return json_reply({{"status", state}}, frontend.ready() ? 200 : 503);
}

}  // namespace

HttpReply answer_plain(const RouteMatch& match, Frontend& frontend, const Caller& caller) {
  const ServingModel* model = frontend.model();
  switch (match.route) {
    case Route::kHealthz:
      return json_reply({{"status", "alive"}});
    case Route::kReadyz:
    case Route::kHealth:
      return readiness(frontend);
    case Route::kVersion:
      return json_reply({{"version", std::string(kVersion)}});
    case Route::kMetrics: {
      HttpReply reply;
      reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
      reply.body = frontend.metrics().scrape();
      return reply;
    }
    case Route::kOpenApi: {
      HttpReply reply;
      reply.body = openapi_document();
      return reply;
    }
    case Route::kModels:
    case Route::kModel:
      if (model == nullptr) {
        return error_reply(Status(StatusCode::kUnavailable, "the model is loading"));
      }
      return match.route == Route::kModels ? list_models(*model) : one_model(*model, match.model);
    case Route::kConsole:
    case Route::kConsoleStyle:
    case Route::kConsoleScript:
    case Route::kConsoleIcon:
      return console_asset(match.route);
    case Route::kConsoleState:
      return console_state(frontend, caller);
    default:
      break;
  }
  return http_error(404, "no such path");
}

}  // namespace latentd
