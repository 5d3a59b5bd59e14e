// What a device must be able to do to run a model, and the step that asks for it.
//
// plan() packs the weights and lays out all memory; step() runs one engine step: some rows (tokens)
// of some sequences, through all layers, to logits and sampled tokens. A step allocates nothing.
// The transformer itself is written once, in transformer.cc, over the operations below.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gemm/gemm.h"
#include "liquidgemm/status.h"
#include "model/graph.h"
#include "model/tokenizer/tokenizer.h"
#include "ops/logprobs.h"
#include "ops/sampling.h"

namespace liquidgemm {

class WeightLoader;

// How a page stores keys and values. kInt8: per head and token, the contract's row rule.
// kInt8Static: per channel, with the checkpoint's scales. kInt4: per head and token, a scale and a
// zero; on a GPU alone. kF32: exact, for the FP32 reference.
enum class KvFormat { kF16, kBf16, kInt8, kInt8Static, kInt4, kF32 };
std::string_view kv_format_name(KvFormat format);
// "f16" (fp16, auto), "bf16" (bfloat16), "int8", "int8-static", "int4", "f32" (fp32)
Result<KvFormat> parse_kv_format(std::string_view name);

struct BackendLimits {
  std::int64_t max_rows = 256;        // tokens in one step
  std::int64_t max_sequences = 16;    // sequences in one step
  std::int64_t max_logits_rows = 16;  // rows of one step whose logits are wanted
  std::int64_t max_position = 2048;   // tokens of one sequence, prompt and answer
  std::int64_t pages = 512;           // KV pages of kPageTokens tokens
  KvFormat kv_format = KvFormat::kF16;
};

// The rows of one sequence in a step: tokens at positions context .. context + rows - 1.
struct SequenceRows {
  std::int32_t first_row = 0;
  std::int32_t rows = 0;
  std::int32_t context = 0;             // tokens already in the cache
  std::span<const std::int32_t> pages;  // block table; covers context + rows tokens
};

struct SampleRow {
  std::int32_t logits_row = 0;  // index into StepInput::logits_rows
  SamplingParams params;
  std::span<const TokenCount> counts;
  std::uint64_t position = 0;                // the position that the sampled token will have
  std::span<const TokenBias> bias = {};      // see LogitChanges
  std::span<const std::uint32_t> mask = {};  // of the whole vocabulary, or empty
};

// A token whose log-probability is wanted, and how many of the likeliest.
struct ScoreRow {
  std::int32_t logits_row = 0;  // index into StepInput::logits_rows
  TokenId token = -1;           // -1: the one that `sample` draws
  std::int32_t sample = -1;     // index into StepInput::samples
  std::int32_t top = 0;         // at most kMaxLogprobs
};

struct StepInput {
  std::span<const TokenId> tokens;            // one a row
  std::span<const SequenceRows> sequences;    // cover all rows, in order, no sequence twice
  std::span<const std::int32_t> logits_rows;  // ascending rows
  std::span<const SampleRow> samples;
  std::span<const ScoreRow> scores = {};  // no more than logits_rows may have
};

// Rows as the next linear layers read them: quantised, or float where the weights are.
// Valid until the backend makes the next ones.
struct LinearInput {
  std::int64_t rows = 0;
  QuantizedRows quantized;
  const float* f32 = nullptr;  // not null: float rows, stride k
};

// The buffers that the transformer names; each backend owns their memory and element type.
enum class RowBuffer { kResidual, kDelta, kQkv, kAttention };

class Backend {
 public:
  virtual ~Backend() = default;

  // Packs every weight and allocates everything. What cannot be done is said here.
  virtual Status plan(const ModelGraph& graph, WeightLoader& weights,
                      const BackendLimits& limits) = 0;

  // Checks the input against the limits (an error leaves the cache as it was), then runs. On return
  // the results are there.
  Status step(const StepInput& input);

  // Error naming the first token outside the vocabulary.
  Status check_tokens(std::span<const TokenId> tokens) const;

  // Results of the last step; rows count as in StepInput::logits_rows.
  virtual std::span<const float> logits(std::int64_t row) const = 0;
  virtual std::span<const SampledToken> sampled() const = 0;
  virtual std::span<const TokenScore> scores() const = 0;  // as StepInput::scores

  // The planned model.
  const ModelGraph& graph() const { return *graph_; }
  virtual const BackendLimits& limits() const = 0;
  virtual std::int64_t page_bytes() const = 0;
  virtual std::size_t weight_bytes() const = 0;
  // Which kernel serves which kind of layer: "qkv: liquid4 g64 avx512-vnni (30 layers)".
  virtual std::vector<std::string> describe() const = 0;

  // ---- Operations, in the order transformer.cc calls them. Shapes are those of the graph. ------
  virtual void begin(const StepInput& input) = 0;
  virtual void embed(RowBuffer out) = 0;
  // residual += delta (unless `first`: nothing to add yet), then RMSNorm, then quantise.
  virtual LinearInput add_norm_quantize(std::size_t layer, bool post_attention, bool first) = 0;
  virtual void linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
                      RowBuffer out) = 0;
  // silu(gate) * up of the fused gate_up product, quantised.
  virtual LinearInput linear_gated_quantize(std::size_t layer, const LinearInput& input) = 0;
  // Norm over heads where the family has one, rotation, and the write to the KV pages.
  virtual void qk_norm_rope_cache(std::size_t layer) = 0;
  virtual void attention(std::size_t layer, RowBuffer out) = 0;
  virtual LinearInput quantize(RowBuffer in) = 0;
  // Sums partial results over tensor-parallel ranks; one rank: nothing to do.
  virtual void all_reduce(RowBuffer) {}
  // The last add and norm, on the rows whose logits are wanted only.
  virtual LinearInput final_norm_quantize() = 0;
  virtual void lm_head(const LinearInput& input) = 0;
  virtual void sample() = 0;
  // After sample(), where scores are wanted. Of a sample without a token: anything.
  virtual void score() = 0;
  // Ends the step: its results are there. What went wrong on the way is said here.
  virtual Status finish() { return ok_status(); }
  // Until the operations called so far are done: for timing them.
  virtual void wait() {}
  // The same on the device's own clock, without waiting: mark `index` stands behind what was called
  // so far, and the seconds between two are known after finish(). False: there is no such clock.
  virtual bool mark(std::size_t) { return false; }
  virtual double seconds_between(std::size_t, std::size_t) const { return 0.0; }

 protected:
  // A step that is checked: run_transformer, unless the device has it recorded.
  virtual Status run(const StepInput& input);

  const ModelGraph* graph_ = nullptr;  // set by plan

 private:
  Status check(const StepInput& input) const;
};

}  // namespace liquidgemm
