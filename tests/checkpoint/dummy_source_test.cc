// Models with random weights keep the contract, and are the same ones every time.
#include "model/checkpoint/dummy_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
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

TEST(DummySource, StepsAndOffsetsFillTheirRange) {
  ModelConfig config = small_config();
  config.hidden_size = 1024;
  config.intermediate_size = 2048;
  const ModelSource source = dummy_source("dummy", config, 32, fresh_seed());
  const std::string module = "model.layers.0.mlp.up_proj";
  const auto step = bytes_of(source, module + ".group_scale");
  const auto offset = bytes_of(source, module + ".group_offset");
  // 65,536 groups: by step, the least and the largest offset. The largest may be 255 - 15 s.
  std::vector<int> least(17, 256), most(17, -1);
  for (std::size_t group = 0; group < step.size(); ++group) {
    least[step[group]] = std::min<int>(least[step[group]], offset[group]);
    most[step[group]] = std::max<int>(most[step[group]], offset[group]);
  }
  for (int s = 1; s <= 16; ++s) {
    EXPECT_EQ(least[static_cast<std::size_t>(s)], 0) << s;
    EXPECT_EQ(most[static_cast<std::size_t>(s)], 255 - 15 * s) << s;
  }
}

TEST(DummySource, BiasesAreZerosWhereTheFamilyHasThem) {
  ModelConfig config = small_config();
  config.qkv_bias = true;
  const ModelSource source = dummy_source("dummy", config, 32, fresh_seed());
  std::vector<float> bias(96, 1.0f);
  const std::string module = "model.layers.1.self_attn.";
  ASSERT_TRUE(source.tensors->read_rows(module + "q_proj.bias", 0, 1, bias.data()).ok());
  EXPECT_EQ(bias, std::vector<float>(96, 0.0f));
  EXPECT_EQ(source.tensors->find(module + "o_proj.bias"), nullptr);
}

TEST(DummySource, AnFp16HeadLiesApartAndIsFinite) {
  ModelConfig config = small_config();
  config.tied_embeddings = true;
  const ModelSource source = dummy_source("dummy", config, 32, fresh_seed(), WeightScheme::kFp16);
  EXPECT_FALSE(source.config.tied_embeddings);
  EXPECT_EQ(source.config.quantization->layers.at("lm_head").scheme, WeightScheme::kFp16);
  const auto bytes = bytes_of(source, "lm_head.weight");
  ASSERT_EQ(bytes.size(), 2u * 200u * 96u);
  EXPECT_TRUE(check_fp16_rows(bytes, 96, "lm_head").ok());
  // As floats, from any row on, the same values; about as large as such a layer's should be.
  std::vector<float> rows(77 * 96);
  ASSERT_TRUE(source.tensors->read_rows("lm_head.weight", 101, 77, rows.data()).ok());
  double squares = 0.0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t at = 2 * (101 * 96 + i);
    EXPECT_EQ(rows[i], f16_to_float(static_cast<std::uint16_t>(bytes[at] | bytes[at + 1] << 8)));
    squares += static_cast<double>(rows[i]) * static_cast<double>(rows[i]);
  }
  const double size = std::sqrt(squares / static_cast<double>(rows.size())) * std::sqrt(96.0);
  EXPECT_GT(size, 0.4);
  EXPECT_LT(size, 2.5);
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
    EXPECT_EQ(read->qkv_bias, config->qkv_bias);
    EXPECT_EQ(read->qkv_bias, name.rfind("qwen", 0) == 0) << name;
  }
  const auto unknown = preset_config("9b");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("llama3-8b"), std::string::npos);
}

// The models' published numbers of weights, in millions.
TEST(Presets, HaveTheModelsSizes) {
  const std::pair<const char*, double> sizes[] = {
      {"smollm2-135m", 134.5}, {"llama2-7b", 6738.4},   {"mistral-7b", 7241.7},
      {"qwen2.5-7b", 7615.6},  {"llama3-8b", 8030.3},   {"llama2-13b", 13015.9},
      {"yi-34b", 34388.9},     {"llama2-70b", 68976.6},
  };
  for (const auto& [name, millions] : sizes) {
    const auto config = preset_config(name);
    ASSERT_TRUE(config.ok()) << config.status().message();
    const std::int64_t table = config->vocab_size * config->hidden_size;
    std::int64_t weights = (config->tied_embeddings ? 1 : 2) * table + config->hidden_size;
    for (std::int64_t layer = 0; layer < config->layers; ++layer) {
      weights += 2 * config->hidden_size;
      for (const LinearName& linear : layer_linears(*config, layer)) {
        weights += linear.n * linear.k + (linear.bias ? linear.n : 0);
      }
    }
    EXPECT_NEAR(static_cast<double>(weights) / 1e6, millions, 0.05) << name;
  }
}

TEST(Presets, HaveSecondNamesThatAreNotListed) {
  const std::vector<std::string> names = preset_names();
  for (const auto& [alias, name] :
       {std::pair{"llama-2-7b", "llama2-7b"}, std::pair{"llama-3-8b", "llama3-8b"}}) {
    EXPECT_EQ(std::count(names.begin(), names.end(), alias), 0);
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 1);
    EXPECT_EQ(preset_of_alias(alias), name);
    EXPECT_EQ(preset_of_alias(name), name);
    ASSERT_TRUE(preset_config(alias).ok());
    EXPECT_EQ(preset_config(alias)->intermediate_size, preset_config(name)->intermediate_size);
  }
}

}  // namespace
}  // namespace liquidgemm
