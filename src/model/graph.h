// The decoder as data: which linear layers there are, how they are grouped, which norms stand
// where.
//
// All supported families are one shape of decoder; what differs (biases, norms over q and k, rope
// scaling, tied embeddings) is a field here. Adding a family means filling these fields.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/checkpoint/config.h"

namespace liquidgemm {

// Linear layers that read the same rows, run as one: their outputs lie side by side.
struct LinearGroup {
  std::string name;               // "qkv", "gate_up", ...: what reports call it
  std::vector<LinearName> parts;  // in output order
  std::int64_t n = 0;             // sum over the parts
  std::int64_t k = 0;
};

struct DecoderLayer {
  LinearGroup qkv;
  LinearGroup output;
  LinearGroup gate_up;
  LinearGroup down;
  std::string input_norm;  // tensor names
  std::string post_attention_norm;
  std::string q_norm;  // empty: none
  std::string k_norm;
};

struct ModelGraph {
  ModelConfig config;
  std::vector<DecoderLayer> layers;
  std::string embedding;  // module names
  std::string lm_head;    // the embedding's when tied
  std::string final_norm;

  std::int64_t q_width() const { return config.heads * config.head_dim; }
  std::int64_t kv_width() const { return config.kv_heads * config.head_dim; }
};

ModelGraph build_graph(const ModelConfig& config);

}  // namespace liquidgemm
