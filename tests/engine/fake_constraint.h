// A grammar of tokens alone: which may come depends on what has come.
#pragma once

#include <algorithm>

#include "base/splitmix64.h"
#include "engine/token_constraint.h"

namespace liquidgemm {

class FakeConstraint final : public TokenConstraint {
 public:
  // About every `sparsity`-th token may come; 0: all of them. After `end_after` tokens only
  // `end_token` may, and after that none.
  FakeConstraint(std::uint64_t seed, std::uint64_t sparsity, std::int64_t vocabulary,
                 std::int64_t end_after, TokenId end_token)
      : state_(seed),
        sparsity_(sparsity),
        vocabulary_(vocabulary),
        left_(end_after),
        end_token_(end_token) {}

  bool may_come(TokenId token) const {
    if (ended_) return false;
    if (left_ <= 0) return token == end_token_;
    if (sparsity_ == 0) return true;
    return splitmix64(state_ + static_cast<std::uint64_t>(token)) % sparsity_ == 0;
  }
  bool allowed(std::span<std::uint32_t> mask) override {
    if (sparsity_ == 0 && left_ > 0) return false;
    std::fill(mask.begin(), mask.end(), 0u);
    for (TokenId token = 0; token < vocabulary_; ++token) {
      if (may_come(token)) mask[static_cast<std::size_t>(token) / 32] |= 1u << (token % 32);
    }
    return true;
  }
  bool accept(TokenId token) override {
    if (!may_come(token)) return false;
    state_ = splitmix64(state_ ^ static_cast<std::uint64_t>(token));
    ended_ = left_ <= 0;
    --left_;
    return true;
  }

 private:
  std::uint64_t state_;
  std::uint64_t sparsity_;
  std::int64_t vocabulary_;
  std::int64_t left_;
  TokenId end_token_;
  bool ended_ = false;
};

}  // namespace liquidgemm
