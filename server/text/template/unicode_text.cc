#include "server/text/template/unicode_text.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <span>

#include "server/text/unicode_category.h"
#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

// Code points first, first + stride, ... last map to themselves + delta.
struct CaseRun {
  char32_t first, last;
  std::uint32_t stride;
  std::int32_t delta;
};

// `from` maps to more than one code point.
struct SpecialCase {
  char32_t from;
  const char* to;
};

#include "server/text/template/case_table.inc"

CategoryMask mask_of(char32_t c) {
  const std::span<const std::uint32_t> runs = category_runs();
  const auto after =
      std::upper_bound(runs.begin(), runs.end(), (static_cast<std::uint32_t>(c) << 5) | 31);
  return CategoryMask{1} << (*(after - 1) & 31);
}

CategoryMask categories(std::initializer_list<std::string_view> names) {
  CategoryMask mask = 0;
  for (const std::string_view name : names) mask |= category_mask(name).value_or(0);
  return mask;
}

const CategoryMask kUpperCase = categories({"Lu"});
const CategoryMask kTitleCase = categories({"Lt"});
const CategoryMask kCased = categories({"Lu", "Ll", "Lt"});
const CategoryMask kLetters = categories({"L"});
const CategoryMask kDecimals = categories({"Nd"});
const CategoryMask kNumbers = categories({"Nd", "No"});
const CategoryMask kUnprintable = categories({"Z", "C"});

bool is_of(char32_t c, CategoryMask mask) { return (mask_of(c) & mask) != 0; }

template <std::size_t N>
char32_t mapped(const CaseRun (&runs)[N], char32_t c) {
  const auto* run = std::upper_bound(std::begin(runs), std::end(runs), c,
                                     [](char32_t x, const CaseRun& r) { return x < r.first; });
  if (run == std::begin(runs)) return c;
  --run;
  if (c > run->last || (c - run->first) % run->stride != 0) return c;
  return static_cast<char32_t>(static_cast<std::int32_t>(c) + run->delta);
}

template <std::size_t N>
const char* special(const SpecialCase (&table)[N], char32_t c) {
  const auto* found = std::lower_bound(std::begin(table), std::end(table), c,
                                       [](const SpecialCase& s, char32_t x) { return s.from < x; });
  return found != std::end(table) && found->from == c ? found->to : nullptr;
}

void append_upper(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  } else if (const char* several = special(kSpecialUpper, c); several != nullptr) {
    out += several;
  } else {
    utf8::append(mapped(kUpper, c), out);
  }
}

void append_lower(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  } else if (const char* several = special(kSpecialLower, c); several != nullptr) {
    out += several;
  } else {
    utf8::append(mapped(kLower, c), out);
  }
}

void append_title(char32_t c, std::string& out) {
  if (const char* several = special(kSpecialTitle, c); several != nullptr) {
    out += several;
    return;
  }
  const char32_t title = mapped(kTitle, c);
  if (title != c) {
    utf8::append(title, out);
  } else if (is_of(c, kTitleCase)) {
    utf8::append(c, out);
  } else {
    append_upper(c, out);
  }
}

bool has_case(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return is_of(c, kCased) || mapped(kUpper, c) != c || mapped(kLower, c) != c;
}

template <typename Visit>
void for_each(std::string_view text, Visit visit) {
  for (std::size_t at = 0, size = 0; at < text.size(); at += size) {
    visit(utf8::decode_valid(text.data() + at, size));
  }
}

// Whether all letters with case are upper, or lower, and there is one.
bool all_cased(std::string_view text, bool upper_wanted) {
  bool some = false;
  bool all = true;
  for_each(text, [&](char32_t c) {
    if (!has_case(c)) return;
    some = true;
    const bool upper = is_of(c, kUpperCase) || mapped(kLower, c) != c;
    all = all && upper == upper_wanted;
  });
  return some && all;
}

}  // namespace

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  return !is_of(c, kUnprintable);
}

std::size_t byte_offset(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) {
    ++at;
    while (at < text.size() && (text[at] & 0xC0) == 0x80) ++at;
  }
  return at;
}

std::size_t code_point_count(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<char32_t> code_points(std::string_view text) {
  std::vector<char32_t> points;
  points.reserve(text.size());
  for_each(text, [&](char32_t c) { points.push_back(c); });
  return points;
}

std::string from_code_points(const std::vector<char32_t>& code_points) {
  std::string out;
  out.reserve(code_points.size());
  for (const char32_t c : code_points) utf8::append(c, out);
  return out;
}

namespace {

template <typename Drop>
std::string_view strip_if(std::string_view text, Side side, Drop drop) {
  if (side != Side::kRight) {
    std::size_t size = 0;
    while (!text.empty() && drop(utf8::decode_valid(text.data(), size))) text.remove_prefix(size);
  }
  if (side != Side::kLeft) {
    while (!text.empty()) {
      std::size_t start = text.size() - 1;
      while (start > 0 && (text[start] & 0xC0) == 0x80) --start;
      std::size_t size = 0;
      if (!drop(utf8::decode_valid(text.data() + start, size))) break;
      text = text.substr(0, start);
    }
  }
  return text;
}

}  // namespace

std::string_view strip_space(std::string_view text, Side side) {
  return strip_if(text, side, is_space);
}

std::string_view strip_chars(std::string_view text, std::string_view chars, Side side) {
  const std::vector<char32_t> set = code_points(chars);
  return strip_if(text, side,
                  [&](char32_t c) { return std::find(set.begin(), set.end(), c) != set.end(); });
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each(text, [&](char32_t c) { append_upper(c, out); });
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each(text, [&](char32_t c) { append_lower(c, out); });
  return out;
}

std::string to_capitalized(std::string_view text) {
  std::string out;
  bool first = true;
  for_each(text, [&](char32_t c) {
    first ? append_title(c, out) : append_lower(c, out);
    first = false;
  });
  return out;
}

std::string to_title(std::string_view text) {
  std::string out;
  bool inside = false;
  for_each(text, [&](char32_t c) {
    inside ? append_lower(c, out) : append_title(c, out);
    inside = has_case(c);
  });
  return out;
}

bool is_upper(std::string_view text) { return all_cased(text, true); }
bool is_lower(std::string_view text) { return all_cased(text, false); }

bool is_digit(char32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : is_of(c, kDecimals); }
bool is_alphabetic(char32_t c) { return is_of(c, kLetters); }
bool is_alphanumeric(char32_t c) { return is_of(c, kLetters | kNumbers); }

}  // namespace latentd::jinja
