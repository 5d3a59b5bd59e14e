// Scales for a static INT8 cache, measured while the model reads a text.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "liquidgemm/status.h"
#include "model/checkpoint/model_source.h"
#include "model/kv_scales.h"
#include "model/weights.h"

namespace liquidgemm {

struct KvCalibration {
  Precision precision = Precision::kW4A8;  // of the model that reads
  int group_size = 64;
  StepRule rule = StepRule::kSearch;
  std::int64_t window = 2048;  // tokens that the model reads with one context, at most its own
};

// Called after each window.
using KvCalibrationProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// One entry a layer. A channel's scale is its largest magnitude over all tokens / 127, or 1 where
// it has no value to speak of. Of keys a rotation moves values between a channel and the one half a
// head away, so these two share the larger of theirs. The same on every machine.
// kCancelled when `stop` became true.
Result<std::vector<KvScales>> measure_kv_scales(const ModelSource& source,
                                                std::span<const TokenId> tokens,
                                                const KvCalibration& options, ThreadPool& pool,
                                                const std::atomic<bool>& stop,
                                                const KvCalibrationProgress& progress = {});

}  // namespace liquidgemm
