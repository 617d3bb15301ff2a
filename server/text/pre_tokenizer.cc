#include "server/text/pre_tokenizer.h"

namespace latentd {

namespace {

void cut(const PreTokenizer::Step& step, std::string_view piece, PreTokenizer::Scratch& scratch,
         std::vector<std::string_view>& out) {
  step.regex->find_all(piece, scratch.regex, scratch.matches);
  std::size_t at = 0;
  for (const Regex::Match& match : scratch.matches) {
    if (match.begin > at && !step.drop_others) out.push_back(piece.substr(at, match.begin - at));
    if (!step.drop_matches) out.push_back(piece.substr(match.begin, match.end - match.begin));
    at = match.end;
  }
  if (at < piece.size() && !step.drop_others) out.push_back(piece.substr(at));
}

}  // namespace

void PreTokenizer::split(std::string_view text, Scratch& scratch,
                         std::vector<std::string_view>& pieces) const {
  scratch.prefixed.clear();
  pieces.clear();
  if (!text.empty()) pieces.push_back(text);
  for (const Step& step : steps_) {
    if (step.add_prefix_space) {
      for (std::string_view& piece : pieces) {
        if (piece.front() == ' ') continue;
        piece = scratch.prefixed.emplace_back(" ").append(piece);
      }
    }
    if (!step.regex) continue;
    scratch.before.swap(pieces);
    pieces.clear();
    for (const std::string_view piece : scratch.before) cut(step, piece, scratch, pieces);
  }
}

}  // namespace latentd
