#include "engine/step_buffers.h"

namespace latentd {

Result<StepBuffers> StepBuffers::create(Backend& backend, const StepLimits& limits) {
  StepBuffers buffers;
  buffers.row_logits.reserve(limits.max_seqs);
  const auto make = [&backend](auto& array, std::size_t capacity, std::string_view purpose) {
    auto created = std::remove_reference_t<decltype(array)>::create(backend, capacity, purpose);
    if (!created.ok()) return created.status();
    array = *std::move(created);
    return ok_status();
  };
  LATENTD_RETURN_IF_ERROR(make(buffers.tokens, limits.max_tokens, "step tokens"));
  LATENTD_RETURN_IF_ERROR(make(buffers.positions, limits.max_tokens, "step positions"));
  LATENTD_RETURN_IF_ERROR(make(buffers.token_slots, limits.max_tokens, "step token slots"));
  LATENTD_RETURN_IF_ERROR(make(buffers.rows, limits.max_seqs, "step rows"));
  LATENTD_RETURN_IF_ERROR(make(buffers.prefixes, limits.max_seqs, "step prefixes"));
  LATENTD_RETURN_IF_ERROR(make(buffers.row_prefixes, limits.max_seqs, "step prefixes"));
  LATENTD_RETURN_IF_ERROR(make(buffers.updates, limits.max_page_updates, "page-table updates"));
  LATENTD_RETURN_IF_ERROR(make(buffers.logit_tokens, limits.max_tokens, "logit tokens"));
  LATENTD_RETURN_IF_ERROR(make(buffers.sample_rows, limits.max_tokens, "sample rows"));
  LATENTD_RETURN_IF_ERROR(make(buffers.masks, limits.max_seqs * limits.mask_words, "token masks"));
  LATENTD_RETURN_IF_ERROR(make(buffers.edits, limits.max_edits, "logit edits"));
  LATENTD_RETURN_IF_ERROR(make(buffers.outcomes, limits.max_tokens, "sample outcomes"));
  return buffers;
}

void StepBuffers::clear() {
  row_logits.clear();
  tokens.clear();
  positions.clear();
  token_slots.clear();
  rows.clear();
  prefixes.clear();
  row_prefixes.clear();
  updates.clear();
  logit_tokens.clear();
  sample_rows.clear();
  masks.clear();
  edits.clear();
}

void StepBuffers::pad_prefixes() {
  while (prefixes.size() < rows.size()) prefixes.push_back({});
}

void StepBuffers::pad_rows(std::size_t count) {
  while (rows.size() < count) {
    rows.push_back({0, static_cast<std::int32_t>(tokens.size()), 0, 0});
    row_prefixes.push_back(-1);
    tokens.push_back(0);
    positions.push_back(0);
    token_slots.push_back(-1);
  }
}

void StepBuffers::pad_logits(std::size_t count) {
  SampleRow nothing;
  nothing.target = 0;  // only its logprob is computed
  while (sample_rows.size() < count) {
    sample_rows.push_back(nothing);
    logit_tokens.push_back(0);
  }
}

std::size_t StepBuffers::device_bytes() const {
  return tokens.device_bytes() + positions.device_bytes() + token_slots.device_bytes() +
         rows.device_bytes() + prefixes.device_bytes() + row_prefixes.device_bytes() +
         updates.device_bytes() + logit_tokens.device_bytes() + sample_rows.device_bytes() +
         masks.device_bytes() + edits.device_bytes() + outcomes.device_bytes();
}

}  // namespace latentd
