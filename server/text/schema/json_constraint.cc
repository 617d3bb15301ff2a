#include "server/text/schema/json_constraint.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "server/text/schema/machine.h"
#include "server/text/schema/mask_walk.h"

namespace latentd {

namespace {

using Words = std::span<std::uint32_t>;

void set_bit(Words words, TokenId token) {
  const auto bit = static_cast<std::size_t>(token);
  if (bit / 32 < words.size()) words[bit / 32] |= 1U << (bit % 32);
}

void add_words(std::span<const std::uint32_t> from, Words words) {
  const std::size_t count = std::min(words.size(), from.size());
  for (std::size_t i = 0; i < count; ++i) words[i] |= from[i];
}

struct FrameHash {
  std::size_t operator()(const SchemaFrame& frame) const noexcept {
    std::uint64_t h = frame.node * 0x9E3779B97F4A7C15ULL;
    h = (h ^ frame.state) * 0xBF58476D1CE4E5B9ULL;
    h = (h ^ frame.count ^ (h >> 31)) * 0x94D049BB133111EBULL;
    return h ^ (h >> 29);
  }
};

// What MaskWalk found for frames, over the depths where it holds. Many tokens are kept as bits.
class FrameMasks {
 public:
  struct Entry {
    std::vector<TokenId> tokens;
    std::vector<std::uint32_t> words;
    std::vector<std::uint32_t> escapes;
    std::uint32_t depth = 0;  // where it was made
    std::uint32_t reach = 0;  // levels below that that the walk looked at
    bool holds_at(std::uint32_t at) const {
      return at == depth || std::max(at, depth) + reach <= kMaxValueDepth;
    }
  };

  const Entry* find(const SchemaFrame& frame, std::uint32_t depth) const {
    const auto found = entries_.find(frame);
    return found != entries_.end() && found->second.holds_at(depth) ? &found->second : nullptr;
  }
  const Entry& keep(const SchemaFrame& frame, Entry entry) {
    const std::size_t cost =
        kEntryCost + entry.tokens.size() + entry.words.size() + entry.escapes.size();
    size_ += cost;
    if (size_ > kMaxCachedWords) {
      entries_.clear();
      size_ = cost;
    }
    return entries_[frame] = std::move(entry);
  }

 private:
  static constexpr std::size_t kEntryCost = 32;  // of an entry without tokens

  std::unordered_map<SchemaFrame, Entry, FrameHash> entries_;
  std::size_t size_ = 0;
};

// The state of a constraint and how masks are made of it.
class Reader {
 public:
  Reader(const SchemaProgram& program, const VocabularyTrie& vocabulary)
      : vocabulary_(vocabulary),
        tables_(program.tables()),
        machine_(program.tables()),
        walk_(machine_, vocabulary) {
    machine_.start(configs_);
  }

  bool accept(TokenId token) {
    const std::string_view bytes = vocabulary_.token_bytes(token);
    if (bytes.empty()) return false;
    std::vector<SchemaConfig> result;
    for (const SchemaConfig& config : configs_) {
      now_.assign(1, config);
      for (const char c : bytes) {
        next_.clear();
        for (const SchemaConfig& at : now_) {
          machine_.step(at, static_cast<std::uint8_t>(c), next_);
        }
        now_.swap(next_);
      }
      result.insert(result.end(), now_.begin(), now_.end());
      if (result.size() >= SchemaMachine::kMaxConfigs) break;
    }
    if (result.empty()) return false;
    machine_.compact(result);
    if (result.size() > kMaxLiveConfigs) result.resize(kMaxLiveConfigs);
    configs_ = std::move(result);
    return true;
  }

  bool may_finish() const {
    return std::any_of(configs_.begin(), configs_.end(), [this](const SchemaConfig& config) {
      return finished(config) ||
             (machine_.may_end(config.frame) && finished(machine_.popped(config.stack)));
    });
  }
  bool must_finish() const { return std::all_of(configs_.begin(), configs_.end(), finished); }

  void fill(Words words) {
    work_limit_ = walk_.work() + kMaxMaskWork;
    for (const SchemaConfig& config : configs_) {
      fill_config(config, words);
      if (walk_.work() > work_limit_) return;  // what is in the mask suffices to go on
    }
  }

 private:
  static bool finished(const SchemaConfig& config) {
    return config.frame.node == SchemaMachine::kFinished;
  }

  void fill_config(const SchemaConfig& config, Words words) {
    if (finished(config)) return;
    const SchemaMachine::OpenString string = machine_.open_string(config);
    if (string.open) return fill_string(config, string, words);
    const FrameMasks::Entry& entry = masks_of(config);
    for (const TokenId token : entry.tokens) set_bit(words, token);
    add_words(entry.words, words);
    if (entry.escapes.empty()) return;
    const std::vector<std::uint32_t> escapes = entry.escapes;  // the cache may let go of it
    const std::vector<SchemaConfig> below{machine_.popped(config.stack)};
    for (const std::uint32_t node : escapes) {
      if (node == 0) {
        fill_config(below[0], words);
      } else {
        fill_after(below, node, words);
      }
    }
  }

  void fill_after(const std::vector<SchemaConfig>& configs, std::uint32_t node, Words words) {
    if (walk_.work() > work_limit_) return;
    found_.tokens.clear();
    found_.escapes.clear();
    walk_.walk(configs, node, found_);
    for (const TokenId token : found_.tokens) set_bit(words, token);
  }

  void fill_string(const SchemaConfig& config, const SchemaMachine::OpenString& string,
                   Words words) {
    const VocabularyTrie::Strings& strings = vocabulary_.strings(string.spelling);
    if (strings.characters.empty() || string.max_left >= strings.characters.back()) {
      add_words(strings.words, words);
    } else {
      for (std::size_t i = 0; i < strings.inside.size(); ++i) {
        if (strings.characters[i] > string.max_left) break;
        set_bit(words, strings.inside[i]);
      }
    }
    if (string.key != kNoValue) return fill_name_ends(config, string, words);
    std::vector<SchemaConfig> after;
    for (const auto& close : strings.closes) {
      if (close.characters < string.min_left || close.characters > string.max_left) continue;
      if (after.empty()) machine_.close_string(config, close.characters, after);
      fill_close(after, close.node, words);
    }
  }

  // A name that has been the beginning of declared ones ends as one of them where a token spells
  // it, else as another one.
  void fill_name_ends(const SchemaConfig& config, const SchemaMachine::OpenString& string,
                      Words words) {
    std::unordered_map<std::uint32_t, std::uint32_t> spelled;  // node of the vocabulary -> key
    std::vector<std::pair<std::uint32_t, std::uint32_t>> waiting{{0, string.key}};
    while (!waiting.empty()) {
      const auto [node, key] = waiting.back();
      waiting.pop_back();
      spelled.emplace(node, key);
      for (std::uint32_t i = tables_.keys[key].first_edge; i < tables_.keys[key].end_edge; ++i) {
        const DfaEdge& edge = tables_.key_edges[i];
        const std::uint32_t child = vocabulary_.child(node, edge.first);
        if (child != 0) waiting.emplace_back(child, edge.target);
      }
    }
    std::vector<SchemaConfig> other;
    machine_.close_string(machine_.within_other_name(config), 0, other);
    std::vector<SchemaConfig> declared;
    for (const auto& close : vocabulary_.strings(string.spelling).closes) {
      const auto found = spelled.find(close.parent);
      if (found == spelled.end()) {
        fill_close(other, close.node, words);
        continue;
      }
      declared.clear();
      machine_.close_string(SchemaMachine::within_key(config, found->second), 0, declared);
      fill_close(declared, close.node, words);
    }
  }

  void fill_close(const std::vector<SchemaConfig>& after, std::uint32_t node, Words words) {
    if (after.empty()) return;
    for (const TokenId token : vocabulary_.tokens(node)) set_bit(words, token);
    if (vocabulary_.end(node) > node + 1) fill_after(after, node, words);
  }

  const FrameMasks::Entry& masks_of(const SchemaConfig& config) {
    const std::uint32_t depth = machine_.depth(config.stack);
    const FrameMasks::Entry* known = masks_.find(config.frame, depth);
    if (known != nullptr) return *known;
    const std::size_t arena = machine_.arena();
    const std::uint32_t unknown = machine_.push({SchemaMachine::kUnknown, 0, 0}, 0, depth);
    FrameMasks::Entry entry;
    entry.depth = depth;
    machine_.reset_reach();
    found_ = {};
    const SchemaNode* node = machine_.node(config.frame);
    if (node != nullptr && node->kind == SchemaNode::Kind::kScalar) {
      walk_.walk_scalar(machine_.dfa(), config.frame.state, found_);
    } else {
      walk_.walk({{config.frame, unknown}}, 0, found_);
    }
    entry.escapes = std::move(found_.escapes);
    const std::size_t num_words = vocabulary_.strings(StringSpelling::kFree).words.size();
    if (found_.tokens.size() <= num_words) {
      entry.tokens = std::move(found_.tokens);
    } else {
      entry.words.resize(num_words);
      for (const TokenId token : found_.tokens) set_bit(entry.words, token);
    }
    entry.reach = std::max(machine_.reach(), depth) - depth;
    machine_.truncate(arena);
    return masks_.keep(config.frame, std::move(entry));
  }

  const VocabularyTrie& vocabulary_;
  const ProgramTables& tables_;
  SchemaMachine machine_;
  MaskWalk walk_;
  std::size_t work_limit_ = 0;  // of walk_, for the mask that is being made
  FrameMasks masks_;
  MaskWalk::Found found_;
  std::vector<SchemaConfig> configs_;
  std::vector<SchemaConfig> now_;
  std::vector<SchemaConfig> next_;
};

class JsonConstraint final : public TokenConstraint {
 public:
  JsonConstraint(std::shared_ptr<const SchemaProgram> program,
                 std::shared_ptr<const VocabularyTrie> vocabulary, std::vector<TokenId> eos)
      : program_(std::move(program)),
        vocabulary_(std::move(vocabulary)),
        eos_(std::move(eos)),
        reader_(std::make_unique<Reader>(*program_, *vocabulary_)) {}

  bool accept(TokenId token) override {
    if (ended_) return false;
    if (std::find(eos_.begin(), eos_.end(), token) != eos_.end() && reader_->may_finish()) {
      ended_ = true;
      return true;
    }
    return reader_->accept(token);
  }

  void fill_mask(std::span<std::uint32_t> words) const override {
    std::fill(words.begin(), words.end(), 0U);
    if (!ended_) reader_->fill(words);
    if (!ended_ && !reader_->may_finish()) return;
    for (const TokenId token : eos_) {
      if (token >= 0) set_bit(words, token);
    }
  }

  bool complete() const override { return ended_ || reader_->must_finish(); }

 private:
  std::shared_ptr<const SchemaProgram> program_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::vector<TokenId> eos_;
  std::unique_ptr<Reader> reader_;  // its caches change while masks are filled
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<TokenConstraint> make_json_constraint(
    std::shared_ptr<const SchemaProgram> program, std::shared_ptr<const VocabularyTrie> vocabulary,
    std::vector<TokenId> eos) {
  return std::make_unique<JsonConstraint>(std::move(program), std::move(vocabulary),
                                          std::move(eos));
}

}  // namespace latentd
