#include "server/chat_format.h"

#include <ctime>
#include <nlohmann/json.hpp>

#include "engine/model/json.h"

namespace latentd {
namespace {

constexpr std::string_view kDefaultName = "default";
constexpr std::string_view kToolName = "tool_use";
constexpr JsonLimits kConfigLimits{.max_bytes = std::size_t{16} << 20};

struct Sources {
  std::string usual;
  std::string with_tools;  // empty: the same
};

std::tm local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

// A token as tokenizer_config.json writes it: its text, or an object with its content.
const std::string* token_text(const Json& value) {
  if (value.is_string()) return value.get_ptr<const std::string*>();
  if (!value.is_object()) return nullptr;
  const auto content = value.find("content");
  return content != value.end() && content->is_string() ? content->get_ptr<const std::string*>()
                                                        : nullptr;
}

std::vector<std::pair<std::string, jinja::Value>> special_tokens_of(const Json& config) {
  std::vector<std::pair<std::string, jinja::Value>> tokens;
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    const auto found = config.find(name);
    if (found == config.end()) continue;
    if (const std::string* text = token_text(*found)) {
      tokens.emplace_back(name, jinja::Value::string(*text));
    }
  }
  return tokens;
}

Status bad_config(const std::string& what) {
  return Status(StatusCode::kInvalidArgument, "tokenizer_config.json: chat_template " + what);
}

Result<Sources> sources_of(const Json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) {
    return Status(StatusCode::kNotFound, "the model has no chat template");
  }
  if (found->is_string()) return Sources{found->get_ref<const std::string&>(), ""};
  if (!found->is_array()) return bad_config("must be a text or a list of named texts");
  Sources sources;
  for (const Json& entry : *found) {
    const auto name = entry.is_object() ? entry.find("name") : entry.end();
    const auto text = entry.is_object() ? entry.find("template") : entry.end();
    if (name == entry.end() || text == entry.end() || !name->is_string() || !text->is_string()) {
      return bad_config("entries must have a name and a template");
    }
    if (*name == kDefaultName) sources.usual = text->get_ref<const std::string&>();
    if (*name == kToolName) sources.with_tools = text->get_ref<const std::string&>();
  }
  if (sources.usual.empty()) {
    return Status(StatusCode::kNotFound, "the model has no default chat template");
  }
  return sources;
}

Result<Sources> read_sources(const std::filesystem::path& model, const Json& config) {
  const auto file = model / "chat_template.jinja";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return sources_of(config);
  LATENTD_ASSIGN_OR_RETURN(auto text, read_text_file(file, TemplateLimits().max_source_bytes));
  return Sources{std::move(text), ""};
}

Result<std::unique_ptr<ChatTemplate>> parse(const std::string& source) {
  auto parsed = ChatTemplate::parse(source);
  if (!parsed.ok()) {
    return Status(StatusCode::kInvalidArgument,
                  "the model's chat template cannot run: " + parsed.status().message());
  }
  return std::make_unique<ChatTemplate>(*std::move(parsed));
}

std::string_view trimmed(std::string_view text, bool end_too) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  text.remove_prefix(first);
  return end_too ? text.substr(0, text.find_last_not_of(kSpace) + 1) : text;
}

// Cuts a rendered conversation where its last message ends, without what the template puts behind
// it; whether that message keeps its spaces is for the template to say.
Status cut_behind_final_message(const jinja::Value& messages, std::string& rendered) {
  const jinja::Value* content = messages.sequence()->items.back().map().find("content");
  const std::string_view text = content->is_string() ? content->bytes() : std::string_view();
  const std::string_view core = trimmed(text, true);
  const std::size_t at = core.empty() ? std::string::npos : rendered.rfind(core);
  if (at == std::string::npos) {
    return invalid_argument("continue_final_message",
                            "the model's chat template does not show the final message's text");
  }
  const std::string_view with_end = trimmed(text, false);
  const bool keeps_end = rendered.compare(at, with_end.size(), with_end) == 0;
  rendered.resize(at + (keeps_end ? with_end.size() : core.size()));
  return ok_status();
}

}  // namespace

Result<std::unique_ptr<const ChatFormat>> ChatFormat::load(const std::filesystem::path& model) {
  Json config = Json::object();
  const auto path = model / "tokenizer_config.json";
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    LATENTD_ASSIGN_OR_RETURN(config, parse_json_file(path, kConfigLimits));
    if (!config.is_object()) {
      return Status(StatusCode::kInvalidArgument, path.string() + ": must be an object");
    }
  }
  LATENTD_ASSIGN_OR_RETURN(const Sources sources, read_sources(model, config));
  std::unique_ptr<ChatFormat> format(new ChatFormat);
  format->special_tokens_ = special_tokens_of(config);
  LATENTD_ASSIGN_OR_RETURN(format->template_, parse(sources.usual));
  if (!sources.with_tools.empty()) {
    LATENTD_ASSIGN_OR_RETURN(format->with_tools_, parse(sources.with_tools));
  }
  format->tool_calls_ =
      tool_call_format_of(sources.with_tools.empty() ? sources.usual : sources.with_tools);
  format->thoughts_ = thought_marks_of(sources.usual);
  return std::unique_ptr<const ChatFormat>(std::move(format));
}

Result<std::string> ChatFormat::render(const ChatPrompt& chat) const {
  const bool tools = !chat.tools.is(jinja::Kind::kNone);
  const ChatTemplate& chosen = tools && with_tools_ != nullptr ? *with_tools_ : *template_;
  const auto attempt = [&](const jinja::Value& messages) {
    jinja::MapBuilder context;
    for (const auto& [name, text] : special_tokens_) context.set(name, text);
    for (const auto& [name, value] : chat.more) context.set(name, value);
    context.set("messages", messages);
    context.set("tools", chat.tools);
    context.set("documents", chat.documents);
    context.set("add_generation_prompt", jinja::Value::boolean(chat.add_generation_prompt));
    return chosen.render(std::move(context).build(), local_now());
  };
  auto rendered = attempt(chat.messages);
  if (!rendered.ok() && !chat.messages_with_text_arguments.is_undefined()) {
    rendered = attempt(chat.messages_with_text_arguments);
  }
  if (!rendered.ok()) {
    return invalid_argument(
        "messages", "the model's chat template does not take them: " + rendered.status().message());
  }
  if (chat.continue_final_message) {
    LATENTD_RETURN_IF_ERROR(cut_behind_final_message(chat.messages, *rendered));
  }
  return rendered;
}

}  // namespace latentd
