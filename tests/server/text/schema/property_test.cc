// Random schemas, each with a predicate and a source of documents: what random allowed tokens make
// satisfies the predicate, and what the source makes is admitted however it is cut.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/text/schema/schema_harness.h"

namespace latentd::testing {
namespace {

// Keeps the order of properties, as a schema's author wrote them.
using Json = nlohmann::ordered_json;

struct Drawn {
  Json schema;
  std::function<bool(const Json&)> valid;
  std::function<Json()> make;
};

class Source {
 public:
  explicit Source(unsigned seed) : random_(seed) {}

  Drawn draw(int depth) {
    switch (depth > 0 ? below(6) : below(3)) {
      case 0:
        return integer();
      case 1:
        return text();
      case 2:
        return literal();
      case 3:
        return array(depth);
      case 4:
        return object(depth);
      default:
        return any_of(depth);
    }
  }

  std::mt19937& random() { return random_; }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

  Drawn integer() {
    const int low = below(3000) - 1500;
    const int high = low + below(2000);
    return {{{"type", "integer"}, {"minimum", low}, {"maximum", high}},
            [low, high](const Json& v) {
              return v.is_number_integer() && v.get<long>() >= low && v.get<long>() <= high;
            },
            [this, low, high] { return Json(low + below(high - low + 1)); }};
  }

  Drawn text() {
    const int least = below(4);
    const int most = least + below(5);
    return {{{"type", "string"}, {"minLength", least}, {"maxLength", most}},
            [least, most](const Json& v) {
              if (!v.is_string()) return false;
              int characters = 0;
              for (const char c : v.get<std::string>()) {
                characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
              }
              return characters >= least && characters <= most;
            },
            [this, least, most] {
              static constexpr const char* kCharacters[] = {"a", "é", "日", "😀", "\"", "\\", "\n"};
              std::string out;
              const int count = least + below(most - least + 1);
              for (int i = 0; i < count; ++i) out += kCharacters[below(7)];
              return Json(out);
            }};
  }

  Drawn literal() {
    static const Json kChoices = {"a", "ab", "abc", 1, 12, nullptr, true, "é\"", -3};
    Json some = Json::array();
    for (const Json& choice : kChoices) {
      if (some.empty() || below(2) == 0) some.push_back(choice);
    }
    return {{{"enum", some}},
            [some](const Json& v) { return std::find(some.begin(), some.end(), v) != some.end(); },
            [this, some] {
              return some[static_cast<std::size_t>(below(static_cast<int>(some.size())))];
            }};
  }

  Drawn array(int depth) {
    const Drawn item = draw(depth - 1);
    const std::size_t least = static_cast<std::size_t>(below(3));
    const std::size_t most = least + static_cast<std::size_t>(below(3));
    return {{{"type", "array"}, {"items", item.schema}, {"minItems", least}, {"maxItems", most}},
            [=](const Json& v) {
              return v.is_array() && v.size() >= least && v.size() <= most &&
                     std::all_of(v.begin(), v.end(), item.valid);
            },
            [=, this] {
              Json out = Json::array();
              const std::size_t count =
                  least + static_cast<std::size_t>(below(static_cast<int>(most - least) + 1));
              for (std::size_t i = 0; i < count; ++i) out.push_back(item.make());
              return out;
            }};
  }

  Drawn object(int depth) {
    static constexpr const char* kNames[] = {"a", "ab", "name", "é", "kind"};
    std::vector<std::pair<std::string, Drawn>> parts;
    Json required = Json::array();
    Json properties = Json::object();
    for (const char* name : kNames) {
      if (below(2) == 0) continue;
      parts.emplace_back(name, draw(depth - 1));
      properties[name] = parts.back().second.schema;
      if (below(2) == 0) required.push_back(name);
    }
    return {
        {{"type", "object"}, {"properties", properties}, {"required", required}},
        [=](const Json& v) {
          if (!v.is_object()) return false;
          std::size_t known = 0;
          for (const auto& [name, part] : parts) {
            if (!v.contains(name)) continue;
            if (!part.valid(v[name])) return false;
            ++known;
          }
          return known == v.size() &&
                 std::all_of(required.begin(), required.end(),
                             [&](const Json& name) { return v.contains(name.get<std::string>()); });
        },
        [=, this] {
          Json out = Json::object();
          for (const auto& [name, part] : parts) {
            const bool must = std::find(required.begin(), required.end(), name) != required.end();
            if (must || below(2) == 0) out[name] = part.make();
          }
          return out;
        }};
  }

  Drawn any_of(int depth) {
    std::vector<Drawn> parts;
    Json schemas = Json::array();
    for (int i = 0; i <= below(3); ++i) {
      parts.push_back(draw(depth - 1));
      schemas.push_back(parts.back().schema);
    }
    return {{{"anyOf", schemas}},
            [=](const Json& v) {
              return std::any_of(parts.begin(), parts.end(),
                                 [&v](const Drawn& part) { return part.valid(v); });
            },
            [=, this] {
              return parts[static_cast<std::size_t>(below(static_cast<int>(parts.size())))].make();
            }};
  }

  std::mt19937 random_;
};

// Random allowed tokens up to the end; empty when it takes too many.
std::string walk(TokenConstraint& constraint, std::mt19937& random) {
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    const std::vector<TokenId> may = allowed(constraint, vocabulary().num_words());
    if (may.empty()) return "stuck: " + text;
    const TokenId token = may[random() % may.size()];
    if (!constraint.accept(token)) return "refused: " + text;
    if (token != vocabulary().eos()) text += vocabulary().bytes(token);
    if (constraint.complete()) return text;
  }
  return "";
}

TEST(SchemaProperties, RandomTokensMakeWhatIsValid) {
  const unsigned seed = 11;
  std::printf("seed %u\n", seed);
  Source source(seed);
  int made = 0;
  for (int i = 0; i < 150; ++i) {
    const Drawn drawn = source.draw(3);
    const std::string schema = drawn.schema.dump();
    for (int k = 0; k < 3; ++k) {
      const auto constraint = constrain(schema);
      const std::string text = walk(*constraint, source.random());
      if (text.empty()) continue;
      const Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
      ASSERT_FALSE(value.is_discarded()) << text << "\n" << schema;
      ASSERT_TRUE(drawn.valid(value)) << text << "\n" << schema;
      ++made;
    }
  }
  EXPECT_GT(made, 300);
}

TEST(SchemaProperties, ValidDocumentsAreAdmitted) {
  const unsigned seed = 12;
  std::printf("seed %u\n", seed);
  Source source(seed);
  for (int i = 0; i < 150; ++i) {
    const Drawn drawn = source.draw(3);
    const std::string schema = drawn.schema.dump();
    for (unsigned k = 0; k < 2; ++k) {
      const Json document = drawn.make();
      ASSERT_TRUE(drawn.valid(document)) << document << "\n" << schema;
      ASSERT_TRUE(admits(schema, document.dump(), k)) << document << "\n" << schema;
    }
  }
}

}  // namespace
}  // namespace latentd::testing
