#include "server/text/template/printf_format.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>

#include "server/text/template/operations.h"
#include "server/text/template/python_text.h"

namespace latentd::jinja {

namespace {

Status append_conversion(Runtime& runtime, char conversion, const Value& value, std::string& out) {
  switch (conversion) {
    case 's':
      return append_text(runtime, value, out);
    case 'r':
      return append_repr(runtime, value, out);
    case 'd':
    case 'i':
      if (value.is(Kind::kDouble) && std::abs(value.as_double()) < 9e18) {
        out += fmt::format("{}", static_cast<std::int64_t>(value.as_double()));
        return ok_status();
      }
      if (!is_number(value) || value.is(Kind::kDouble)) {
        return template_error(fmt::format("%d needs a number, not {}", type_name(value)));
      }
      out += fmt::format("{}", int_of(value));
      return ok_status();
    default:
      return template_error(fmt::format("the conversion %{} is not supported", conversion));
  }
}

}  // namespace

Result<Value> printf_format(Runtime& runtime, std::string_view format, const Value& values) {
  const bool is_tuple =
      values.is(Kind::kSequence) && values.sequence()->form == Sequence::Form::kTuple;
  const std::vector<Value> single = {values};
  const std::vector<Value>& given = is_tuple ? values.sequence()->items : single;
  std::size_t used = 0;
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    if (++i == format.size()) return template_error("a format ends in '%'");
    if (format[i] == '%') {
      out += '%';
      continue;
    }
    if (used == given.size()) return template_error("not enough values for a format");
    LATENTD_RETURN_IF_ERROR(append_conversion(runtime, format[i], given[used++], out));
  }
  const bool may_be_unused = values.is(Kind::kMap) || values.is(Kind::kSequence);
  if (used < given.size() && (is_tuple || !may_be_unused)) {
    return template_error("too many values for a format");
  }
  return runtime.string(std::move(out));
}

}  // namespace latentd::jinja
