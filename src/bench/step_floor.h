// The least time that a generation step can take on a GPU: the sum over its kernels of
// max(bytes / read bandwidth, operations / INT8 rate).
//
// Only what no kernel gets around counts. Bytes: the weights as the checkpoint stores them, and the
// keys and values in the cache with their scales; activations and logits may stay on the chip. A
// model that runs with FP16 weights reads two bytes a weight, and has half the INT8 rate.
// Operations: multiply-adds of the linear layers and the head, two each; attention's never decide.
#pragma once

#include <cstdint>

#include "bench/goal_shapes.h"
#include "bench/timed_backend.h"
#include "model/graph.h"

namespace liquidgemm::bench {

struct StepLoad {
  std::int64_t batch = 1;
  double context_tokens = 0.0;  // whose keys and values are read, of all requests together
  double kv_token_bytes = 0.0;  // keys, values and scales of one token in all layers
  bool half_weights = false;    // FP16, whatever the checkpoint holds
};

// By kind of operation; kinds without a floor are 0. The whole is their sum.
OperationSeconds step_floor(const ModelGraph& graph, const StepLoad& load,
                            const Ceilings& ceilings);
double floor_seconds(const OperationSeconds& floor);
// Of the weights, keys and values alone.
double step_bytes(const ModelGraph& graph, const StepLoad& load);

// What an INT8 cache with one scale a channel, as in the paper, takes for a token.
double int8_kv_token_bytes(const ModelConfig& config);

}  // namespace liquidgemm::bench
