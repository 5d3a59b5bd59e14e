// A backend whose tokens are a function of all tokens so far, read from the pages as they were
// written: a page that is wrong, stale, free or written by somebody else is noticed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "base/splitmix64.h"
#include "model/backend.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {

class FakeBackend final : public Backend {
 public:
  // As of a token and all before it.
  static std::uint64_t digest(std::uint64_t before, TokenId token) {
    return splitmix64(before ^ static_cast<std::uint64_t>(token));
  }
  // The token that follows, with penalties and seed as a sampler would see them.
  static TokenId next_token(std::uint64_t digest, std::uint64_t counts, std::uint64_t seed,
                            std::uint64_t position, std::int64_t vocabulary) {
    const std::uint64_t bits =
        splitmix64(digest ^ splitmix64(counts ^ splitmix64(seed + position)));
    return static_cast<TokenId>(bits % static_cast<std::uint64_t>(vocabulary));
  }
  // Of penalty counts, in whatever order they lie.
  static std::uint64_t counts_digest(std::span<const TokenCount> counts) {
    std::uint64_t sum = 0;
    for (const TokenCount& count : counts) {
      sum +=
          splitmix64(static_cast<std::uint64_t>(count.token) * 1000 +
                     static_cast<std::uint64_t>(count.in_answer) * 2 + (count.in_prompt ? 1 : 0));
    }
    return sum;
  }

  // The sampler's: `first`, or the next one that may be drawn; -1: none.
  static TokenId first_allowed(TokenId first, std::span<const TokenBias> bias,
                               std::span<const std::uint32_t> mask, std::int64_t vocabulary) {
    for (std::int64_t i = 0; i < vocabulary; ++i) {
      const auto token = static_cast<TokenId>((first + i) % vocabulary);
      const auto at = static_cast<std::size_t>(token);
      if (!mask.empty() && ((mask[at / 32] >> (at % 32)) & 1u) == 0) continue;
      const auto never = [&](const TokenBias& one) {
        return one.token == token && std::isinf(one.bias);
      };
      if (std::none_of(bias.begin(), bias.end(), never)) return token;
    }
    return -1;
  }
  // Of finite biases.
  static std::uint64_t bias_digest(std::span<const TokenBias> bias) {
    std::uint64_t sum = 0;
    for (const TokenBias& one : bias) {
      if (std::isinf(one.bias)) continue;
      sum += splitmix64(static_cast<std::uint64_t>(one.token) * 1000 + 500 +
                        static_cast<std::uint64_t>(one.bias));
    }
    return sum;
  }
  // Of a token after the row with this digest.
  static float logprob(std::uint64_t digest, TokenId token) {
    return -static_cast<float>(splitmix64(digest + static_cast<std::uint64_t>(token)) % 4096) / 64;
  }

  FakeBackend(const BackendLimits& limits, std::int64_t vocabulary) : limits_(limits) {
    own_graph_.config.vocab_size = vocabulary;
    own_graph_.layers.resize(1);
    graph_ = &own_graph_;
    pages_.resize(static_cast<std::size_t>(limits.pages));
  }

  // The page's contents are lost; to read them before they are written again is an error.
  void wipe(std::int32_t page) { pages_[static_cast<std::size_t>(page)].written = 0; }

  // Steps are refused, before they do anything. Any thread.
  void set_failing(bool failing) { failing_ = failing; }
  // Called in every step.
  void set_on_step(std::function<void()> on_step) { on_step_ = std::move(on_step); }

  // What went wrong first; empty: nothing.
  const std::string& error() const { return error_; }
  std::int64_t rows() const { return total_rows_; }  // of all steps

  Status plan(const ModelGraph&, WeightLoader&, const BackendLimits&) override {
    return ok_status();
  }
  std::span<const float> logits(std::int64_t) const override { return {}; }
  std::span<const SampledToken> sampled() const override { return sampled_; }
  std::span<const TokenScore> scores() const override { return scores_; }
  const BackendLimits& limits() const override {
    static constexpr BackendLimits kNothing{.max_rows = 0};
    return failing_ ? kNothing : limits_;
  }
  std::int64_t page_bytes() const override { return sizeof(Page); }
  std::size_t weight_bytes() const override { return 0; }
  std::vector<std::string> describe() const override { return {}; }

  void begin(const StepInput& input) override {
    if (on_step_) on_step_();
    input_ = &input;
    total_rows_ += static_cast<std::int64_t>(input.tokens.size());
    digests_.resize(input.tokens.size());
    sampled_.clear();
    scores_.clear();
  }
  void embed(RowBuffer) override {}
  LinearInput add_norm_quantize(std::size_t, bool, bool) override { return {}; }
  void linear(std::size_t, const LinearGroup&, const LinearInput&, RowBuffer) override {}
  LinearInput linear_gated_quantize(std::size_t, const LinearInput&) override { return {}; }
  LinearInput quantize(RowBuffer) override { return {}; }
  LinearInput final_norm_quantize() override { return {}; }
  void lm_head(const LinearInput&) override {}

  void qk_norm_rope_cache(std::size_t) override {
    for (const SequenceRows& sequence : input_->sequences) {
      // attention() checks all of the context.
      std::uint64_t before = 0;
      if (const std::int32_t last = sequence.context - 1; last >= 0) {
        before = page_of(sequence, last).slots[static_cast<std::size_t>(last % kPageTokens)].digest;
      }
      for (std::int32_t row = 0; row < sequence.rows; ++row) {
        const auto index = static_cast<std::size_t>(sequence.first_row + row);
        before = digest(before, input_->tokens[index]);
        write(sequence, sequence.context + row, {input_->tokens[index], before});
        digests_[index] = before;
      }
    }
  }
  // Every row sees what all sequences of the step have written.
  void attention(std::size_t, RowBuffer) override {
    for (const SequenceRows& sequence : input_->sequences) {
      std::uint64_t before = 0;
      for (std::int32_t at = 0; at < sequence.context + sequence.rows; ++at) {
        before = read(sequence, at, before);
      }
      if (before != digests_[static_cast<std::size_t>(sequence.first_row + sequence.rows - 1)]) {
        fail("a page was written by two sequences");
      }
    }
  }
  void sample() override {
    for (const SampleRow& row : input_->samples) {
      const auto at =
          static_cast<std::size_t>(input_->logits_rows[static_cast<std::size_t>(row.logits_row)]);
      const std::int64_t vocabulary = own_graph_.config.vocab_size;
      const TokenId first =
          next_token(digests_[at], counts_digest(row.counts) + bias_digest(row.bias),
                     row.params.seed, row.position, vocabulary);
      sampled_.push_back(
          {.token = first_allowed(first, row.bias, row.mask, vocabulary), .logit = 0.0f});
    }
  }
  void score() override {
    for (const ScoreRow& row : input_->scores) {
      const std::uint64_t seen = digests_[static_cast<std::size_t>(
          input_->logits_rows[static_cast<std::size_t>(row.logits_row)])];
      const TokenId token =
          row.token >= 0 ? row.token : sampled_[static_cast<std::size_t>(row.sample)].token;
      TokenScore& score = scores_.emplace_back();
      score.logprob = logprob(seen, token);
      for (; score.count < row.top; ++score.count) {
        const TokenId other = static_cast<TokenId>(score.count);
        score.top[static_cast<std::size_t>(score.count)] = {other, logprob(seen, other)};
      }
    }
  }

 private:
  struct Slot {
    TokenId token = 0;
    std::uint64_t digest = 0;
  };
  struct Page {
    std::int32_t written = 0;  // slots, from the first
    std::int32_t index = 0;    // of the page in its sequence
    std::array<Slot, kPageTokens> slots;
  };

  void fail(std::string what) {
    if (error_.empty()) error_ = std::move(what);
  }
  Page& page_of(const SequenceRows& sequence, std::int32_t position) {
    return pages_[static_cast<std::size_t>(
        sequence.pages[static_cast<std::size_t>(position / kPageTokens)])];
  }
  std::uint64_t read(const SequenceRows& sequence, std::int32_t position, std::uint64_t before) {
    const Page& page = page_of(sequence, position);
    const std::int32_t slot = position % kPageTokens;
    if (slot >= page.written) {
      fail("a slot is read that nobody has written");
      return 0;
    }
    if (page.index != position / kPageTokens) fail("a page of another position is read");
    const Slot& stored = page.slots[static_cast<std::size_t>(slot)];
    if (stored.digest != digest(before, stored.token)) fail("a page of another text is read");
    return stored.digest;
  }
  void write(const SequenceRows& sequence, std::int32_t position, const Slot& slot) {
    Page& page = page_of(sequence, position);
    const std::int32_t at = position % kPageTokens;
    if (at == 0) {
      page.index = position / kPageTokens;
    } else if (at != page.written) {
      fail("slots of a page are written out of order, or twice");
    }
    page.written = at + 1;
    page.slots[static_cast<std::size_t>(at)] = slot;
  }

  BackendLimits limits_;
  ModelGraph own_graph_;
  std::vector<Page> pages_;
  const StepInput* input_ = nullptr;
  std::vector<std::uint64_t> digests_;  // by row
  std::vector<SampledToken> sampled_;
  std::vector<TokenScore> scores_;
  std::string error_;
  std::int64_t total_rows_ = 0;
  std::atomic<bool> failing_ = false;
  std::function<void()> on_step_;
};

}  // namespace liquidgemm
