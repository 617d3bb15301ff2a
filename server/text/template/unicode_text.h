// Python's view of text: code points, white space, letter case.
//
// Case follows Unicode's simple mappings and the unconditional special ones ("ß".upper() is "SS"),
// from the table that tools/templates/make_case_table.py writes; the final sigma is not told apart.
// Contract: pure functions over valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace latentd::jinja {

// str.isspace of one code point, which is also what str.split and regex \s go by.
bool is_space(char32_t code_point);
// What repr escapes when it is not.
bool is_printable(char32_t code_point);

// Byte offset of code point number `index`. REQUIRES: index <= length.
std::size_t byte_offset(std::string_view text, std::size_t index);
std::size_t code_point_count(std::string_view text);
std::vector<char32_t> code_points(std::string_view text);
std::string from_code_points(const std::vector<char32_t>& code_points);

enum class Side : std::uint8_t { kBoth, kLeft, kRight };
// `text` without white space at its ends, or without the code points of `chars`.
std::string_view strip_space(std::string_view text, Side side);
std::string_view strip_chars(std::string_view text, std::string_view chars, Side side);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
// First letter upper (or title) case, the rest lower case.
std::string to_capitalized(std::string_view text);
// str.title: every letter that follows none is upper case.
std::string to_title(std::string_view text);
// str.isupper / str.islower: has letters with case and all of them are such.
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);

bool is_digit(char32_t code_point);         // decimal digits of any script
bool is_alphabetic(char32_t code_point);    // categories L*
bool is_alphanumeric(char32_t code_point);  // the two above and other numbers

}  // namespace latentd::jinja
