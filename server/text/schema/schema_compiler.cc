#include "server/text/schema/schema_compiler.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "server/text/schema/number_dfa.h"
#include "server/text/schema/pattern_dfa.h"
#include "server/text/schema/schema_keywords.h"
#include "server/text/schema/schema_merge.h"
#include "server/text/schema/table_finisher.h"

namespace latentd {

namespace {

using Kind = SchemaValue::Kind;
using NodeKind = SchemaNode::Kind;

constexpr std::size_t kMaxMergedParts = 200000;  // members and items of merged schemas
constexpr int kMaxReferences = 64;               // followed one after the other

class Compiler {
 public:
  explicit Compiler(const SchemaValue& document) : document_(document) {
    true_schema_.kind = Kind::kBool;
    true_schema_.boolean = true;
  }

  Result<ProgramTables> run() {
    tables_.root = value(document_, "#");
    while (!waiting_.empty()) {
      const Work work = std::move(waiting_.back());
      waiting_.pop_back();
      if (draft_.items.size() > kMaxSchemaValues) return refuse("#", "too many places");
      LATENTD_RETURN_IF_ERROR(compile(work));
    }
    LATENTD_RETURN_IF_ERROR(finish_tables(draft_, tables_));
    if (tables_.values[tables_.root].need == kNoNeed) {
      return refuse("#", fmt::format("no value of at most {} levels satisfies it", kMaxValueDepth));
    }
    return std::move(tables_);
  }

 private:
  struct Work {
    ValueId id;
    const SchemaValue* schema;
    std::string path;
  };

  static Status refuse(const std::string& path, std::string_view what) {
    return {StatusCode::kInvalidArgument, fmt::format("schema at \"{}\": {}", path, what)};
  }
  // An error of a part that does not know where it is.
  static Status place(const std::string& path, const Status& status) {
    return refuse(path, status.message());
  }

  ValueId value(const SchemaValue& schema, std::string path) {
    const auto [found, added] =
        known_.try_emplace(&schema, static_cast<ValueId>(draft_.items.size()));
    if (added) {
      draft_.items.emplace_back();
      waiting_.push_back({found->second, &schema, std::move(path)});
    }
    return found->second;
  }
  // The same for a schema that was made here: one of the same text is the same place. Without this,
  // a recursion through a merged schema would never close.
  ValueId made_value(const SchemaValue& schema, const std::string& path) {
    const auto [found, added] = made_values_.try_emplace(spell(schema), 0);
    if (added) found->second = value(schema, path);
    return found->second;
  }
  void add_value(ValueId to, ValueId alternative) {
    draft_.items[to].push_back({true, alternative});
  }
  void add_node(ValueId to, NodeId node) { draft_.items[to].push_back({false, node}); }

  Result<const SchemaValue*> keep(Result<SchemaValue> made, const std::string& path) {
    if (!made.ok()) return place(path, made.status());
    merged_parts_ += parts_of(*made);
    if (merged_parts_ > kMaxMergedParts) return refuse(path, "too many combinations");
    return &made_.emplace_back(*std::move(made));
  }

  // Follows "$ref" until there is none beside other keywords or alone.
  Result<const SchemaValue*> dereference(const SchemaValue* schema, const std::string& path) {
    for (int i = 0; i < kMaxReferences; ++i) {
      const SchemaValue* reference = schema->find("$ref");
      if (reference == nullptr) return schema;
      LATENTD_ASSIGN_OR_RETURN(const SchemaValue* target, target_of(*reference, path));
      SchemaValue others = without(*schema, "$ref");
      if (others.keys.empty()) {
        schema = target;
        continue;
      }
      // The target's own reference is followed in the next round.
      if (target->find("$ref") != nullptr) {
        LATENTD_ASSIGN_OR_RETURN(target, dereference_once(target, path, i));
      }
      LATENTD_ASSIGN_OR_RETURN(schema, keep(merge_schemas(others, *target), path));
    }
    return refuse(path, "\"$ref\" leads to itself");
  }
  Result<const SchemaValue*> dereference_once(const SchemaValue* schema, const std::string& path,
                                              int depth) {
    if (depth + reference_depth_ > kMaxReferences) return refuse(path, "\"$ref\" leads to itself");
    ++reference_depth_;
    Result<const SchemaValue*> result = dereference(schema, path);
    --reference_depth_;
    return result;
  }

  Result<const SchemaValue*> target_of(const SchemaValue& reference, const std::string& path) {
    const SchemaValue* target =
        reference.is(Kind::kString) ? resolve_reference(document_, reference.text) : nullptr;
    if (target == nullptr) {
      return refuse(child_path(path, "$ref"), "must be # or #/... and name a schema in here");
    }
    return target;
  }

  // Its keywords but `keyword`, and but annotations.
  static SchemaValue without(const SchemaValue& schema, std::string_view keyword) {
    SchemaValue rest = SchemaValue::object();
    for (std::size_t i = 0; i < schema.keys.size(); ++i) {
      if (schema.keys[i] == keyword || is_annotation(schema.keys[i])) continue;
      rest.keys.push_back(schema.keys[i]);
      rest.children.push_back(schema.children[i]);
    }
    return rest;
  }

  Status compile(const Work& work) {
    const SchemaValue& schema = *work.schema;
    if (schema.is(Kind::kBool))
      return schema.boolean ? compile_types(work, kAllTypes) : ok_status();
    if (!schema.is(Kind::kObject)) return refuse(work.path, "must be an object, true or false");
    LATENTD_RETURN_IF_ERROR(check_keywords(work));
    const SchemaValue* nullable = schema.find("nullable");
    if (nullable != nullptr && nullable->boolean) {
      LATENTD_RETURN_IF_ERROR(add_literals(work.id, {"null"}));
      LATENTD_ASSIGN_OR_RETURN(const SchemaValue* rest,
                               keep(without(schema, "nullable"), work.path));
      add_value(work.id, made_value(*rest, work.path));
      return ok_status();
    }
    if (const SchemaValue* reference = schema.find("$ref")) return compile_ref(work, *reference);
    if (const SchemaValue* parts = schema.find("allOf")) return compile_all_of(work, *parts);
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (const SchemaValue* parts = schema.find(keyword)) {
        return compile_any_of(work, keyword, *parts);
      }
    }
    if (schema.find("enum") != nullptr || schema.find("const") != nullptr) {
      return compile_enum(work);
    }
    LATENTD_ASSIGN_OR_RETURN(const unsigned types, types_of(work));
    return compile_types(work, types);
  }

  Status check_keywords(const Work& work) const {
    for (std::size_t i = 0; i < work.schema->keys.size(); ++i) {
      const std::string& key = work.schema->keys[i];
      if (is_annotation(key)) continue;
      const SchemaValue& argument = work.schema->children[i];
      const auto keywords = schema_keywords();
      const bool known = std::any_of(keywords.begin(), keywords.end(),
                                     [&key](const SchemaKeyword& k) { return k.name == key; });
      const bool must_be_false = key == "uniqueItems" || key == "unevaluatedProperties";
      if (!known) {
        return refuse(child_path(work.path, key), "this keyword is not supported");
      }
      if (must_be_false && (!argument.is(Kind::kBool) || argument.boolean)) {
        return refuse(child_path(work.path, key), "is supported as false only");
      }
      if (key == "nullable" && !argument.is(Kind::kBool)) {
        return refuse(child_path(work.path, key), "must be true or false");
      }
    }
    return ok_status();
  }

  Status compile_ref(const Work& work, const SchemaValue& reference) {
    if (without(*work.schema, "$ref").keys.empty()) {
      LATENTD_ASSIGN_OR_RETURN(const SchemaValue* target, target_of(reference, work.path));
      add_value(work.id, value(*target, reference.text.substr(0, kMaxPath)));
      return ok_status();
    }
    LATENTD_ASSIGN_OR_RETURN(const SchemaValue* merged, dereference(work.schema, work.path));
    add_value(work.id, made_value(*merged, work.path));
    return ok_status();
  }

  Status compile_all_of(const Work& work, const SchemaValue& parts) {
    if (!parts.is(Kind::kArray) || parts.children.empty()) {
      return refuse(child_path(work.path, "allOf"), "must be a list of schemas");
    }
    SchemaValue all = without(*work.schema, "allOf");
    if (all.keys.empty() && parts.children.size() == 1) {
      add_value(work.id, value(parts.children[0], child_path(child_path(work.path, "allOf"), "0")));
      return ok_status();
    }
    for (const SchemaValue& part : parts.children) {
      LATENTD_ASSIGN_OR_RETURN(const SchemaValue* target, dereference(&part, work.path));
      LATENTD_ASSIGN_OR_RETURN(const SchemaValue* merged,
                               keep(merge_schemas(all, *target), child_path(work.path, "allOf")));
      all = *merged;
    }
    LATENTD_ASSIGN_OR_RETURN(const SchemaValue* kept, keep(std::move(all), work.path));
    add_value(work.id, made_value(*kept, work.path));
    return ok_status();
  }

  Status compile_any_of(const Work& work, const std::string& keyword, const SchemaValue& parts) {
    const std::string path = child_path(work.path, keyword);
    if (!parts.is(Kind::kArray) || parts.children.empty()) {
      return refuse(path, "must be a list of schemas");
    }
    const SchemaValue rest = without(*work.schema, keyword);
    for (std::size_t i = 0; i < parts.children.size(); ++i) {
      const SchemaValue* part = &parts.children[i];
      const std::string part_path = child_path(path, std::to_string(i));
      if (!rest.keys.empty()) {
        LATENTD_ASSIGN_OR_RETURN(part, dereference(part, part_path));
        LATENTD_ASSIGN_OR_RETURN(part, keep(merge_schemas(rest, *part), part_path));
      }
      add_value(work.id,
                rest.keys.empty() ? value(*part, part_path) : made_value(*part, part_path));
    }
    return ok_status();
  }

  Result<unsigned> types_of(const Work& work) const {
    unsigned types = 0;
    const SchemaValue* type = work.schema->find("type");
    if (type == nullptr) {
      for (const SchemaKeyword& keyword : schema_keywords()) {
        if (work.schema->find(keyword.name) != nullptr) types |= keyword.implies;
      }
      return types == 0 ? kAllTypes : types;
    }
    const bool list = type->is(Kind::kArray);
    for (std::size_t i = 0; i < (list ? type->children.size() : 1); ++i) {
      const SchemaValue& name = list ? type->children[i] : *type;
      const unsigned bit = name.is(Kind::kString) ? type_bit(name.text) : 0;
      if (bit == 0) return refuse(child_path(work.path, "type"), "names a type that is none");
      types |= bit;
    }
    return types;
  }

  Status compile_enum(const Work& work) {
    const SchemaValue& schema = *work.schema;
    for (const std::string& key : schema.keys) {
      if (is_annotation(key) || key == "type" || key == "enum" || key == "const") continue;
      if (key == "nullable") continue;
      return refuse(child_path(work.path, key), "is not supported beside enum or const");
    }
    unsigned types = kAllTypes;
    if (schema.find("type") != nullptr) {
      LATENTD_ASSIGN_OR_RETURN(types, types_of(work));
    }
    const SchemaValue* list = schema.find("enum");
    const SchemaValue* constant = schema.find("const");
    if (list != nullptr && !list->is(Kind::kArray)) {
      return refuse(child_path(work.path, "enum"), "must be a list");
    }
    std::vector<std::string> texts;
    if (list == nullptr) {
      if ((type_of(*constant) & types) != 0) texts.push_back(spell(*constant));
      return add_literals(work.id, std::move(texts));
    }
    for (const SchemaValue& choice : list->children) {
      const std::string text = spell(choice);
      const bool chosen = constant == nullptr || spell(*constant) == text;
      if (chosen && (type_of(choice) & types) != 0) texts.push_back(text);
    }
    return add_literals(work.id, std::move(texts));
  }

  Status add_literals(ValueId to, std::vector<std::string> texts) {
    return add_scalar(to, literal_dfa(std::move(texts))).status();
  }

  Result<NodeId> add_scalar(ValueId to, const DraftDfa& dfa) {
    LATENTD_ASSIGN_OR_RETURN(const std::uint32_t start, tables_.dfa.add(dfa));
    SchemaNode node;
    node.kind = NodeKind::kScalar;
    node.start = start;
    node.need = start == DfaPool::kNone ? kNoNeed : 0;
    const NodeId id = new_node(node);
    add_node(to, id);
    return id;
  }

  NodeId new_node(const SchemaNode& node) {
    tables_.nodes.push_back(node);
    return static_cast<NodeId>(tables_.nodes.size() - 1);
  }

  Status compile_types(const Work& work, unsigned types) {
    std::vector<std::string> literals;
    if ((types & kNullType) != 0) literals.emplace_back("null");
    if ((types & kBooleanType) != 0) literals.insert(literals.end(), {"true", "false"});
    if (!literals.empty()) LATENTD_RETURN_IF_ERROR(add_literals(work.id, std::move(literals)));
    if ((types & (kNumberType | kIntegerType)) != 0) {
      LATENTD_RETURN_IF_ERROR(compile_number(work, (types & kNumberType) == 0));
    }
    if ((types & kStringType) != 0) LATENTD_RETURN_IF_ERROR(compile_string(work));
    if ((types & kArrayType) != 0) LATENTD_RETURN_IF_ERROR(compile_array(work));
    if ((types & kObjectType) != 0) LATENTD_RETURN_IF_ERROR(compile_object(work));
    return ok_status();
  }

  // A scalar that other places have too is made once.
  template <typename Make>
  Status add_shared_scalar(const Work& work, const std::string& key, const Make& make) {
    const auto found = shared_.find(key);
    if (found != shared_.end()) {
      add_node(work.id, found->second);
      return ok_status();
    }
    const Result<DraftDfa> dfa = make();
    if (!dfa.ok()) return place(work.path, dfa.status());
    const Result<NodeId> node = add_scalar(work.id, *dfa);
    if (!node.ok()) return place(work.path, node.status());
    shared_.emplace(key, *node);
    return ok_status();
  }

  Result<std::optional<NumberBound>> bound(const Work& work, const char* keyword, bool exclusive) {
    const SchemaValue* limit = work.schema->find(keyword);
    if (limit == nullptr) return std::optional<NumberBound>();
    if (!limit->is(Kind::kNumber))
      return refuse(child_path(work.path, keyword), "must be a number");
    const Result<Decimal> decimal = parse_decimal(limit->text);
    if (!decimal.ok()) return place(child_path(work.path, keyword), decimal.status());
    return std::optional<NumberBound>(NumberBound{*decimal, exclusive});
  }

  Status compile_number(const Work& work, bool integer) {
    NumberRange range;
    range.integer = integer;
    LATENTD_ASSIGN_OR_RETURN(range.low, bound(work, "minimum", false));
    LATENTD_ASSIGN_OR_RETURN(range.high, bound(work, "maximum", false));
    LATENTD_ASSIGN_OR_RETURN(const auto above, bound(work, "exclusiveMinimum", true));
    LATENTD_ASSIGN_OR_RETURN(const auto below, bound(work, "exclusiveMaximum", true));
    const auto text = [&work](const char* keyword) {
      const SchemaValue* limit = work.schema->find(keyword);
      return limit == nullptr ? std::string() : limit->text;
    };
    // Of two bounds on one side the stricter counts; at the same number that is the exclusive one.
    if (above && !(range.low && number_less(text("exclusiveMinimum"), text("minimum")))) {
      range.low = above;
    }
    if (below && !(range.high && number_less(text("maximum"), text("exclusiveMaximum")))) {
      range.high = below;
    }
    const std::string key =
        fmt::format("number {} {} {} {} {}", integer, text("minimum"), text("exclusiveMinimum"),
                    text("maximum"), text("exclusiveMaximum"));
    return add_shared_scalar(work, key,
                             [&range]() -> Result<DraftDfa> { return number_dfa(range); });
  }

  // A count: `when_absent`, or what is there; kNoLimit where it is beyond what counts here.
  Result<std::uint32_t> count(const Work& work, const char* keyword, std::uint32_t when_absent) {
    const SchemaValue* limit = work.schema->find(keyword);
    if (limit == nullptr) return when_absent;
    const std::string& text = limit->text;
    if (!limit->is(Kind::kNumber) || text.find_first_not_of("0123456789") != std::string::npos) {
      return refuse(child_path(work.path, keyword), "must be a whole number, not negative");
    }
    if (text.size() > 9) return kNoLimit;
    return static_cast<std::uint32_t>(std::stoul(text));
  }

  Status compile_string(const Work& work) {
    LATENTD_ASSIGN_OR_RETURN(const std::uint32_t min, count(work, "minLength", 0));
    LATENTD_ASSIGN_OR_RETURN(const std::uint32_t max, count(work, "maxLength", kNoLimit));
    const SchemaValue* pattern = work.schema->find("pattern");
    const SchemaValue* format = work.schema->find("format");
    if (pattern != nullptr && format != nullptr) {
      return refuse(child_path(work.path, "pattern"), "is not supported beside format");
    }
    if (pattern == nullptr && format == nullptr) {
      SchemaNode node;
      node.kind = NodeKind::kString;
      node.need = min > max || min == kNoLimit ? kNoNeed : 0;
      node.min = min;
      node.max = max;
      add_node(work.id, new_node(node));
      return ok_status();
    }
    const char* keyword = pattern != nullptr ? "pattern" : "format";
    const SchemaValue& argument = pattern != nullptr ? *pattern : *format;
    if (!argument.is(Kind::kString)) {
      return refuse(child_path(work.path, keyword), "must be a string");
    }
    const auto expression = pattern != nullptr ? std::optional<std::string_view>(argument.text)
                                               : format_pattern(argument.text);
    if (!expression) {
      return refuse(child_path(work.path, keyword),
                    fmt::format("the format \"{:.40}\" is not supported", argument.text));
    }
    const Work here{work.id, work.schema, child_path(work.path, keyword)};
    return add_shared_scalar(here, fmt::format("text {} {} {}", min, max, *expression),
                             [&] { return pattern_dfa(*expression, min, max); });
  }

  Status compile_array(const Work& work) {
    SchemaNode node;
    node.kind = NodeKind::kArray;
    LATENTD_ASSIGN_OR_RETURN(node.min, count(work, "minItems", 0));
    LATENTD_ASSIGN_OR_RETURN(node.max, count(work, "maxItems", kNoLimit));
    node.first = static_cast<std::uint32_t>(tables_.prefixes.size());
    if (const SchemaValue* prefix = work.schema->find("prefixItems")) {
      const std::string path = child_path(work.path, "prefixItems");
      if (!prefix->is(Kind::kArray)) return refuse(path, "must be a list of schemas");
      node.count = static_cast<std::uint32_t>(prefix->children.size());
      for (std::size_t i = 0; i < prefix->children.size(); ++i) {
        tables_.prefixes.push_back(value(prefix->children[i], child_path(path, std::to_string(i))));
      }
    }
    const SchemaValue* items = work.schema->find("items");
    if (items != nullptr) {
      node.rest = value(*items, child_path(work.path, "items"));
    } else if (node.count == 0) {
      node.rest = value(true_schema_, "#");
    }
    add_node(work.id, new_node(node));
    return ok_status();
  }

  Status compile_object(const Work& work) {
    SchemaNode node;
    node.kind = NodeKind::kObject;
    const SchemaValue* properties = work.schema->find("properties");
    const SchemaValue* others = work.schema->find("additionalProperties");
    const bool closed_by_default =
        properties != nullptr || work.schema->find("unevaluatedProperties") != nullptr;
    if (others != nullptr) {
      const bool closed = others->is(Kind::kBool) && !others->boolean;
      if (!closed) node.rest = value(*others, child_path(work.path, "additionalProperties"));
    } else if (!closed_by_default) {
      node.rest = value(true_schema_, "#");
    }
    std::vector<std::string> names;
    std::vector<SchemaProperty> found;
    if (properties != nullptr) {
      const std::string path = child_path(work.path, "properties");
      if (!properties->is(Kind::kObject)) return refuse(path, "must be an object");
      names = properties->keys;
      for (std::size_t i = 0; i < names.size(); ++i) {
        found.emplace_back().value = value(properties->children[i], child_path(path, names[i]));
      }
    }
    LATENTD_RETURN_IF_ERROR(add_required(work, node, names, found));
    for (const std::string& name : names) {
      if (std::any_of(name.begin(), name.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
        return refuse(work.path, "a property name with a control character");
      }
    }
    node.first = static_cast<std::uint32_t>(tables_.properties.size());
    node.count = static_cast<std::uint32_t>(found.size());
    tables_.properties.insert(tables_.properties.end(), found.begin(), found.end());
    const NodeId id = new_node(node);
    draft_.objects.push_back({id, std::move(names)});
    add_node(work.id, id);
    return ok_status();
  }

  Status add_required(const Work& work, const SchemaNode& node, std::vector<std::string>& names,
                      std::vector<SchemaProperty>& found) {
    const SchemaValue* required = work.schema->find("required");
    if (required == nullptr) return ok_status();
    const std::string path = child_path(work.path, "required");
    if (!required->is(Kind::kArray)) return refuse(path, "must be a list of names");
    std::map<std::string_view, std::size_t> places;
    std::deque<std::string> more;
    for (std::size_t i = 0; i < names.size(); ++i) places.emplace(names[i], i);
    for (const SchemaValue& name : required->children) {
      if (!name.is(Kind::kString)) return refuse(path, "must be a list of names");
      const auto [place, undeclared] = places.try_emplace(name.text, found.size());
      if (undeclared) {
        const SchemaValue* others = work.schema->find("additionalProperties");
        const bool closed = others != nullptr || work.schema->find("unevaluatedProperties");
        if (closed && node.rest == kNoValue) {
          return refuse(path, fmt::format("\"{:.80}\" is not one of the properties", name.text));
        }
        more.push_back(name.text);
        found.emplace_back().value = node.rest != kNoValue ? node.rest : value(true_schema_, "#");
      }
      found[place->second].required = true;
    }
    names.insert(names.end(), more.begin(), more.end());
    return ok_status();
  }

  const SchemaValue& document_;
  SchemaValue true_schema_;
  ProgramTables tables_;
  DraftTables draft_;
  std::map<const SchemaValue*, ValueId> known_;
  std::map<std::string, ValueId> made_values_;
  std::map<std::string, NodeId> shared_;
  std::deque<SchemaValue> made_;
  std::size_t merged_parts_ = 0;
  int reference_depth_ = 0;
  std::vector<Work> waiting_;
};

}  // namespace

Result<ProgramTables> compile_schema(const SchemaValue& document) {
  return Compiler(document).run();
}

}  // namespace latentd
