#include "server/text/schema/dfa.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace latentd {

std::uint32_t DraftDfa::add_state() {
  states.emplace_back();
  return static_cast<std::uint32_t>(states.size() - 1);
}

void DraftDfa::add_edge(std::uint32_t from, std::uint8_t first, std::uint8_t last,
                        std::uint32_t target) {
  std::vector<DfaEdge>& edges = states[from].edges;
  if (!edges.empty() && edges.back().target == target && edges.back().last + 1 == first) {
    edges.back().last = last;
    return;
  }
  edges.push_back({first, last, target});
}

Result<std::uint32_t> DfaPool::add(const DraftDfa& draft) {
  // States from which an accepting one can be reached, found backwards.
  const std::size_t count = draft.states.size();
  std::vector<std::vector<std::uint32_t>> sources(count);
  std::vector<std::uint32_t> waiting;
  std::vector<bool> live(count, false);
  for (std::uint32_t s = 0; s < count; ++s) {
    for (const DfaEdge& edge : draft.states[s].edges) sources[edge.target].push_back(s);
    if (!draft.states[s].accept) continue;
    live[s] = true;
    waiting.push_back(s);
  }
  while (!waiting.empty()) {
    const std::uint32_t s = waiting.back();
    waiting.pop_back();
    for (const std::uint32_t source : sources[s]) {
      if (live[source]) continue;
      live[source] = true;
      waiting.push_back(source);
    }
  }
  if (count == 0 || !live[0]) return kNone;

  std::vector<std::uint32_t> renamed(count, kNone);
  auto next_name = static_cast<std::uint32_t>(states_.size());
  for (std::size_t s = 0; s < count; ++s) {
    if (live[s]) renamed[s] = next_name++;
  }
  for (std::size_t s = 0; s < count; ++s) {
    if (!live[s]) continue;
    const auto first = static_cast<std::uint32_t>(edges_.size());
    for (const DfaEdge& edge : draft.states[s].edges) {
      if (live[edge.target]) edges_.push_back({edge.first, edge.last, renamed[edge.target]});
    }
    states_.push_back({first, static_cast<std::uint32_t>(edges_.size()), draft.states[s].accept});
    if (states_.size() > kMaxStates || edges_.size() > kMaxEdges) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("the schema needs more than {} states", kMaxStates));
    }
  }
  return renamed[0];
}

DraftDfa literal_dfa(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  DraftDfa draft;
  draft.add_state();
  std::vector<std::uint32_t> path{0};  // states after each byte of the text before
  const std::string* before = nullptr;
  for (const std::string& text : texts) {
    std::size_t shared = 0;
    if (before != nullptr) {
      const auto differ = std::mismatch(text.begin(), text.end(), before->begin(), before->end());
      shared = static_cast<std::size_t>(differ.first - text.begin());
    }
    path.resize(shared + 1);
    for (std::size_t i = shared; i < text.size(); ++i) {
      const std::uint32_t target = draft.add_state();
      const auto byte = static_cast<std::uint8_t>(text[i]);
      draft.states[path.back()].edges.push_back({byte, byte, target});
      path.push_back(target);
    }
    draft.states[path.back()].accept = true;
    before = &text;
  }
  return draft;
}

}  // namespace latentd
