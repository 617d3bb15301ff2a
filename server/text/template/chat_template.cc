#include "server/text/template/chat_template.h"

#include "server/text/template/evaluator.h"
#include "server/text/template/parser.h"
#include "server/text/utf8.h"

namespace latentd {

struct ChatTemplate::Parsed {
  TemplateLimits limits;
  jinja::Tree tree;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, TemplateLimits limits) {
  if (!utf8::valid(source)) {
    return Status(StatusCode::kInvalidArgument, "the template is not valid UTF-8");
  }
  LATENTD_ASSIGN_OR_RETURN(jinja::Tree tree, jinja::parse_template(source, limits));
  return ChatTemplate(std::make_unique<const Parsed>(Parsed{limits, std::move(tree)}));
}

Result<std::string> ChatTemplate::render(const jinja::Value& context,
                                         const std::optional<std::tm>& now) const {
  if (!context.is(jinja::Kind::kMap)) {
    return Status(StatusCode::kInvalidArgument, "the context of a template must be a map");
  }
  jinja::Runtime runtime(parsed_->limits, now);
  LATENTD_RETURN_IF_ERROR(runtime.budget.check_value_depth(context.depth()));
  return jinja::Evaluator(parsed_->tree, context.map(), runtime).run();
}

}  // namespace latentd
