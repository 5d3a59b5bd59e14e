// Models with random weights keep the contract, and are the same ones every time.
#include "model/checkpoint/dummy_source.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fresh_seed.h"
#include "model/checkpoint/presets.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {
namespace {

using testing::fresh_seed;

ModelConfig small_config() {
  ModelConfig config;
  config.hidden_size = 96;
  config.intermediate_size = 164;  // not a multiple of 32: down is INT8
  config.layers = 2;
  config.heads = 6;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 200;
  config.max_position = 128;
  return config;
}

std::vector<std::uint8_t> bytes_of(const ModelSource& source, const std::string& tensor) {
  const auto bytes = source.tensors->bytes(tensor);
  EXPECT_TRUE(bytes.ok()) << bytes.status().message();
  std::vector<std::uint8_t> copy(bytes->size());
  std::transform(bytes->begin(), bytes->end(), copy.begin(),
                 [](std::byte byte) { return static_cast<std::uint8_t>(byte); });
  source.tensors->release(tensor);
  return copy;
}

TEST(DummySource, EveryLayerKeepsTheContractWithEveryGroupSize) {
  const ModelConfig config = small_config();
  const std::uint64_t seed = fresh_seed();
  for (const int group_size : {32, 64, 128}) {
    const ModelSource source = dummy_source("dummy", config, group_size, seed);
    int liquid_layers = 0;
    for (std::int64_t layer = 0; layer < config.layers; ++layer) {
      for (const LinearName& linear : layer_linears(config, layer)) {
        const LayerQuantization stored = source.config.quantization->layers.at(linear.module);
        if (!liquid_quant_takes(linear.n, linear.k)) {
          EXPECT_EQ(stored.scheme, WeightScheme::kInt8) << linear.module;
          continue;
        }
        ++liquid_layers;
        EXPECT_EQ(stored.group_size, group_size);
        const auto step = bytes_of(source, linear.module + ".group_scale");
        const std::vector<float> scale(static_cast<std::size_t>(linear.n), 1.0f);
        const Status status =
            check_liquid_rows(bytes_of(source, linear.module + ".weight_packed"), step,
                              bytes_of(source, linear.module + ".group_offset"), scale, linear.n,
                              linear.k, group_size, linear.module);
        EXPECT_TRUE(status.ok()) << status.message();
        // Random indeed, not all alike.
        EXPECT_GT(*std::max_element(step.begin(), step.end()),
                  *std::min_element(step.begin(), step.end()));
      }
    }
    EXPECT_EQ(liquid_layers, 8) << "q, k, v and o; the widths of the others do not fit";
  }
}

TEST(DummySource, TheSameSeedGivesTheSameBytesAfterTheyWereReleased) {
  const std::uint64_t seed = fresh_seed();
  const ModelSource one = dummy_source("dummy", small_config(), 32, seed);
  const ModelSource same = dummy_source("dummy", small_config(), 32, seed);
  const ModelSource other = dummy_source("dummy", small_config(), 32, seed + 1);
  const std::string tensor = "model.layers.1.self_attn.q_proj.weight_packed";
  const auto first = bytes_of(one, tensor);
  EXPECT_EQ(first, bytes_of(one, tensor));
  EXPECT_EQ(first, bytes_of(same, tensor));
  EXPECT_NE(first, bytes_of(other, tensor));
  EXPECT_NE(first, bytes_of(one, "model.layers.0.self_attn.q_proj.weight_packed"));
  const auto table = bytes_of(one, "model.embed_tokens.weight_int8");
  EXPECT_EQ(std::count(table.begin(), table.end(), 0x80), 0) << "-128 is no value of the format";
}

TEST(DummySource, WhatItDoesNotHaveIsSaid) {
  const ModelSource source = dummy_source("dummy", small_config(), 64, 1);
  EXPECT_FALSE(source.tensors->bytes("model.nothing").ok());
  float value = 0.0f;
  const Status status =
      source.tensors->read_rows("model.layers.0.self_attn.q_proj.weight_packed", 0, 1, &value);
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
}

TEST(Presets, AreConfigsThatAReaderTakes) {
  for (const std::string& name : preset_names()) {
    const auto config = preset_config(name);
    ASSERT_TRUE(config.ok()) << config.status().message();
    const auto read = parse_config(config_to_json(*config), name);
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read->head_dim * read->heads, read->hidden_size) << name;
    EXPECT_EQ(read->tied_embeddings, config->tied_embeddings);
  }
  const auto unknown = preset_config("9b");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("llama-3-8b"), std::string::npos);
}

}  // namespace
}  // namespace liquidgemm
