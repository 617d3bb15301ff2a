#include "server/text/template/strftime.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <optional>

namespace latentd::jinja {

namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> kMonths = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December"};

template <std::size_t N>
std::string_view name_of(const std::array<std::string_view, N>& names, int index) {
  return names[static_cast<std::size_t>(index) % N];
}

std::string padded(int value, int width, bool unpadded, char fill = '0') {
  const std::string digits = fmt::format("{}", value);
  const auto missing = static_cast<std::size_t>(width) > digits.size()
                           ? static_cast<std::size_t>(width) - digits.size()
                           : 0;
  return unpadded ? digits : std::string(missing, fill) + digits;
}

std::optional<std::string> number(char conversion, const std::tm& time, bool unpadded) {
  const int hour12 = time.tm_hour % 12 == 0 ? 12 : time.tm_hour % 12;
  switch (conversion) {
    case 'd':
      return padded(time.tm_mday, 2, unpadded);
    case 'e':
      return padded(time.tm_mday, 2, unpadded, ' ');
    case 'H':
      return padded(time.tm_hour, 2, unpadded);
    case 'I':
      return padded(hour12, 2, unpadded);
    case 'j':
      return padded(time.tm_yday + 1, 3, unpadded);
    case 'm':
      return padded(time.tm_mon + 1, 2, unpadded);
    case 'M':
      return padded(time.tm_min, 2, unpadded);
    case 'S':
      return padded(time.tm_sec, 2, unpadded);
    case 'u':
      return padded(time.tm_wday == 0 ? 7 : time.tm_wday, 1, true);
    case 'w':
      return padded(time.tm_wday, 1, true);
    case 'y':
      return padded((time.tm_year + 1900) % 100, 2, unpadded);
    case 'Y':
      return padded(time.tm_year + 1900, 1, true);
    default:
      return std::nullopt;
  }
}

std::optional<std::string> words(char conversion, const std::tm& time) {
  switch (conversion) {
    case 'a':
      return std::string(name_of(kDays, time.tm_wday).substr(0, 3));
    case 'A':
      return std::string(name_of(kDays, time.tm_wday));
    case 'b':
    case 'h':
      return std::string(name_of(kMonths, time.tm_mon).substr(0, 3));
    case 'B':
      return std::string(name_of(kMonths, time.tm_mon));
    case 'p':
      return time.tm_hour < 12 ? "AM" : "PM";
    case 'n':
      return "\n";
    case 't':
      return "\t";
    case '%':
      return "%";
    default:
      return std::nullopt;
  }
}

// What a conversion is short for.
std::string_view composition(char conversion) {
  switch (conversion) {
    case 'c':
      return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
      return "%m/%d/%y";
    case 'F':
      return "%Y-%m-%d";
    case 'T':
    case 'X':
      return "%H:%M:%S";
    default:
      return "";
  }
}

}  // namespace

Result<std::string> format_time(std::string_view format, const std::tm& time) {
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const bool unpadded = i + 2 < format.size() && format[i + 1] == '-';
    if (unpadded) ++i;
    if (++i >= format.size()) {
      return Status(StatusCode::kInvalidArgument, "a time format ends in '%'");
    }
    std::optional<std::string> text = number(format[i], time, unpadded);
    if (!text.has_value()) text = words(format[i], time);
    if (!text.has_value() && !composition(format[i]).empty()) {
      LATENTD_ASSIGN_OR_RETURN(text, format_time(composition(format[i]), time));
    }
    if (!text.has_value()) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("the time format %{} is not supported", format[i]));
    }
    out += *text;
  }
  return out;
}

}  // namespace latentd::jinja
