// The TokenConstraint of a SchemaProgram over a vocabulary.
//
// accept: moves on by the token's bytes, or by one of `eos` once the value may be complete.
// fill_mask: exactly the tokens that accept would take: those whose bytes go on with some value of
// the schema, and `eos` exactly when the value may be complete. Special tokens are never allowed
// otherwise. Ids beyond the words are left out.
// complete: an end-of-text token was accepted, or the value is complete and nothing may follow.
//
// Where a schema is so ambiguous that more than kMaxLiveConfigs readings of one text are open, the
// first ones are kept: what is made still satisfies the schema. Likewise a mask that costs more
// than kMaxMaskWork steps (tens of milliseconds; ordinary ones take microseconds) is given as far
// as it is known.
//
// Contract: as scheduler/token_constraint.h says; made on any thread. Memory: masks of frames are
// kept, up to kMaxCachedWords words of 32 bits.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/ids.h"
#include "scheduler/token_constraint.h"
#include "server/text/schema/schema_program.h"
#include "server/text/schema/vocabulary_trie.h"

namespace latentd {

inline constexpr std::size_t kMaxLiveConfigs = 256;
inline constexpr std::size_t kMaxMaskWork = std::size_t{1} << 20;
inline constexpr std::size_t kMaxCachedWords = std::size_t{1} << 18;

// REQUIRES: both pointers. Shared with other constraints and with whoever caches them.
std::unique_ptr<TokenConstraint> make_json_constraint(
    std::shared_ptr<const SchemaProgram> program, std::shared_ptr<const VocabularyTrie> vocabulary,
    std::vector<TokenId> eos);

}  // namespace latentd
