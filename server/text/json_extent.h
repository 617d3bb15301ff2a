// JsonExtent: where a JSON value ends, as its text arrives.
//
// Reads brackets, strings and escapes alone: whoever needs to know that the value is valid parses
// it.
//
// Contract: one value, one thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace latentd {

class JsonExtent final {
 public:
  // How many bytes at the front of `text` belong to the value. REQUIRES: the value's first byte is
  // the first that is given; not done().
  std::size_t take(std::string_view text);

  bool done() const { return done_; }

 private:
  bool started_ = false;
  bool scalar_ = false;  // a number or a word: ends before what cannot be a part of it
  bool in_string_ = false;
  bool escaped_ = false;
  bool done_ = false;
  int depth_ = 0;
};

// A string of JSON as the text that it stands for; `text` itself when it is none.
std::string decode_json_string(std::string_view text);

// `text` as a string of JSON.
std::string encode_json_string(std::string_view text);

bool is_json(std::string_view text);

}  // namespace latentd
