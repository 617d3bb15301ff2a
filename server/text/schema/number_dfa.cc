#include "server/text/schema/number_dfa.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <tuple>

namespace latentd {

namespace {

enum Stage : int { kStart, kMinus, kZero, kWhole, kPoint, kFraction, kE, kSign, kExponent };

// A bound on the magnitude.
struct Limit {
  const Decimal* value = nullptr;
  bool exclusive = false;
};

// What is known of the number read so far: all that decides how it may go on.
struct State {
  Stage stage = kStart;
  bool negative = false;
  int whole = 0;     // digits before the point; 0 for zero
  int fraction = 0;  // digits after it
  int exponent = 0;
  std::array<int, 2> order{};  // sign of (digits so far - bound's digits), low and high

  bool operator<(const State& other) const {
    const auto all = [](const State& s) {
      return std::tie(s.stage, s.negative, s.whole, s.fraction, s.exponent, s.order);
    };
    return all(*this) < all(other);
  }
};

class Maker {
 public:
  explicit Maker(const NumberRange& range) : range_(range) {
    // Magnitudes of negative numbers: the bounds change sides.
    limits_[0] = {limit(range.low, false), limit(range.high, false)};
    limits_[1] = {limit(range.high, true), limit(range.low, true)};
    possible_[0] = !range.high || !range.high->value.negative;
    possible_[1] = !range.low || range.low->value.negative;
    bounded_ = range.low.has_value() || range.high.has_value();
    max_whole_ = kMaxNumberDigits;
    for (const auto& bound : {range.low, range.high}) {
      if (bound) max_whole_ = std::max(max_whole_, static_cast<int>(bound->value.whole.size()) + 1);
    }
  }

  DraftDfa run() {
    name({});
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      const State state = waiting_[i];
      const auto from = static_cast<std::uint32_t>(i);
      draft_.states[from].accept = accepts(state);
      for (int byte = '+'; byte <= 'e'; ++byte) {
        const std::optional<State> next = step(state, static_cast<char>(byte));
        if (!next) continue;
        const std::uint32_t target = name(*next);
        draft_.add_edge(from, static_cast<std::uint8_t>(byte), static_cast<std::uint8_t>(byte),
                        target);
      }
    }
    return std::move(draft_);
  }

 private:
  // The bound as one on magnitudes of that sign: absent when every such magnitude satisfies it.
  static Limit limit(const std::optional<NumberBound>& bound, bool negative) {
    if (!bound) return {};
    const bool zero = bound->value.whole.empty() && bound->value.fraction.empty();
    if (!zero && bound->value.negative != negative) return {};
    return {&bound->value, bound->exclusive};
  }

  std::uint32_t name(const State& state) {
    const auto [found, added] = names_.try_emplace(state, 0);
    if (added) {
      found->second = draft_.add_state();
      waiting_.push_back(state);
    }
    return found->second;
  }

  const Limit& limit_of(const State& state, std::size_t side) const {
    return limits_[state.negative ? 1 : 0][side];
  }

  // Digit `at` of the whole part or of the fraction, compared with the bounds'.
  void compare(State& state, bool fraction, int at, int digit) const {
    for (std::size_t side = 0; side < 2; ++side) {
      const Limit& limit = limit_of(state, side);
      if (limit.value == nullptr || state.order[side] != 0) continue;
      const std::string& digits = fraction ? limit.value->fraction : limit.value->whole;
      const auto index = static_cast<std::size_t>(at);
      const int other = index < digits.size() ? digits[index] - '0' : 0;
      state.order[side] = (digit > other) - (digit < other);
    }
  }

  // The whole part ended: one with more digits is larger.
  void end_whole(State& state) const {
    for (std::size_t side = 0; side < 2; ++side) {
      const Limit& limit = limit_of(state, side);
      if (limit.value == nullptr) continue;
      const int length = static_cast<int>(limit.value->whole.size());
      if (state.whole != length) state.order[side] = state.whole > length ? 1 : -1;
    }
    state.whole = bounded_ ? state.whole : 0;  // still counted towards the digits in all
  }

  std::optional<State> digit(State state, int value) const {
    switch (state.stage) {
      case kStart:
      case kMinus:
        state.negative = state.stage == kMinus;
        if (!possible_[state.negative ? 1 : 0]) return std::nullopt;
        if (value == 0 && state.negative && range_.integer) return std::nullopt;
        state.stage = value == 0 ? kZero : kWhole;
        if (value == 0) return state;
        compare(state, false, 0, value);
        state.whole = 1;
        return state;
      case kWhole:
        if (state.whole >= max_whole()) return std::nullopt;
        compare(state, false, state.whole, value);
        ++state.whole;
        return state;
      case kPoint:
      case kFraction:
        if (state.fraction >= max_fraction(state)) return std::nullopt;
        state.stage = kFraction;
        compare(state, true, state.fraction, value);
        ++state.fraction;
        return state;
      case kE:
      case kSign:
      case kExponent:
        if (state.exponent >= 2) return std::nullopt;
        state.stage = kExponent;
        ++state.exponent;
        return state;
      case kZero:
        return std::nullopt;
    }
    return std::nullopt;
  }

  int max_whole() const { return bounded_ && !range_.integer ? kMaxBoundedDigits : max_whole_; }
  int max_fraction(const State& state) const {
    return bounded_ ? kMaxBoundedDigits - std::max(state.whole, 1) : kMaxNumberDigits;
  }

  std::optional<State> step(State state, char c) const {
    if (c >= '0' && c <= '9') return digit(state, c - '0');
    const bool whole = state.stage == kZero || state.stage == kWhole;
    if (c == '-' && state.stage == kStart && possible_[1]) {
      state.stage = kMinus;
      return state;
    }
    if (range_.integer) return std::nullopt;
    if (c == '.' && whole && max_fraction(state) > 0) {
      state.stage = kPoint;
      end_whole(state);
      return state;
    }
    if (bounded_) return std::nullopt;
    if ((c == 'e' || c == 'E') && (whole || state.stage == kFraction)) {
      return State{.stage = kE};
    }
    if ((c == '+' || c == '-') && state.stage == kE) {
      state.stage = kSign;
      return state;
    }
    return std::nullopt;
  }

  bool accepts(State state) const {
    if (state.stage == kExponent) return true;
    if (state.stage == kZero || state.stage == kWhole) {
      end_whole(state);
    } else if (state.stage != kFraction) {
      return false;
    }
    for (std::size_t side = 0; side < 2; ++side) {
      const Limit& limit = limit_of(state, side);
      if (limit.value == nullptr) continue;
      int order = state.order[side];
      const int digits = static_cast<int>(limit.value->fraction.size());
      if (order == 0 && state.fraction < digits) order = -1;
      if (order == 0 ? limit.exclusive : (side == 0 ? order < 0 : order > 0)) return false;
    }
    return true;
  }

  const NumberRange& range_;
  std::array<std::array<Limit, 2>, 2> limits_;  // [negative][low, high]
  std::array<bool, 2> possible_{};
  bool bounded_ = false;
  int max_whole_ = 0;
  std::map<State, std::uint32_t> names_;
  std::vector<State> waiting_;
  DraftDfa draft_;
};

}  // namespace

Result<Decimal> parse_decimal(std::string_view json_number) {
  Decimal decimal;
  std::string digits;
  int point = -1;
  long exponent = 0;
  for (std::size_t i = 0; i < json_number.size(); ++i) {
    const char c = json_number[i];
    if (c == '-') {
      decimal.negative = true;
    } else if (c == '.') {
      point = static_cast<int>(digits.size());
    } else if (c == 'e' || c == 'E') {
      exponent = std::strtol(std::string(json_number.substr(i + 1)).c_str(), nullptr, 10);
      break;
    } else {
      digits += c;
    }
  }
  const Status too_long(StatusCode::kInvalidArgument,
                        fmt::format("bounds have at most {} digits", kMaxBoundDigits));
  if (std::abs(exponent) > 1000 || digits.size() > 1000) return too_long;
  long whole = (point < 0 ? static_cast<long>(digits.size()) : point) + exponent;
  if (whole < 0) {
    digits.insert(0, static_cast<std::size_t>(-whole), '0');
    whole = 0;
  }
  const auto length = static_cast<std::size_t>(whole);
  if (digits.size() < length) digits.resize(length, '0');
  decimal.whole = digits.substr(0, length);
  decimal.fraction = digits.substr(length);
  decimal.whole.erase(0, std::min(decimal.whole.find_first_not_of('0'), decimal.whole.size()));
  decimal.fraction.erase(decimal.fraction.find_last_not_of('0') + 1);
  if (decimal.whole.empty() && decimal.fraction.empty()) decimal.negative = false;
  if (decimal.whole.size() > kMaxBoundDigits || decimal.fraction.size() > kMaxBoundDigits) {
    return too_long;
  }
  return decimal;
}

DraftDfa number_dfa(const NumberRange& range) { return Maker(range).run(); }

}  // namespace latentd
