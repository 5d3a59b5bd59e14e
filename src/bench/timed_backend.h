// A backend that runs another one's operations and adds up what each kind of them takes: where the
// time of a step goes. A backend without it around itself is timed by nothing.
//
// A device with a clock of its own (Backend::mark) runs on while it is timed: what lies between two
// operations' ends counts as the second one's. Any other backend is waited for after each
// operation.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "model/backend.h"

namespace liquidgemm::bench {

enum class Operation {
  kQkv,
  kOutput,
  kGateUp,  // with the gate's activation, which a backend may fuse
  kDown,
  kLmHead,
  kAttention,
  kNorm,      // adding to the residual, norm, quantising
  kRope,      // rotation and the writes to the cache
  kQuantize,  // of what attention and the gate leave
  kSample,
  kEmbed,  // and what a step begins with
};
inline constexpr std::size_t kOperations = 11;
std::string_view operation_name(Operation operation);  // "qkv", "norms and quantising", ...
// "linear layers", "attention" or "everything else".
std::string_view operation_part(Operation operation);

using OperationSeconds = std::array<double, kOperations>;

class TimedBackend final : public Backend {
 public:
  // `inner` is planned and outlives this.
  explicit TimedBackend(Backend& inner);

  const OperationSeconds& seconds() const { return seconds_; }
  void reset() { seconds_ = {}; }
  bool device_clock() const { return device_clock_; }  // of the last step

  Status plan(const ModelGraph& graph, WeightLoader& weights, const BackendLimits& limits) override;
  std::span<const float> logits(std::int64_t row) const override { return inner_.logits(row); }
  std::span<const SampledToken> sampled() const override { return inner_.sampled(); }
  std::span<const TokenScore> scores() const override { return inner_.scores(); }
  const BackendLimits& limits() const override { return inner_.limits(); }
  std::int64_t page_bytes() const override { return inner_.page_bytes(); }
  std::size_t weight_bytes() const override { return inner_.weight_bytes(); }
  std::vector<std::string> describe() const override { return inner_.describe(); }

  void begin(const StepInput& input) override;
  void embed(RowBuffer out) override;
  LinearInput add_norm_quantize(std::size_t layer, bool post_attention, bool first) override;
  void linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
              RowBuffer out) override;
  LinearInput linear_gated_quantize(std::size_t layer, const LinearInput& input) override;
  void qk_norm_rope_cache(std::size_t layer) override;
  void attention(std::size_t layer, RowBuffer out) override;
  LinearInput quantize(RowBuffer in) override;
  void all_reduce(RowBuffer buffer) override { inner_.all_reduce(buffer); }
  LinearInput final_norm_quantize() override;
  void lm_head(const LinearInput& input) override;
  void sample() override;
  void score() override;
  Status finish() override;
  void wait() override { inner_.wait(); }

 private:
  template <typename Body>
  auto time(Operation operation, const Body& body);

  Backend& inner_;
  OperationSeconds seconds_{};
  bool device_clock_ = false;
  std::vector<Operation> marked_;  // of the step at hand: the operation before mark i + 1
};

}  // namespace liquidgemm::bench
