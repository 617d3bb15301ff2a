#include "server/http/responses_response.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "server/chat_output.h"
#include "server/http/reply.h"
#include "server/http/response_json.h"

namespace latentd {
namespace {

enum class ItemKind : std::uint8_t { kThoughts, kMessage, kCall };

// A part of the output.
struct Item {
  ItemKind kind = ItemKind::kMessage;
  std::string id;
  std::string text;  // thoughts, content or arguments
  ToolCallDelta call;
  OrderedJson logprobs = OrderedJson::array();
  bool done = false;
};

OrderedJson text_part(const Item& item) {
  OrderedJson part = {{"type", "output_text"}, {"text", item.text}};
  part["annotations"] = OrderedJson::array();
  part["logprobs"] = item.logprobs;
  return part;
}

OrderedJson item_json(const Item& item) {
  OrderedJson json = {{"id", item.id}};
  const char* status = item.done ? "completed" : "in_progress";
  switch (item.kind) {
    case ItemKind::kThoughts:
      json["type"] = "reasoning";
      json["summary"] = OrderedJson::array();
      json["content"] = OrderedJson::array();
      if (item.done) json["content"].push_back({{"type", "reasoning_text"}, {"text", item.text}});
      json["status"] = status;
      break;
    case ItemKind::kMessage:
      json["type"] = "message";
      json["status"] = status;
      json["role"] = "assistant";
      json["content"] = OrderedJson::array();
      if (item.done) json["content"].push_back(text_part(item));
      break;
    case ItemKind::kCall:
      json["type"] = "function_call";
      json["status"] = status;
      json["call_id"] = item.call.id;
      json["name"] = item.call.name;
      json["arguments"] = item.text;
      break;
  }
  return json;
}

OrderedJson usage_of(const Usage& usage, int reasoning_tokens, bool cost) {
  OrderedJson json;
  json["input_tokens"] = usage.prompt_tokens;
  json["input_tokens_details"] = {{"cached_tokens", usage.cached_tokens}};
  json["output_tokens"] = usage.completion_tokens;
  json["output_tokens_details"] = {{"reasoning_tokens", reasoning_tokens}};
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  if (cost) json["cost"] = usage_json(usage, true)["cost"];
  return json;
}

class ResponsesResponse final : public Response {
 public:
  ResponsesResponse(const ResponsesRequest& request, const PreparedGeneration& prepared,
                    const ServingModel& model, std::string id)
      : model_(model),
        id_(std::move(id)),
        stream_(request.chat.output.stream),
        cost_(request.chat.output.cost),
        logprobs_(prepared.request.logprobs >= 0),
        created_(unix_seconds_now()),
        echo_(OrderedJson::parse(request.echo, nullptr, false)),
        output_(prepared.request, model, std::get<std::string>(prepared.request.prompts.front())) {}

  bool streams() const override { return stream_; }

  void append_events(const GenerationUpdate& update, std::string& out) override {
    out_ = &out;
    begin();
    take(update);
    if (update.done) {
      const bool cut = finish_ && finish_->kind != FinishKind::kStop;
      event(cut ? "response.incomplete" : "response.completed", {{"response", whole()}});
    }
    out_ = nullptr;
  }

  void append_error(const Status& status, std::string& out) override {
    out_ = &out;
    begin();
    OrderedJson error = OrderedJson::parse(error_object(status), nullptr, false)["error"];
    event("error",
          {{"code", error["code"]}, {"message", error["message"]}, {"param", error["param"]}});
    OrderedJson response = whole();
    response["status"] = "failed";
    response["error"] = {{"code", "server_error"}, {"message", error["message"]}};
    event("response.failed", {{"response", std::move(response)}});
    out_ = nullptr;
  }

  void collect(GenerationUpdate update) override { take(update); }
  std::string body() override { return dump(whole()); }

 private:
  void event(const char* type, const OrderedJson& fields) {
    if (out_ == nullptr) return;
    OrderedJson json = {{"type", type}, {"sequence_number", sequence_++}};
    json.update(fields);
    *out_ += "event: ";
    *out_ += type;
    *out_ += '\n';
    append_sse(*out_, dump(json));
  }

  void begin() {
    if (std::exchange(begun_, true)) return;
    event("response.created", {{"response", whole()}});
    event("response.in_progress", {{"response", whole()}});
  }

  void take(const GenerationUpdate& update) {
    usage_ = update.usage;
    for (const ChoiceDelta& delta : update.choices) {
      ChatOutput::Parts parts = output_.push(delta.text);
      if (delta.finish) parts.append(output_.finish());
      if (delta.finish) finish_ = delta.finish;
      tokens_.insert(tokens_.end(), delta.tokens.begin(), delta.tokens.end());
      for (const TokenPiece& piece : delta.tokens) offsets_.push_back(piece.text_offset);
      add(parts);
    }
    if (!update.done) return;
    if (!answered() && finish_) open(ItemKind::kMessage, {});  // an empty answer is one
    close();
  }

  int reasoning_tokens() const {
    if (items_.empty() || items_.front().kind != ItemKind::kThoughts) return 0;
    const int end = output_.thought_characters();
    return static_cast<int>(std::ranges::count_if(offsets_, [end](int at) { return at < end; }));
  }

  bool answered() const {
    return std::ranges::any_of(items_,
                               [](const Item& item) { return item.kind != ItemKind::kThoughts; });
  }

  void add(const ChatOutput::Parts& parts) {
    if (!parts.thoughts.empty()) {
      open(ItemKind::kThoughts, {});
      add_text("response.reasoning_text.delta", parts.thoughts, {{"content_index", 0}});
      tokens_.clear();
    }
    if (!parts.content.empty()) {
      open(ItemKind::kMessage, {});
      OrderedJson logprobs = OrderedJson::array();
      if (logprobs_) logprobs = token_logprobs_json(*model_.tokenizer, std::exchange(tokens_, {}));
      for (const OrderedJson& one : logprobs) items_.back().logprobs.push_back(one);
      add_text("response.output_text.delta", parts.content,
               {{"content_index", 0}, {"logprobs", std::move(logprobs)}});
    }
    for (const ToolCallDelta& call : parts.calls) {
      open(ItemKind::kCall, call);
      if (!call.arguments.empty()) {
        add_text("response.function_call_arguments.delta", call.arguments, OrderedJson::object());
      }
    }
  }

  OrderedJson place() const {
    return {{"item_id", items_.back().id}, {"output_index", items_.size() - 1}};
  }

  void add_text(const char* type, const std::string& text, const OrderedJson& more) {
    items_.back().text += text;
    OrderedJson fields = place();
    fields["delta"] = text;
    fields.update(more);
    event(type, std::move(fields));
  }

  // Makes an item of this kind the last one, unless it is that already.
  void open(ItemKind kind, const ToolCallDelta& call) {
    if (!items_.empty() && !items_.back().done && items_.back().kind == kind &&
        items_.back().call.index == call.index) {
      return;
    }
    close();
    constexpr const char* kPrefixes[] = {"rs_", "msg_", "fc_"};
    Item& item = items_.emplace_back();
    item.kind = kind;
    item.id = kPrefixes[static_cast<std::size_t>(kind)] + id_.substr(id_.find('_') + 1) + "_" +
              std::to_string(items_.size() - 1);
    item.call = call;
    item.call.arguments.clear();
    event("response.output_item.added",
          {{"output_index", items_.size() - 1}, {"item", item_json(item)}});
    if (kind != ItemKind::kMessage) return;
    OrderedJson fields = place();
    fields["content_index"] = 0;
    fields["part"] = text_part(item);
    event("response.content_part.added", std::move(fields));
  }

  void close() {
    if (items_.empty() || items_.back().done) return;
    Item& item = items_.back();
    item.done = true;
    OrderedJson fields = place();
    switch (item.kind) {
      case ItemKind::kThoughts:
        fields["content_index"] = 0;
        fields["text"] = item.text;
        event("response.reasoning_text.done", std::move(fields));
        break;
      case ItemKind::kMessage:
        fields["content_index"] = 0;
        fields["part"] = text_part(item);
        event("response.output_text.done", [&] {
          OrderedJson done = place();
          done["content_index"] = 0;
          done["text"] = item.text;
          done["logprobs"] = item.logprobs;
          return done;
        }());
        event("response.content_part.done", std::move(fields));
        break;
      case ItemKind::kCall:
        fields["name"] = item.call.name;
        fields["arguments"] = item.text;
        event("response.function_call_arguments.done", std::move(fields));
        break;
    }
    event("response.output_item.done",
          {{"output_index", items_.size() - 1}, {"item", item_json(item)}});
  }

  OrderedJson whole() const {
    OrderedJson json = {{"id", id_}, {"object", "response"}, {"created_at", created_}};
    const bool cut = finish_ && finish_->kind != FinishKind::kStop;
    json["status"] = !finish_ ? "in_progress" : cut ? "incomplete" : "completed";
    json["error"] = nullptr;
    json["incomplete_details"] = nullptr;
    if (cut) {
      json["incomplete_details"] = {
          {"reason", finish_->kind == FinishKind::kLength ? "max_output_tokens" : "cancelled"}};
    }
    json["model"] = model_.name();
    json["output"] = OrderedJson::array();
    for (const Item& item : items_) json["output"].push_back(item_json(item));
    json.update(echo_);
    json["usage"] = nullptr;
    if (finish_) json["usage"] = usage_of(usage_, reasoning_tokens(), cost_);
    return json;
  }

  const ServingModel& model_;
  const std::string id_;
  const bool stream_;
  const bool cost_;
  const bool logprobs_;
  const std::int64_t created_;
  const OrderedJson echo_;
  ChatOutput output_;
  std::string* out_ = nullptr;  // where events go; null: nowhere
  bool begun_ = false;
  int sequence_ = 0;
  std::vector<Item> items_;
  std::vector<TokenPiece> tokens_;  // whose text is not out yet
  std::optional<Finish> finish_;
  std::vector<int> offsets_;  // of all tokens: characters before each
  Usage usage_;
};

}  // namespace

std::unique_ptr<Response> make_responses_response(const ResponsesRequest& request,
                                                  const PreparedGeneration& prepared,
                                                  const ServingModel& model, std::string id) {
  return std::make_unique<ResponsesResponse>(request, prepared, model, std::move(id));
}

}  // namespace latentd
