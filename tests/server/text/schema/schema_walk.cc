// What Python asks of the schema compiler: lines of commands in, one line of answer each.
//
//   schema_walk TOKENIZER.json < commands
//   walk SEED MAX_TOKENS SCHEMA   -> text that random allowed tokens made | refused MESSAGE | long
//   admit SEED SCHEMA \t DOCUMENT -> yes | no | refused MESSAGE   (one line of JSON each)
//   time SCHEMA \t DOCUMENT       -> milliseconds of its masks, for two new constraints
// The document is cut at random into tokens of the vocabulary ("time": as the tokenizer does).

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "server/text/schema/json_constraint.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

class Answerer {
 public:
  explicit Answerer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    const auto begin = Clock::now();
    trie_ = VocabularyTrie::build(tokenizer);
    std::fprintf(stderr, "%d tokens, %u nodes, built in %.1f ms\n", tokenizer.vocab_size(),
                 trie_->num_nodes(), milliseconds(begin));
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      if (tokenizer.is_special(id)) eos_ = id;
    }
    words_.resize(static_cast<std::size_t>(tokenizer.vocab_size() + 31) / 32);
  }

  std::string answer(const std::string& line) {
    std::istringstream in(line);
    std::string command;
    unsigned seed = 0;
    in >> command;
    if (command != "time") in >> seed;
    std::size_t max_tokens = 0;
    if (command == "walk") in >> max_tokens;
    std::string rest;
    std::getline(in >> std::ws, rest);
    const std::size_t tab = rest.find('\t');
    const auto program = SchemaProgram::compile(rest.substr(0, tab));
    if (!program.ok()) return "refused " + program.status().message();
    const auto constraint = make_json_constraint(*program, trie_, {eos_});
    if (command == "walk") return walk(*constraint, seed, max_tokens);
    const std::string document = tab == std::string::npos ? "" : rest.substr(tab + 1);
    if (command == "admit") return admit(*constraint, seed, document);
    return time(*program, *constraint, document);
  }

 private:
  static double milliseconds(Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  }
  bool allows(TokenId token) const {
    const auto bit = static_cast<std::size_t>(token);
    return (words_[bit / 32] >> (bit % 32) & 1) != 0;
  }

  std::string walk(TokenConstraint& constraint, unsigned seed, std::size_t max_tokens) {
    std::mt19937 random(seed);
    std::string text;
    for (std::size_t i = 0; !constraint.complete(); ++i) {
      if (i >= max_tokens) return "long";
      constraint.fill_mask(words_);
      std::vector<TokenId> may;
      for (TokenId id = 0; id < tokenizer_.vocab_size(); ++id) {
        if (allows(id)) may.push_back(id);
      }
      if (may.empty()) return "stuck after " + text;
      // The end, and what closes something, are drawn more often: texts end.
      TokenId token = may[random() % may.size()];
      for (int tries = 0; tries < 8 && tokenizer_.token_bytes(token).size() > 3; ++tries) {
        token = may[random() % may.size()];
      }
      if (allows(eos_) && random() % 2 == 0) token = eos_;
      for (const char* close : {"\"", "}", "]"}) {
        const std::vector<TokenId> ids = tokenizer_.encode(close, false);
        if (ids.size() == 1 && allows(ids[0]) && random() % 3 == 0) token = ids[0];
      }
      if (!constraint.accept(token)) return "the mask allowed what accept refused after " + text;
      if (token != eos_) text += tokenizer_.token_bytes(token);
    }
    // An answer is one line; outside of strings, where there is none, a line feed is a space.
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
  }

  std::string admit(TokenConstraint& constraint, unsigned seed, std::string_view document) {
    std::mt19937 random(seed);
    while (!document.empty()) {
      const std::size_t most = std::min<std::size_t>(document.size(), 1 + random() % 24);
      // The first token of a piece of the text; pieces end anywhere.
      const TokenId token = first_token(document.substr(0, most));
      constraint.fill_mask(words_);
      if (!allows(token)) return "no";
      if (!constraint.accept(token)) return "the mask allowed what accept refused";
      document.remove_prefix(tokenizer_.token_bytes(token).size());
    }
    if (constraint.complete()) return "yes";
    constraint.fill_mask(words_);
    return allows(eos_) && constraint.accept(eos_) && constraint.complete() ? "yes" : "no";
  }

  // The longest token that `text` begins with.
  TokenId first_token(std::string_view text) const {
    TokenId best = -1;
    std::uint32_t node = 0;
    for (const char c : text) {
      std::uint32_t child = node + 1;
      while (child < trie_->end(node) && trie_->byte(child) != static_cast<std::uint8_t>(c)) {
        child = trie_->end(child);
      }
      if (child >= trie_->end(node)) break;
      node = child;
      if (!trie_->tokens(node).empty()) best = trie_->tokens(node)[0];
    }
    return best;
  }

  std::string time(const std::shared_ptr<const SchemaProgram>& program, TokenConstraint& constraint,
                   const std::string& document) {
    const std::vector<TokenId> tokens = tokenizer_.encode(document, false);
    const std::vector<double> cold = times(constraint, tokens);
    const auto again = make_json_constraint(program, trie_, {eos_});
    const std::vector<double> second = times(*again, tokens);
    const auto line = [](std::vector<double> ms) {
      const double first = ms.empty() ? 0 : ms[0];
      std::sort(ms.begin(), ms.end());
      char out[160];
      std::snprintf(out, sizeof(out), "first %.3f largest %.3f median %.4f p90 %.4f of %zu", first,
                    ms.back(), ms[ms.size() / 2], ms[ms.size() * 9 / 10], ms.size());
      return std::string(out);
    };
    return line(cold) + " | " + line(second);
  }

  std::vector<double> times(TokenConstraint& constraint, const std::vector<TokenId>& tokens) {
    std::vector<double> out;
    for (const TokenId token : tokens) {
      const auto begin = Clock::now();
      constraint.fill_mask(words_);
      out.push_back(milliseconds(begin));
      if (!constraint.accept(token)) break;
    }
    return out;
  }

  const Tokenizer& tokenizer_;
  std::shared_ptr<const VocabularyTrie> trie_;
  TokenId eos_ = 0;
  std::vector<std::uint32_t> words_;
};

int run(const char* path) {
  const auto tokenizer = Tokenizer::load(path);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().to_string().c_str());
    return 1;
  }
  Answerer answerer(**tokenizer);
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answerer.answer(line) << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) { return argc == 2 ? latentd::run(argv[1]) : 2; }
