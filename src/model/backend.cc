#include "model/backend.h"

#include "model/transformer.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {

std::string_view kv_format_name(KvFormat format) {
  switch (format) {
    case KvFormat::kF32: return "f32";
    case KvFormat::kF16: return "f16";
    case KvFormat::kBf16: return "bf16";
    case KvFormat::kInt8: return "int8";
    case KvFormat::kInt8Static: return "int8-static";
    case KvFormat::kInt4: return "int4";
  }
  return "?";
}

Result<KvFormat> parse_kv_format(std::string_view name) {
  if (name == "auto" || name == "f16" || name == "fp16") return KvFormat::kF16;
  if (name == "bf16" || name == "bfloat16") return KvFormat::kBf16;
  if (name == "int8") return KvFormat::kInt8;
  if (name == "int8-static") return KvFormat::kInt8Static;
  if (name == "int4") return KvFormat::kInt4;
  if (name == "f32" || name == "fp32") return KvFormat::kF32;
  return invalid_argument(
      "KV cache format \"" + std::string(name) +
      "\" is not known: expected auto, f16, bf16, int8, int8-static, int4 or f32");
}

Status Backend::step(const StepInput& input) {
  if (Status status = check(input); !status.ok()) return status;
  return run(input);
}

Status Backend::run(const StepInput& input) {
  run_transformer(*this, *graph_, input);
  return finish();
}

Status Backend::check_tokens(std::span<const TokenId> tokens) const {
  const std::int64_t vocabulary = graph_->config.vocab_size;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary) {
      return invalid_argument("token " + std::to_string(tokens[i]) + " at position " +
                              std::to_string(i) + " is outside the vocabulary of " +
                              std::to_string(vocabulary));
    }
  }
  return ok_status();
}

Status Backend::check(const StepInput& input) const {
  const BackendLimits& limit = limits();
  const auto rows = static_cast<std::int64_t>(input.tokens.size());
  const auto wrong = [](std::string what) { return invalid_argument("step: " + std::move(what)); };
  if (graph_ == nullptr) return wrong("the backend has no model yet: call plan first");
  if (rows == 0 || rows > limit.max_rows) {
    return wrong(std::to_string(rows) + " rows, expected 1 to " + std::to_string(limit.max_rows));
  }
  if (Status status = check_tokens(input.tokens); !status.ok()) return status;
  if (static_cast<std::int64_t>(input.sequences.size()) > limit.max_sequences) {
    return wrong(std::to_string(input.sequences.size()) + " sequences, at most " +
                 std::to_string(limit.max_sequences));
  }
  std::int64_t next_row = 0;
  for (const SequenceRows& sequence : input.sequences) {
    if (sequence.first_row != next_row || sequence.rows <= 0 || sequence.context < 0) {
      return wrong("sequences do not cover the rows in order");
    }
    next_row += sequence.rows;
    const std::int64_t length = std::int64_t{sequence.context} + sequence.rows;
    if (length > limit.max_position) {
      return wrong("a sequence of " + std::to_string(length) + " tokens, at most " +
                   std::to_string(limit.max_position) + " fit (--max-model-len)");
    }
    if (static_cast<std::int64_t>(sequence.pages.size()) * kPageTokens < length) {
      return wrong("a block table of " + std::to_string(sequence.pages.size()) +
                   " pages is too short for " + std::to_string(length) + " tokens");
    }
    for (const std::int32_t page : sequence.pages) {
      if (page < 0 || page >= limit.pages)
        return wrong("page " + std::to_string(page) + " of " + std::to_string(limit.pages));
    }
  }
  if (next_row != rows) return wrong("sequences do not cover all rows");
  if (static_cast<std::int64_t>(input.logits_rows.size()) > limit.max_logits_rows) {
    return wrong("logits of " + std::to_string(input.logits_rows.size()) + " rows, at most " +
                 std::to_string(limit.max_logits_rows));
  }
  std::int32_t last = -1;
  for (const std::int32_t row : input.logits_rows) {
    if (row <= last || row >= rows) return wrong("logits_rows must ascend and name rows");
    last = row;
  }
  for (const SampleRow& sample : input.samples) {
    if (sample.logits_row < 0 ||
        static_cast<std::size_t>(sample.logits_row) >= input.logits_rows.size()) {
      return wrong("a sample names logits row " + std::to_string(sample.logits_row));
    }
  }
  if (static_cast<std::int64_t>(input.samples.size()) > limit.max_logits_rows ||
      static_cast<std::int64_t>(input.scores.size()) > limit.max_logits_rows) {
    return wrong("too many samples or scores");
  }
  for (const ScoreRow& score : input.scores) {
    const bool row = score.logits_row >= 0 &&
                     static_cast<std::size_t>(score.logits_row) < input.logits_rows.size();
    const bool token =
        score.token >= 0
            ? score.token < graph_->config.vocab_size
            : score.sample >= 0 && static_cast<std::size_t>(score.sample) < input.samples.size();
    if (!row || !token || score.top < 0 || score.top > kMaxLogprobs) {
      return wrong("a score of logits row " + std::to_string(score.logits_row) +
                   " names what is not there");
    }
  }
  return ok_status();
}

}  // namespace liquidgemm
