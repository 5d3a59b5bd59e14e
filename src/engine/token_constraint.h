// What may come next in an answer that must follow a grammar.
#pragma once

#include <cstdint>
#include <span>

#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

// Of one request; the engine calls it on its own thread, in the order of the answer's tokens. It
// outlives preemption: the answer's tokens stay, and so does the state.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Sets bit t % 32 of word t / 32 for every token t that may come next and clears the others; the
  // end tokens are among them where the answer may end. False: every token may come, `mask` is
  // left alone. The mask holds as many words as the vocabulary needs.
  virtual bool allowed(std::span<std::uint32_t> mask) = 0;
  // The token that was chosen. False: it was not allowed, and nothing changed.
  virtual bool accept(TokenId token) = 0;
};

}  // namespace liquidgemm
