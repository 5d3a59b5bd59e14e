#include "model/graph.h"

#include <initializer_list>

namespace liquidgemm {
namespace {

LinearGroup group(std::string name, std::initializer_list<LinearName> parts) {
  LinearGroup made;
  made.name = std::move(name);
  made.parts = parts;
  made.k = made.parts.front().k;
  for (const LinearName& part : made.parts) made.n += part.n;
  return made;
}

}  // namespace

ModelGraph build_graph(const ModelConfig& config) {
  ModelGraph graph;
  graph.config = config;
  graph.embedding = "model.embed_tokens";
  graph.lm_head = config.tied_embeddings ? graph.embedding : "lm_head";
  graph.final_norm = "model.norm.weight";
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    // q, k, v, o, gate, up, down
    const std::vector<LinearName> linears = layer_linears(config, i);
    DecoderLayer layer;
    layer.qkv = group("qkv", {linears[0], linears[1], linears[2]});
    layer.output = group("o", {linears[3]});
    layer.gate_up = group("gate_up", {linears[4], linears[5]});
    layer.down = group("down", {linears[6]});
    layer.input_norm = prefix + "input_layernorm.weight";
    layer.post_attention_norm = prefix + "post_attention_layernorm.weight";
    if (config.qk_norm) {
      layer.q_norm = prefix + "self_attn.q_norm.weight";
      layer.k_norm = prefix + "self_attn.k_norm.weight";
    }
    graph.layers.push_back(std::move(layer));
  }
  return graph;
}

}  // namespace liquidgemm
