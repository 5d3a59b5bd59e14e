#include <gtest/gtest.h>

#include <random>

#include "checkpoint/file_builders.h"
#include "model/checkpoint/config.h"
#include "model/checkpoint/config_fields.h"
#include "model/checkpoint/quantized_tensors.h"

namespace liquidgemm {
namespace {

using testing::tiny_config;

// A published Llama-style config with one field replaced or added.
json::Object llama_object() {
  auto value = json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu", "bos_token_id": 1,
    "eos_token_id": [2, 3], "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "pretraining_tp": 4})",
                           "test");
  return *value->if_object();
}

Result<ModelConfig> parse_with(const std::string& key, const std::string& value) {
  json::Object object = llama_object();
  object[key] = *json::parse("[" + value + "]", "test")->if_array()->begin();
  return parse_config(json::dump(object), "config.json");
}

void expect_error(const Result<ModelConfig>& result, StatusCode code, const std::string& text) {
  ASSERT_FALSE(result.ok()) << "expected an error about " << text;
  EXPECT_EQ(result.status().code(), code) << result.status().to_string();
  EXPECT_NE(result.status().message().find(text), std::string::npos) << result.status().to_string();
  EXPECT_NE(result.status().message().find("config.json"), std::string::npos);
}

TEST(Config, ReadsLlama) {
  const auto config = parse_config(json::dump(llama_object()), "config.json");
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->family, ModelFamily::kLlama);
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->rope_theta, 500000.0);
  EXPECT_EQ(config->bos_token, 1);
  EXPECT_EQ(config->eos_tokens, (std::vector<std::int64_t>{2, 3}));
  EXPECT_TRUE(config->tied_embeddings);
  EXPECT_FALSE(config->qkv_bias);
  EXPECT_FALSE(config->quantization);
}

TEST(Config, ReadsBothSpellingsOfRope) {
  const std::string llama3 =
      R"("rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192)";
  const auto old_spelling = parse_with("rope_scaling", "{" + llama3 + "}");
  ASSERT_TRUE(old_spelling.ok()) << old_spelling.status().to_string();
  EXPECT_EQ(old_spelling->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(old_spelling->rope_scaling.factor, 32.0);
  EXPECT_EQ(old_spelling->rope_theta, 500000.0);

  const auto spelling5 = parse_with("rope_parameters", "{\"rope_theta\": 1e6, " + llama3 + "}");
  ASSERT_TRUE(spelling5.ok()) << spelling5.status().to_string();
  EXPECT_EQ(spelling5->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(spelling5->rope_scaling.original_max_position, 8192);
  EXPECT_EQ(spelling5->rope_theta, 1e6);

  const auto linear = parse_with("rope_scaling", R"({"type": "linear", "factor": 2})");
  ASSERT_TRUE(linear.ok()) << linear.status().to_string();
  EXPECT_EQ(linear->rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(linear->rope_scaling.factor, 2.0);
  EXPECT_TRUE(parse_with("rope_parameters", R"({"rope_type": "default"})").ok());
  EXPECT_TRUE(parse_with("rope_scaling", "null").ok());
}

TEST(Config, ReadsQwen) {
  json::Object object = llama_object();
  object["architectures"] = json::Array{"Qwen2ForCausalLM"};
  object["use_sliding_window"] = false;
  object["sliding_window"] = 131072;
  auto config = parse_config(json::dump(object), "config.json");
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_FALSE(config->output_bias);
  EXPECT_FALSE(config->qk_norm);

  object["architectures"] = json::Array{"Qwen3ForCausalLM"};
  object["layer_types"] = json::Array{"full_attention", "full_attention"};
  config = parse_config(json::dump(object), "config.json");
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_TRUE(config->qk_norm);
  EXPECT_EQ(config->head_dim, 128);  // its own default, whatever the width
  object["head_dim"] = 32;
  config = parse_config(json::dump(object), "config.json");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->head_dim, 32);
}

TEST(Config, RefusesWhatItCannotRun) {
  const auto code = StatusCode::kUnsupported;
  expect_error(parse_with("architectures", R"(["MixtralForCausalLM"])"), code, "Mixtral");
  expect_error(parse_with("architectures", R"(["MixtralForCausalLM"])"), code, "Qwen3ForCausalLM");
  expect_error(parse_with("hidden_act", "\"gelu\""), code, "hidden_act");
  expect_error(parse_with("partial_rotary_factor", "0.5"), code, "partial_rotary_factor");
  expect_error(parse_with("use_sliding_window", "true"), code, "use_sliding_window");
  expect_error(parse_with("layer_types", R"(["sliding_attention"])"), code, "layer_types");
  for (const char* type : {"yarn", "dynamic", "longrope", "mrope"}) {
    expect_error(parse_with("rope_scaling",
                            "{\"rope_type\": \"" + std::string(type) + "\", \"factor\": 2.0}"),
                 code, type);
  }
  expect_error(parse_with("rope_parameters", R"({"full_attention": {"rope_theta": 1.0}})"), code,
               "rope_parameters");
}

TEST(Config, RefusesBadSizes) {
  const char* sizes[] = {
      "hidden_size",         "intermediate_size", "num_hidden_layers",       "num_attention_heads",
      "num_key_value_heads", "vocab_size",        "max_position_embeddings", "head_dim"};
  for (const char* size : sizes) {
    for (const char* value :
         {"0", "-1", "2147483648", "9223372036854775807", "18446744073709551615", "1e20", "1.5",
          "\"64\"", "true", "[64]", "{}"}) {
      expect_error(parse_with(size, value), StatusCode::kCorrupt, size);
    }
  }
  expect_error(parse_with("num_key_value_heads", "3"), StatusCode::kCorrupt, "multiple");
  expect_error(parse_with("head_dim", "15"), StatusCode::kCorrupt, "even");
  expect_error(parse_with("hidden_size", "66"), StatusCode::kCorrupt, "multiple");
  expect_error(parse_with("rms_norm_eps", "0"), StatusCode::kCorrupt, "rms_norm_eps");
  expect_error(parse_with("rope_theta", "-1"), StatusCode::kCorrupt, "rope_theta");
  expect_error(parse_with("eos_token_id", "100"), StatusCode::kCorrupt, "eos_token_id");
  expect_error(parse_with("eos_token_id", "[2, -1]"), StatusCode::kCorrupt, "eos_token_id");
  expect_error(parse_with("eos_token_id", "\"2\""), StatusCode::kCorrupt, "eos_token_id");
  expect_error(parse_with("bos_token_id", "4294967297"), StatusCode::kCorrupt, "bos_token_id");
  for (const char* text : {"", "[]", "{", "nul", "\xff\xfe", "{\"a\":1}"}) {
    EXPECT_FALSE(parse_config(text, "config.json").ok()) << text;
  }
}

void expect_equal(const ModelConfig& a, const ModelConfig& b) {
  // config_to_json writes every field, so equal texts are equal configs.
  EXPECT_EQ(config_to_json(a), config_to_json(b));
  EXPECT_EQ(a.family, b.family);
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.qkv_bias, b.qkv_bias);
  EXPECT_EQ(a.output_bias, b.output_bias);
  EXPECT_EQ(a.mlp_bias, b.mlp_bias);
  EXPECT_EQ(a.qk_norm, b.qk_norm);
  EXPECT_EQ(a.rope_theta, b.rope_theta);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.eos_tokens, b.eos_tokens);
  EXPECT_EQ(a.bos_token, b.bos_token);
}

TEST(Config, WritesWhatItReads) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  for (int round = 0; round < 200; ++round) {
    ModelConfig config = tiny_config(static_cast<ModelFamily>(pick(0, 2)));
    config.hidden_size = pick(1, 65536);
    config.kv_heads = pick(1, 8);
    config.heads = config.kv_heads * pick(1, 8);
    config.head_dim = 2 * pick(1, 128);
    config.rms_norm_eps = pick(0, 1) == 1 ? 1e-5 : 1e-6;
    config.rope_theta = static_cast<double>(pick(1, 10000000));
    config.tied_embeddings = pick(0, 1) == 1;
    config.rope_scaling.kind = static_cast<RopeScaling::Kind>(pick(0, 2));
    if (config.rope_scaling.kind != RopeScaling::Kind::kNone) config.rope_scaling.factor = 3.3;
    if (config.family != ModelFamily::kQwen2) {
      config.qkv_bias = config.output_bias = pick(0, 1) == 1;
    }
    if (config.family == ModelFamily::kLlama) config.mlp_bias = pick(0, 1) == 1;
    config.eos_tokens.clear();
    for (std::int64_t i = pick(0, 3); i > 0; --i) config.eos_tokens.push_back(i);
    if (pick(0, 1) == 1) config.bos_token.reset();
    const auto again = parse_config(config_to_json(config), "config.json");
    ASSERT_TRUE(again.ok()) << again.status().to_string();
    expect_equal(config, *again);
  }
}

// A quantization of tiny_config: everything that fits is liquid4.
QuantizationConfig tiny_quantization(const ModelConfig& config) {
  QuantizationConfig quantization;
  for (const LinearName& module : weight_modules(config)) {
    const bool lookup = module.module == kEmbeddingModule || module.module == kHeadModule;
    quantization.layers[module.module] = lookup ? LayerQuantization{WeightScheme::kInt8, 0}
                                                : LayerQuantization{WeightScheme::kLiquid4, 64};
  }
  quantization.layers["model.layers.1.mlp.down_proj"] = {WeightScheme::kLiquid4, 32};
  quantization.layers["model.layers.1.mlp.up_proj"] = {WeightScheme::kFloat, 0};
  return quantization;
}

TEST(QuantizationConfig, RoundTrips) {
  ModelConfig config = tiny_config();
  config.quantization = tiny_quantization(config);
  const auto again = parse_config(config_to_json(config), "config.json");
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  ASSERT_TRUE(again->quantization);
  ASSERT_EQ(again->quantization->layers.size(), config.quantization->layers.size());
  for (const auto& [module, layer] : config.quantization->layers) {
    EXPECT_EQ(again->quantization->layers.at(module).scheme, layer.scheme) << module;
    EXPECT_EQ(again->quantization->layers.at(module).group_size, layer.group_size) << module;
  }
}

// tiny_config's text with `change` applied to its quantization_config.
template <typename Change>
Result<ModelConfig> parse_changed(Change change) {
  ModelConfig config = tiny_config();
  config.quantization = tiny_quantization(config);
  json::Value value = *json::parse(config_to_json(config), "test");
  change(*(*value.if_object())["quantization_config"].if_object());
  return parse_config(json::dump(value), "config.json");
}

TEST(QuantizationConfig, RefusesWhatItDoesNotKnow) {
  using O = json::Object;
  const auto layers = [](O& q) -> O& { return *q["layers"].if_object(); };
  const auto q_proj = [&](O& q) -> O& {
    return *layers(q)["model.layers.0.self_attn.q_proj"].if_object();
  };
  const auto unsupported = StatusCode::kUnsupported;
  const auto corrupt = StatusCode::kCorrupt;
  ASSERT_TRUE(parse_changed([](O&) {}).ok());
  expect_error(parse_changed([](O& q) { q["desc_act"] = true; }), unsupported, "desc_act");
  expect_error(parse_changed([](O& q) { q["format_version"] = 2; }), unsupported, "format_version");
  expect_error(parse_changed([](O& q) { q["format_version"] = "1"; }), corrupt, "format_version");
  expect_error(parse_changed([](O& q) { q["bits"] = 8; }), unsupported, "bits");
  expect_error(parse_changed([](O& q) { q["group_size"] = 48; }), corrupt, "group_size");
  for (const char* method : {"gptq", "awq", "compressed-tensors", "bitsandbytes"}) {
    expect_error(parse_changed([&](O& q) { q["quant_method"] = method; }), unsupported, method);
  }
  expect_error(parse_changed([](O& q) { q.erase("quant_method"); }), corrupt, "quant_method");
  expect_error(parse_changed([](O& q) { q.erase("layers"); }), corrupt, "layers");
  expect_error(parse_changed([&](O& q) { layers(q).erase("lm_head"); }), corrupt, "lm_head");
  expect_error(parse_changed([&](O& q) { layers(q)["model.layers.2.mlp.up_proj"] = O(); }), corrupt,
               "model.layers.2.mlp.up_proj");
  expect_error(parse_changed([&](O& q) { q_proj(q)["scheme"] = "nf4"; }), unsupported, "nf4");
  expect_error(parse_changed([&](O& q) { q_proj(q)["group_size"] = 96; }), corrupt, "q_proj");
  expect_error(parse_changed([&](O& q) { q_proj(q)["zero_point"] = 1; }), unsupported,
               "zero_point");
  expect_error(parse_changed([&](O& q) { q_proj(q)["scheme"] = "int8"; }), corrupt, "group_size");
  // FP16 is the head's alone.
  expect_error(parse_changed([&](O& q) { q_proj(q) = O{{"scheme", "fp16"}}; }), corrupt, "q_proj");
  expect_error(parse_changed([&](O& q) {
                 layers(q)["model.embed_tokens"] = O{{"scheme", "fp16"}};
               }),
               corrupt, "model.embed_tokens");
  expect_error(parse_changed([&](O& q) {
                 layers(q)["lm_head"] = O{{"scheme", "fp16"}, {"group_size", 64}};
               }),
               corrupt, "group_size");
  // Embeddings are looked up by row and stay INT8.
  expect_error(parse_changed([&](O& q) {
                 layers(q)["lm_head"] = O{{"scheme", "liquid4"}, {"group_size", 64}};
               }),
               corrupt, "lm_head");
}

TEST(QuantizationConfig, AnFp16HeadIsNoEmbedding) {
  ModelConfig config = tiny_config();
  config.quantization = tiny_quantization(config);
  config.quantization->layers[kHeadModule] = {WeightScheme::kFp16, 0};
  const auto again = parse_config(config_to_json(config), "config.json");
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ(again->quantization->layers.at(kHeadModule).scheme, WeightScheme::kFp16);
  config.tied_embeddings = true;
  expect_error(parse_config(config_to_json(config), "config.json"), StatusCode::kCorrupt,
               "tie_word_embeddings");
}

}  // namespace
}  // namespace liquidgemm
