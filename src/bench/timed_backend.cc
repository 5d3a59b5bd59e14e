#include "bench/timed_backend.h"

#include <chrono>

namespace liquidgemm::bench {

std::string_view operation_name(Operation operation) {
  switch (operation) {
    case Operation::kQkv: return "qkv";
    case Operation::kOutput: return "o";
    case Operation::kGateUp: return "gate_up with its activation";
    case Operation::kDown: return "down";
    case Operation::kLmHead: return "lm_head";
    case Operation::kAttention: return "attention";
    case Operation::kNorm: return "norms and quantising";
    case Operation::kRope: return "rotation and cache writes";
    case Operation::kQuantize: return "quantising";
    case Operation::kSample: return "sampling";
    case Operation::kEmbed: return "embedding";
  }
  return "?";
}

std::string_view operation_part(Operation operation) {
  switch (operation) {
    case Operation::kQkv:
    case Operation::kOutput:
    case Operation::kGateUp:
    case Operation::kDown:
    case Operation::kLmHead: return "linear layers";
    case Operation::kAttention: return "attention";
    default: return "everything else";
  }
}

TimedBackend::TimedBackend(Backend& inner) : inner_(inner) { graph_ = &inner.graph(); }

template <typename Body>
auto TimedBackend::time(Operation operation, const Body& body) {
  using Clock = std::chrono::steady_clock;
  // At the end of the operation, whatever it returns.
  struct End {
    TimedBackend& timed;
    Operation operation;
    Clock::time_point begin = Clock::now();
    ~End() {
      if (timed.device_clock_) {
        timed.marked_.push_back(operation);
        timed.inner_.mark(timed.marked_.size());
        return;
      }
      timed.inner_.wait();
      timed.seconds_[static_cast<std::size_t>(operation)] +=
          std::chrono::duration<double>(Clock::now() - begin).count();
    }
  } const end{*this, operation};
  return body();
}

Status TimedBackend::plan(const ModelGraph&, WeightLoader&, const BackendLimits&) {
  return invalid_argument("a timed backend runs one that is planned already");
}

void TimedBackend::begin(const StepInput& input) {
  marked_.clear();
  device_clock_ = inner_.mark(0);
  time(Operation::kEmbed, [&] { inner_.begin(input); });
}

void TimedBackend::embed(RowBuffer out) {
  time(Operation::kEmbed, [&] { inner_.embed(out); });
}

LinearInput TimedBackend::add_norm_quantize(std::size_t layer, bool post_attention, bool first) {
  return time(Operation::kNorm,
              [&] { return inner_.add_norm_quantize(layer, post_attention, first); });
}

void TimedBackend::linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
                          RowBuffer out) {
  const DecoderLayer& groups = graph_->layers[layer];
  const Operation operation = &group == &groups.qkv      ? Operation::kQkv
                              : &group == &groups.output ? Operation::kOutput
                                                         : Operation::kDown;
  time(operation, [&] { inner_.linear(layer, group, input, out); });
}

LinearInput TimedBackend::linear_gated_quantize(std::size_t layer, const LinearInput& input) {
  return time(Operation::kGateUp, [&] { return inner_.linear_gated_quantize(layer, input); });
}

void TimedBackend::qk_norm_rope_cache(std::size_t layer) {
  time(Operation::kRope, [&] { inner_.qk_norm_rope_cache(layer); });
}

void TimedBackend::attention(std::size_t layer, RowBuffer out) {
  time(Operation::kAttention, [&] { inner_.attention(layer, out); });
}

LinearInput TimedBackend::quantize(RowBuffer in) {
  return time(Operation::kQuantize, [&] { return inner_.quantize(in); });
}

LinearInput TimedBackend::final_norm_quantize() {
  return time(Operation::kNorm, [&] { return inner_.final_norm_quantize(); });
}

void TimedBackend::lm_head(const LinearInput& input) {
  time(Operation::kLmHead, [&] { inner_.lm_head(input); });
}

void TimedBackend::sample() {
  time(Operation::kSample, [&] { inner_.sample(); });
}

void TimedBackend::score() {
  time(Operation::kSample, [&] { inner_.score(); });
}

Status TimedBackend::finish() {
  const Status status = inner_.finish();
  for (std::size_t i = 0; status.ok() && i < marked_.size(); ++i) {
    seconds_[static_cast<std::size_t>(marked_[i])] += inner_.seconds_between(i, i + 1);
  }
  return status;
}

}  // namespace liquidgemm::bench
