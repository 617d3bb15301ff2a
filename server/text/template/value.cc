#include "server/text/template/value.h"

#include <algorithm>
#include <cmath>

#include "server/text/template/runtime.h"
#include "server/text/utf8.h"

namespace latentd::jinja {

namespace {

// Below this a walk over the entries beats hashing.
constexpr std::size_t kIndexFrom = 9;

std::size_t count_code_points(std::string_view bytes) {
  return static_cast<std::size_t>(
      std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_numeric(const Value& value) {
  return value.is(Kind::kBool) || value.is(Kind::kInt) || value.is(Kind::kDouble);
}

double numeric(const Value& value) {
  if (value.is(Kind::kBool)) return value.as_bool() ? 1 : 0;
  return value.is(Kind::kInt) ? static_cast<double>(value.as_int()) : value.as_double();
}

bool keys_equal(const Value& a, const Value& b) {
  if (is_numeric(a) && is_numeric(b)) {
    if (a.is(Kind::kInt) && b.is(Kind::kInt)) return a.as_int() == b.as_int();
    return numeric(a) == numeric(b);
  }
  if (a.kind() != b.kind()) return false;
  if (a.is_string()) return a.bytes() == b.bytes();
  return a.same_as(b);
}

}  // namespace

Value Value::undefined(std::string why) {
  return Value(Storage(std::make_shared<const std::string>(std::move(why))));
}

Value Value::string(std::string_view utf8) {
  return valid_string(utf8::valid(utf8) ? std::string(utf8) : utf8::replace_invalid(utf8));
}

Value Value::valid_string(std::string utf8) {
  auto text = std::make_shared<Text>();
  text->length = count_code_points(utf8);
  text->bytes = std::move(utf8);
  return Value(Storage(TextPtr(std::move(text))));
}

Value Value::list(std::vector<Value> items) {
  return of(make_sequence(std::move(items), Sequence::Form::kList));
}

Value Value::tuple(std::vector<Value> items) {
  return of(make_sequence(std::move(items), Sequence::Form::kTuple));
}

bool Value::is_list_or_tuple() const {
  return is(Kind::kSequence) && sequence()->form <= Sequence::Form::kTuple;
}

std::string_view Value::bytes() const { return text().bytes; }

std::string_view Value::why_undefined() const {
  const UndefinedPtr& why = std::get<UndefinedPtr>(storage_);
  return why == nullptr ? std::string_view("the value is undefined") : std::string_view(*why);
}

bool Value::same_as(const Value& other) const {
  if (is_undefined() || other.is_undefined()) return is_undefined() && other.is_undefined();
  return storage_ == other.storage_;
}

int Value::depth() const {
  switch (kind()) {
    case Kind::kSequence:
      return sequence()->depth;
    case Kind::kMap:
      return map().depth();
    case Kind::kMethod:
      return method().receiver.depth() + 1;
    case Kind::kIterator:
      return cursor()->depth;
    case Kind::kLoop:
      return loop()->depth;
    default:
      return 0;
  }
}

int depth_around(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

SequencePtr make_sequence(std::vector<Value> items, Sequence::Form form) {
  auto sequence = std::make_shared<Sequence>();
  sequence->form = form;
  sequence->depth = depth_around(items);
  sequence->items = std::move(items);
  return sequence;
}

std::size_t Map::position(std::string_view key) const {
  if (!index_.empty()) {
    const auto found = index_.find(key);
    return found == index_.end() ? kNone : found->second;
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].first.is_string() && entries_[i].first.bytes() == key) return i;
  }
  return kNone;
}

std::size_t Map::position(const Value& key) const {
  if (key.is_string()) return position(key.bytes());
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (keys_equal(entries_[i].first, key)) return i;
  }
  return kNone;
}

const Value* Map::find(std::string_view key) const {
  const std::size_t at = position(key);
  return at == kNone ? nullptr : &entries_[at].second;
}

const Value* Map::find(const Value& key) const {
  const std::size_t at = position(key);
  return at == kNone ? nullptr : &entries_[at].second;
}

void MapBuilder::set(const Value& key, Value value) {
  Map& map = *map_;
  map.depth_ = std::max(map.depth_, value.depth() + 1);
  if (const std::size_t at = map.position(key); at != Map::kNone) {
    map.entries_[at].second = std::move(value);
    return;
  }
  map.entries_.emplace_back(key, std::move(value));
  if (map.entries_.size() == kIndexFrom) {
    for (std::size_t i = 0; i < map.entries_.size(); ++i) {
      const Value& k = map.entries_[i].first;
      if (k.is_string()) map.index_.emplace(k.bytes(), i);
    }
  } else if (map.entries_.size() > kIndexFrom && key.is_string()) {
    map.index_.emplace(key.bytes(), map.entries_.size() - 1);
  }
}

}  // namespace latentd::jinja
