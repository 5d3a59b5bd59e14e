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
  struct Timer {
    double& total;
    std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    ~Timer() {
      total += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
  } const timer{seconds_[static_cast<std::size_t>(operation)]};
  // A device that runs on by itself is waited for, with the timer still on.
  struct Wait {
    Backend& inner;
    ~Wait() { inner.wait(); }
  } const wait{inner_};
  return body();
}

Status TimedBackend::plan(const ModelGraph&, WeightLoader&, const BackendLimits&) {
  return invalid_argument("a timed backend runs one that is planned already");
}

void TimedBackend::begin(const StepInput& input) {
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

}  // namespace liquidgemm::bench
