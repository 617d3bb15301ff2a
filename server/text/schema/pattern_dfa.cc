#include "server/text/schema/pattern_dfa.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/text/schema/json_string.h"
#include "server/text/schema/pattern_parser.h"

namespace latentd {

namespace {

constexpr std::uint32_t kNone = DfaPool::kNone;

struct Transition {
  char32_t first;
  char32_t last;
  std::uint32_t target;
};

struct CharState {
  bool accept = false;
  std::vector<Transition> moves;  // ascending, apart
};

Status too_large() { return {StatusCode::kInvalidArgument, "pattern: needs too many states"}; }

// Thompson's construction.
struct Nfa {
  struct State {
    int set = -1;  // one character of sets[set] to `next`; -1: nothing, to `next` and `other`
    std::uint32_t next = kNone;
    std::uint32_t other = kNone;
  };
  std::vector<State> states;
  std::vector<CharSet> sets;

  std::uint32_t add(State state) {
    states.push_back(state);
    return static_cast<std::uint32_t>(states.size() - 1);
  }

  // Builds `node` in front of `out`: returns where it begins, kNone when it is too large.
  std::uint32_t build(const RegexNode& node, std::uint32_t out) {
    if (states.size() > kMaxPatternNfa) return kNone;
    switch (node.kind) {
      case RegexNode::Kind::kSet:
        return add({set_index(node.set), out, kNone});
      case RegexNode::Kind::kConcat:
        for (std::size_t i = node.children.size(); i-- > 0 && out != kNone;) {
          out = build(node.children[i], out);
        }
        return out;
      case RegexNode::Kind::kAlternate:
        return alternate(node, out);
      case RegexNode::Kind::kRepeat:
        return repeat(node, out);
      case RegexNode::Kind::kLookahead:
        break;  // never made by parse_pattern
    }
    return kNone;
  }

 private:
  int set_index(const CharSet& set) {
    for (std::size_t i = 0; i < sets.size(); ++i) {
      if (sets[i].ranges() == set.ranges()) return static_cast<int>(i);
    }
    sets.push_back(set);
    return static_cast<int>(sets.size() - 1);
  }
  std::uint32_t alternate(const RegexNode& node, std::uint32_t out) {
    std::uint32_t begin = kNone;
    for (const RegexNode& child : node.children) {
      const std::uint32_t branch = build(child, out);
      if (branch == kNone) return kNone;
      begin = begin == kNone ? branch : add({-1, branch, begin});
    }
    return begin;
  }
  std::uint32_t repeat(const RegexNode& node, std::uint32_t out) {
    const RegexNode& child = node.children[0];
    std::uint32_t begin = out;
    if (node.max < 0) {
      const std::uint32_t loop = add({-1, kNone, out});
      const std::uint32_t body = build(child, loop);
      if (body == kNone) return kNone;
      states[loop].next = body;
      begin = loop;
    } else {
      for (int i = node.min; i < node.max; ++i) {
        const std::uint32_t body = build(child, begin);
        if (body == kNone) return kNone;
        begin = add({-1, body, out});
      }
    }
    for (int i = 0; i < node.min && begin != kNone; ++i) begin = build(child, begin);
    return begin;
  }
};

// The subset construction, with the number of characters as a part of a state.
class Determiniser {
 public:
  Determiniser(const Nfa& nfa, std::uint32_t accept, std::uint32_t min, std::uint32_t max)
      : nfa_(nfa), accept_(accept), min_(min), max_(max), seen_(nfa.states.size(), 0) {
    std::vector<char32_t> starts{0, 0xD800, 0xE000};
    for (const CharSet& set : nfa.sets) {
      for (const CharSet::Range& range : set.ranges()) {
        starts.push_back(range.first);
        starts.push_back(range.last + 1);
      }
    }
    std::sort(starts.begin(), starts.end());
    starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
    for (const char32_t start : starts) {
      if (start <= kMaxCodePoint && (start < 0xD800 || start >= 0xE000)) starts_.push_back(start);
    }
    for (const CharSet& set : nfa.sets) {
      std::vector<bool>& row = members_.emplace_back();
      for (const char32_t start : starts_) row.push_back(set.contains(start));
    }
  }

  Result<std::vector<CharState>> run(std::uint32_t begin) {
    Key first;
    begin_set();
    close(begin, first.states);
    name(std::move(first));
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      if (work_ > kMaxPatternWork || keys_.size() > kMaxPatternStates) return too_large();
      const Key key = *keys_[i];
      states_[i].accept =
          key.length >= min_ && std::binary_search(key.states.begin(), key.states.end(), accept_);
      if (key.length < max_) LATENTD_RETURN_IF_ERROR(add_moves(i, key));
    }
    return std::move(states_);
  }

 private:
  struct Key {
    std::vector<std::uint32_t> states;  // ascending
    std::uint32_t length = 0;
    bool operator<(const Key& other) const {
      return length != other.length ? length < other.length : states < other.states;
    }
  };

  Status add_moves(std::size_t from, const Key& key) {
    for (std::size_t i = 0; i < starts_.size(); ++i) {
      Key next;
      begin_set();
      for (const std::uint32_t s : key.states) {
        ++work_;
        const Nfa::State& state = nfa_.states[s];
        if (state.set >= 0 && members_[static_cast<std::size_t>(state.set)][i]) {
          close(state.next, next.states);
        }
      }
      if (work_ > kMaxPatternWork) return too_large();
      if (next.states.empty()) continue;
      const std::uint32_t most = max_ == kNoLimit ? min_ : max_;
      next.length = std::min(key.length + 1, most);
      char32_t last = i + 1 < starts_.size() ? starts_[i + 1] - 1 : kMaxCodePoint;
      if (starts_[i] < 0xD800 && last >= 0xD800) last = 0xD7FF;
      const std::uint32_t target = name(std::move(next));
      std::vector<Transition>& moves = states_[from].moves;
      if (!moves.empty() && moves.back().target == target && moves.back().last + 1 == starts_[i]) {
        moves.back().last = last;
      } else {
        moves.push_back({starts_[i], last, target});
      }
    }
    return ok_status();
  }

  void begin_set() { ++stamp_; }
  void close(std::uint32_t state, std::vector<std::uint32_t>& out) {
    waiting_.push_back(state);
    while (!waiting_.empty()) {
      const std::uint32_t s = waiting_.back();
      waiting_.pop_back();
      if (s == kNone || seen_[s] == stamp_) continue;
      seen_[s] = stamp_;
      ++work_;
      const Nfa::State& at = nfa_.states[s];
      // Only what consumes or accepts tells two sets apart.
      if (at.set >= 0 || s == accept_) out.push_back(s);
      if (at.set >= 0) continue;
      waiting_.push_back(at.next);
      waiting_.push_back(at.other);
    }
  }

  std::uint32_t name(Key key) {
    std::sort(key.states.begin(), key.states.end());
    const auto [found, added] =
        names_.try_emplace(std::move(key), static_cast<std::uint32_t>(keys_.size()));
    if (added) {
      keys_.push_back(&found->first);
      states_.emplace_back();
    }
    return found->second;
  }

  const Nfa& nfa_;
  const std::uint32_t accept_;
  const std::uint32_t min_;
  const std::uint32_t max_;
  std::vector<char32_t> starts_;            // of the classes of characters
  std::vector<std::vector<bool>> members_;  // [set][class]
  std::vector<std::uint32_t> seen_;
  std::uint32_t stamp_ = 0;
  std::vector<std::uint32_t> waiting_;
  std::size_t work_ = 0;
  std::map<Key, std::uint32_t> names_;
  std::vector<const Key*> keys_;
  std::vector<CharState> states_;
};

// Characters as the bytes of their canonical JSON spelling.
class Speller {
 public:
  Result<DraftDfa> run(const std::vector<CharState>& states) {
    const std::uint32_t start = draft_.add_state();
    for (std::size_t i = 0; i < states.size(); ++i) draft_.add_state();
    const std::uint32_t end = draft_.add_state();
    draft_.states[end].accept = true;
    draft_.add_edge(start, '"', '"', named(0));
    for (std::size_t i = 0; i < states.size(); ++i) {
      const std::uint32_t from = named(static_cast<std::uint32_t>(i));
      moves_ = &states[i].moves;
      if (states[i].accept) draft_.add_edge(from, '"', '"', end);
      add_ascii(from);
      add_escapes(from);
      for (std::uint32_t lead = 0xC2; lead <= 0xDF; ++lead) {
        add_block(from, lead, (lead & 0x1F) << 6, 1, 0x80);
      }
      for (std::uint32_t lead = 0xE0; lead <= 0xEF; ++lead) {
        add_block(from, lead, (lead & 0x0F) << 12, 2, 0x800);
      }
      for (std::uint32_t lead = 0xF0; lead <= 0xF4; ++lead) {
        add_block(from, lead, (lead & 0x07) << 18, 3, 0x10000);
      }
      if (draft_.states.size() > DfaPool::kMaxStates) return too_large();
    }
    return std::move(draft_);
  }

 private:
  static std::uint32_t named(std::uint32_t char_state) { return char_state + 1; }

  const Transition* first_ending_at_or_after(char32_t c) const {
    const auto found = std::lower_bound(moves_->begin(), moves_->end(), c,
                                        [](const Transition& t, char32_t v) { return t.last < v; });
    return found == moves_->end() ? nullptr : &*found;
  }
  std::uint32_t target_of(char32_t c) const {
    const Transition* move = first_ending_at_or_after(c);
    return move != nullptr && move->first <= c ? named(move->target) : kNone;
  }

  void add_ascii(std::uint32_t from) {
    for (char32_t c = 0x20; c < 0x80; ++c) {
      if (c == U'"' || c == U'\\' || target_of(c) == kNone) continue;
      draft_.add_edge(from, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c),
                      target_of(c));
    }
  }

  // Spelled with a backslash: a small trie of those that are allowed here.
  void add_escapes(std::uint32_t from) {
    std::map<std::string, std::uint32_t> tails;  // a spelling's beginning -> state
    tails[""] = from;
    for (char32_t c = 0; c < 0x60; c = c == 0x1F ? U'"' : c == U'"' ? U'\\' : c + 1) {
      if (c > U'\\') break;
      const std::uint32_t target = target_of(c);
      if (target == kNone) continue;
      std::string text;
      append_json_string(std::string(1, static_cast<char>(c)), text);
      text = text.substr(1, text.size() - 2);
      std::uint32_t state = from;
      for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<std::uint8_t>(text[i]);
        const auto [found, added] = tails.try_emplace(text.substr(0, i + 1), 0);
        if (added) {
          found->second = i + 1 == text.size() ? target : draft_.add_state();
          draft_.add_edge(state, byte, byte, found->second);
        }
        state = found->second;
      }
    }
  }

  // Characters from `low` on whose `missing` last bytes are not read yet, below `from` by `byte`.
  void add_block(std::uint32_t from, std::uint32_t byte, char32_t low, int missing,
                 char32_t least) {
    const std::uint32_t target = block(low, missing, least);
    if (target == kNone) return;
    draft_.add_edge(from, static_cast<std::uint8_t>(byte), static_cast<std::uint8_t>(byte), target);
  }

  std::uint32_t block(char32_t low, int missing, char32_t least) {
    if (missing == 0) return low < least ? kNone : target_of(low);
    const char32_t last = low + (1U << (6 * missing)) - 1;
    const Transition* move = first_ending_at_or_after(std::max(low, least));
    if (move == nullptr || move->first > last) return kNone;
    if (low >= least && move->first <= low && move->last >= last) {
      return uniform(named(move->target), missing);
    }
    const std::uint32_t state = draft_.add_state();
    for (std::uint32_t i = 0; i < 64; ++i) {
      add_block(state, 0x80 + i, low + (i << (6 * (missing - 1))), missing - 1, least);
    }
    return state;
  }

  std::uint32_t uniform(std::uint32_t target, int missing) {
    for (int i = 1; i <= missing; ++i) {
      const auto [found, added] = uniform_.try_emplace({target, i}, 0);
      if (added) {
        const std::uint32_t inner = i == 1 ? target : uniform_.at({target, i - 1});
        found->second = draft_.add_state();
        draft_.add_edge(found->second, 0x80, 0xBF, inner);
      }
    }
    return uniform_.at({target, missing});
  }

  DraftDfa draft_;
  const std::vector<Transition>* moves_ = nullptr;
  std::map<std::pair<std::uint32_t, int>, std::uint32_t> uniform_;
};

}  // namespace

Result<DraftDfa> pattern_dfa(std::string_view pattern, std::uint32_t min_length,
                             std::uint32_t max_length) {
  LATENTD_ASSIGN_OR_RETURN(const std::vector<PatternBranch> branches, parse_pattern(pattern));
  Nfa nfa;
  const std::uint32_t accept = nfa.add({-1, kNone, kNone});
  nfa.sets.push_back(CharSet::of(0, kMaxCodePoint));
  const auto any_text_before = [&nfa](std::uint32_t out) {
    const std::uint32_t loop = nfa.add({-1, kNone, out});
    const std::uint32_t any = nfa.add({0, loop, kNone});
    nfa.states[loop].next = any;
    return loop;
  };
  std::uint32_t begin = kNone;
  for (const PatternBranch& branch : branches) {
    std::uint32_t at = branch.to_end ? accept : any_text_before(accept);
    at = nfa.build(branch.node, at);
    if (at == kNone || nfa.states.size() > kMaxPatternNfa) return too_large();
    if (!branch.from_start) at = any_text_before(at);
    begin = begin == kNone ? at : nfa.add({-1, at, begin});
  }
  std::size_t num_ranges = 1;
  for (const CharSet& set : nfa.sets) num_ranges += set.ranges().size();
  if (num_ranges * nfa.sets.size() > kMaxPatternWork) return too_large();
  Determiniser determiniser(nfa, accept, min_length, max_length);
  LATENTD_ASSIGN_OR_RETURN(const std::vector<CharState> states, determiniser.run(begin));
  return Speller().run(states);
}

std::optional<std::string_view> format_pattern(std::string_view format) {
#define LATENTD_LEAP_ \
  "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([13579][26]|[2468][048])00)-02-29"
#define LATENTD_DATE_                                                                        \
  "([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|" \
  "30)|02-(0[1-9]|1[0-9]|2[0-8]))|" LATENTD_LEAP_ ")"
#define LATENTD_TIME_ \
  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LATENTD_BYTE_ "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define LATENTD_LABEL_ "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
#define LATENTD_PATH_ "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
  static constexpr std::pair<std::string_view, std::string_view> kFormats[] = {
      {"date", "^" LATENTD_DATE_ "$"},
      {"time", "^" LATENTD_TIME_ "$"},
      {"date-time", "^" LATENTD_DATE_ "T" LATENTD_TIME_ "$"},
      {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
      {"email",
       "^[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@" LATENTD_LABEL_ "(\\." LATENTD_LABEL_ ")+$"},
      {"ipv4", "^(" LATENTD_BYTE_ "\\.){3}" LATENTD_BYTE_ "$"},
      {"ipv6", "^([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}$"},
      {"hostname", "^" LATENTD_LABEL_ "(\\." LATENTD_LABEL_ ")*$"},
      {"uri",
       "^[A-Za-z][A-Za-z0-9+.-]*://" LATENTD_LABEL_ "(\\." LATENTD_LABEL_
       ")*(:[0-9]{1,5})?(/" LATENTD_PATH_ "*)*(\\?" LATENTD_PATH_ "*)?(#" LATENTD_PATH_ "*)?$"},
      {"duration",
       "^P([0-9]{1,9}[DW]|([0-9]{1,9}D)?T([0-9]{1,9}H([0-9]{1,9}M)?([0-9]{1,9}S)?|"
       "[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S))$"},
  };
#undef LATENTD_LEAP_
#undef LATENTD_DATE_
#undef LATENTD_TIME_
#undef LATENTD_BYTE_
#undef LATENTD_LABEL_
#undef LATENTD_PATH_
  for (const auto& [name, pattern] : kFormats) {
    if (name == format) return pattern;
  }
  return std::nullopt;
}

}  // namespace latentd
