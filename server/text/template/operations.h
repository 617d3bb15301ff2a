// Operators and access, with Python's semantics.
//
// Contract: kInvalidArgument for what Python raises TypeError, ValueError, ZeroDivisionError or
// jinja2's UndefinedError for, and for integers that leave 64 bits.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "server/text/template/ast.h"
#include "server/text/template/runtime.h"

namespace latentd::jinja {

using ItemsPtr = std::shared_ptr<const std::vector<Value>>;

bool truthy(const Value& value);
bool is_number(const Value& value);  // bool included, as in Python
// REQUIRES: bool or int.
std::int64_t int_of(const Value& value);
// REQUIRES: is_number.
double double_of(const Value& value);

Result<bool> equal(Runtime& runtime, const Value& a, const Value& b);
Result<bool> less_than(Runtime& runtime, const Value& a, const Value& b);
Result<bool> compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b);
// `item in container`.
Result<bool> contains(Runtime& runtime, const Value& container, const Value& item);

Result<Value> binary(Runtime& runtime, BinaryOp op, const Value& a, const Value& b);
Result<Value> unary(UnaryOp op, const Value& operand);

// Whether Python could look `value` up in a dict: no list or dict, at any depth.
bool hashable(const Value& value);

// What a for statement walks over: items, characters, keys. An iterator is used up.
Result<ItemsPtr> iterate(Runtime& runtime, const Value& value);
// len(value).
Result<std::int64_t> length_of(const Value& value);

// object.name: methods come before keys. Undefined when there is neither.
Result<Value> get_attribute(Runtime& runtime, const Value& object, std::string_view name);
// object[key]: keys and places come before methods.
Result<Value> get_item(Runtime& runtime, const Value& object, const Value& key);
// object[start:stop:step]; absent ones are none. An error on what cannot be sliced, unlike
// get_item.
Result<Value> get_slice(Runtime& runtime, const Value& object, const Value& start,
                        const Value& stop, const Value& step);

}  // namespace latentd::jinja
