// Value: what a template computes with; JSON and what Jinja adds to it.
//
// Contract: a Value is small and cheap to copy; text, lists and maps never change once made and are
// shared by pointer, also between threads that render at once (hence shared_ptr). Text is UTF-8:
// `string()` replaces what is not by U+FFFD. Maps keep the order of their keys; a key set twice
// keeps its first place and its last value, as in Python. Integers are 64 bits wide, unlike
// Python's: arithmetic that leaves them is an error.
//
// Namespaces and macros belong to the render that made them (runtime.h) and must not outlive it;
// nothing outside this folder can come to hold one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace latentd::jinja {

struct Text;
struct Sequence;
class Map;
struct Cursor;
struct LoopState;
struct BoundMethod;
struct Namespace;
struct Macro;
struct Function;

enum class Kind : std::uint8_t {
  kUndefined,  // a missing name or attribute: prints nothing, has no attributes
  kNone,
  kBool,
  kInt,
  kDouble,
  kString,
  kSequence,  // list, tuple, range, or a view of a map
  kMap,
  kIterator,  // what Python's generators are here: can be walked through once
  kLoop,
  kMethod,  // a method taken from its object without a call
  kNamespace,
  kMacro,
  kFunction,
};

using TextPtr = std::shared_ptr<const Text>;
using SequencePtr = std::shared_ptr<const Sequence>;
using MapPtr = std::shared_ptr<const Map>;

class Value {
 public:
  Value() = default;  // undefined
  // Undefined, with the sentence that an error about it shows.
  static Value undefined(std::string why);
  static Value none() { return Value(Storage(None{})); }
  static Value boolean(bool value) { return Value(Storage(value)); }
  static Value integer(std::int64_t value) { return Value(Storage(value)); }
  static Value number(double value) { return Value(Storage(value)); }
  static Value string(std::string_view utf8);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);

  // What the evaluator makes.
  static Value of(TextPtr text) { return Value(Storage(std::move(text))); }
  static Value of(SequencePtr sequence) { return Value(Storage(std::move(sequence))); }
  static Value of(MapPtr map) { return Value(Storage(std::move(map))); }
  static Value of(std::shared_ptr<Cursor> cursor) { return Value(Storage(std::move(cursor))); }
  static Value of(std::shared_ptr<LoopState> loop) { return Value(Storage(std::move(loop))); }
  static Value of(std::shared_ptr<const BoundMethod> method) {
    return Value(Storage(std::move(method)));
  }
  static Value of(Namespace* object) { return Value(Storage(object)); }
  static Value of(const Macro* macro) { return Value(Storage(macro)); }
  static Value of(const Function* function) { return Value(Storage(function)); }
  // Of text that is known to be UTF-8.
  static Value valid_string(std::string utf8);

  Kind kind() const { return static_cast<Kind>(storage_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_undefined() const { return is(Kind::kUndefined); }
  bool is_string() const { return is(Kind::kString); }
  bool is_list_or_tuple() const;

  // Each REQUIRES its kind.
  bool as_bool() const { return std::get<bool>(storage_); }
  std::int64_t as_int() const { return std::get<std::int64_t>(storage_); }
  double as_double() const { return std::get<double>(storage_); }
  const Text& text() const { return *std::get<TextPtr>(storage_); }
  std::string_view bytes() const;
  const SequencePtr& sequence() const { return std::get<SequencePtr>(storage_); }
  const Map& map() const { return *std::get<MapPtr>(storage_); }
  const std::shared_ptr<Cursor>& cursor() const {
    return std::get<std::shared_ptr<Cursor>>(storage_);
  }
  const std::shared_ptr<LoopState>& loop() const {
    return std::get<std::shared_ptr<LoopState>>(storage_);
  }
  const BoundMethod& method() const {
    return *std::get<std::shared_ptr<const BoundMethod>>(storage_);
  }
  Namespace& object() const { return *std::get<Namespace*>(storage_); }
  const Macro& macro() const { return *std::get<const Macro*>(storage_); }
  const Function& function() const { return *std::get<const Function*>(storage_); }
  std::string_view why_undefined() const;

  // Same kind and, for what has an identity, the same object ("is sameas").
  bool same_as(const Value& other) const;
  // Lists and maps inside one another: 0 of a scalar.
  int depth() const;

 private:
  struct None {
    friend bool operator==(None, None) = default;
  };
  using UndefinedPtr = std::shared_ptr<const std::string>;
  using Storage =
      std::variant<UndefinedPtr, None, bool, std::int64_t, double, TextPtr, SequencePtr, MapPtr,
                   std::shared_ptr<Cursor>, std::shared_ptr<LoopState>,
                   std::shared_ptr<const BoundMethod>, Namespace*, const Macro*, const Function*>;
  explicit Value(Storage storage) : storage_(std::move(storage)) {}

  Storage storage_;
};

struct Text {
  std::string bytes;
  std::size_t length;  // in code points
  bool ascii() const { return length == bytes.size(); }
};

struct Sequence {
  enum class Form : std::uint8_t { kList, kTuple, kRange, kKeys, kValues, kItems };
  Form form = Form::kList;
  std::vector<Value> items;
  int depth = 1;
  std::int64_t start = 0, stop = 0, step = 1;  // of a range

  bool is_view() const { return form >= Form::kKeys; }
};

class Map {
 public:
  using Entry = std::pair<Value, Value>;

  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }
  // Null when there is none.
  const Value* find(std::string_view key) const;
  // By Python's equality: 1, 1.0 and true are one key. Linear unless `key` is a string.
  const Value* find(const Value& key) const;

 private:
  friend class MapBuilder;
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::size_t position(std::string_view key) const;
  std::size_t position(const Value& key) const;

  std::vector<Entry> entries_;
  // Of string keys, once there are more than a few; the views point into their Text.
  std::unordered_map<std::string_view, std::size_t> index_;
  int depth_ = 1;
};

class MapBuilder {
 public:
  void set(std::string_view key, Value value) { set(Value::string(key), std::move(value)); }
  // REQUIRES: a scalar or string key.
  void set(const Value& key, Value value);
  std::size_t size() const { return map_->size(); }
  Value build() && { return Value::of(MapPtr(std::move(map_))); }

 private:
  std::shared_ptr<Map> map_ = std::make_shared<Map>();
};

// A one-shot walk over items.
struct Cursor {
  std::vector<Value> items;
  std::size_t next = 0;
  int depth = 1;
};

// The depth of what is put around `items`.
int depth_around(const std::vector<Value>& items);
// A sequence of `form`.
SequencePtr make_sequence(std::vector<Value> items, Sequence::Form form);

}  // namespace latentd::jinja
