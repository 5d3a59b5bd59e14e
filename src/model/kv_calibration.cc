#include "model/kv_calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "base/status_macros.h"
#include "model/cpu_backend.h"
#include "model/graph.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kRowsOfStep = 256;

// The largest magnitudes so far, where the scales will be.
class Maxima {
 public:
  explicit Maxima(const ModelConfig& config) : head_dim_(config.head_dim) {
    const auto width = static_cast<std::size_t>(config.kv_heads * config.head_dim);
    layers_.assign(static_cast<std::size_t>(config.layers),
                   {std::vector<float>(width), std::vector<float>(width)});
  }

  // Takes in a page's first `tokens` tokens.
  void add(std::size_t layer, std::int64_t head, const KvPageView& page, std::int64_t tokens) {
    float* k = layers_[layer].k.data() + head * head_dim_;
    float* v = layers_[layer].v.data() + head * head_dim_;
    for (std::int64_t d = 0; d < head_dim_; ++d) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        take(page.k_f32[d * kPageTokens + t], k[d]);
        take(page.v_f32[t * head_dim_ + d], v[d]);
      }
    }
  }

  Result<std::vector<KvScales>> scales() && {
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      share_pairs(layers_[layer].k);
      for (std::vector<float>* maxima : {&layers_[layer].k, &layers_[layer].v}) {
        for (float& largest : *maxima) {
          if (!std::isfinite(largest)) {
            return corrupt("the keys or values of layer " + std::to_string(layer) +
                           " are not finite where the model reads the text for --kv-scales");
          }
          const float scale = largest / 127.0f;
          largest = scale < std::numeric_limits<float>::min() ? 1.0f : scale;
        }
      }
    }
    return std::move(layers_);
  }

 private:
  // A NaN stays.
  static void take(float value, float& largest) {
    const float magnitude = std::fabs(value);
    if (!(magnitude <= largest)) largest = magnitude;
  }

  void share_pairs(std::vector<float>& k) const {
    const std::int64_t half = head_dim_ / 2;
    for (float* head = k.data(); head != k.data() + k.size(); head += head_dim_) {
      for (std::int64_t d = 0; d < half; ++d) {
        head[d] = head[d + half] = std::max(head[d], head[d + half]);
      }
    }
  }

  std::int64_t head_dim_;
  std::vector<KvScales> layers_;
};

}  // namespace

Result<std::vector<KvScales>> measure_kv_scales(const ModelSource& source,
                                                std::span<const TokenId> tokens,
                                                const KvCalibration& options, ThreadPool& pool,
                                                const std::atomic<bool>& stop,
                                                const KvCalibrationProgress& progress) {
  const ModelConfig& config = source.config;
  if (tokens.empty()) return invalid_argument("the text for --kv-scales is empty");
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      WeightLoader weights,
      WeightLoader::create(source, options.precision, options.group_size, options.rule, pool));
  weights.set_report([&](std::int64_t, std::int64_t) {
    return stop ? cancelled("interrupted while loading " + source.path) : ok_status();
  });
  const std::int64_t window = std::clamp<std::int64_t>(options.window, 1, config.max_position);
  BackendLimits limits;
  limits.max_rows = std::min(kRowsOfStep, window);
  limits.max_sequences = 1;
  limits.max_logits_rows = 1;
  limits.max_position = window;
  limits.pages = pages_for(window);
  limits.kv_format = KvFormat::kF32;
  CpuBackend backend(best_isa(), pool);
  LIQUIDGEMM_RETURN_IF_ERROR(backend.plan(build_graph(config), weights, limits));

  std::vector<std::int32_t> pages(static_cast<std::size_t>(limits.pages));
  std::iota(pages.begin(), pages.end(), 0);
  Maxima maxima(config);
  const auto total = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t begin = 0; begin < total; begin += window) {
    const std::int64_t length = std::min(window, total - begin);
    for (std::int64_t first = 0; first < length; first += limits.max_rows) {
      if (stop) return cancelled("interrupted");
      const std::int64_t rows = std::min(limits.max_rows, length - first);
      const SequenceRows sequence{.first_row = 0,
                                  .rows = static_cast<std::int32_t>(rows),
                                  .context = static_cast<std::int32_t>(first),
                                  .pages = pages};
      LIQUIDGEMM_RETURN_IF_ERROR(
          backend.step({.tokens = tokens.subspan(static_cast<std::size_t>(begin + first),
                                                 static_cast<std::size_t>(rows)),
                        .sequences = {&sequence, 1},
                        .logits_rows = {},
                        .samples = {}}));
    }
    for (std::int64_t layer = 0; layer < config.layers; ++layer) {
      for (std::int64_t head = 0; head < config.kv_heads; ++head) {
        for (std::int64_t t = 0; t < length; t += kPageTokens) {
          const auto at = static_cast<std::size_t>(layer);
          maxima.add(at, head, backend.stored(static_cast<std::int32_t>(t / kPageTokens), at, head),
                     std::min<std::int64_t>(kPageTokens, length - t));
        }
      }
    }
    if (progress) progress(begin + length, total);
  }
  return std::move(maxima).scales();
}

}  // namespace liquidgemm
