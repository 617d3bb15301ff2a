// Rendering in one call, for the tests of templates.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/text/template/chat_template.h"

namespace latentd {

// messages: two of a user and an assistant; text, number, flag, nothing, items, object.
jinja::Value sample_context();

// The text, or the error's code and message.
std::string render(std::string_view source, const jinja::Value& context = sample_context(),
                   TemplateLimits limits = {});

// A template and the text that it renders to.
using Cases = std::vector<std::pair<std::string_view, std::string_view>>;
void expect_texts(const Cases& cases);

}  // namespace latentd
