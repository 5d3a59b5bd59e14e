#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/file_builders.h"
#include "model/checkpoint/huggingface_source.h"
#include "model/checkpoint/quantized_tensors.h"

namespace liquidgemm {
namespace {

using testing::random_tensor;
using testing::raw_vector;
using testing::safetensors_file;
using testing::TempFolder;
using testing::TestTensor;
using testing::tiny_config;

void expect_error(const Status& status, const std::string& text,
                  StatusCode code = StatusCode::kCorrupt) {
  EXPECT_EQ(status.code(), code) << status.to_string();
  EXPECT_NE(status.message().find(text), std::string::npos)
      << status.to_string() << "\n  should mention: " << text;
}

// Every float tensor that the config asks for.
std::vector<TestTensor> float_tensors(const ModelConfig& config) {
  std::vector<TestTensor> tensors;
  unsigned seed = 1;
  for (const LinearName& linear : weight_modules(config)) {
    tensors.push_back(random_tensor(linear.module + ".weight", {linear.n, linear.k}, ++seed));
    if (linear.bias) tensors.push_back(random_tensor(linear.module + ".bias", {linear.n}, ++seed));
  }
  for (const NormName& norm : norm_tensors(config)) {
    tensors.push_back(random_tensor(norm.tensor, {norm.size}, ++seed));
  }
  return tensors;
}

// The tensors of a LiquidQuant checkpoint, filled with zeros: headers are what is checked here.
std::vector<TestTensor> quantized_tensors(const ModelConfig& config) {
  std::vector<TestTensor> tensors;
  const auto zeros = [&](const std::string& name, DType dtype, const Shape& shape) {
    tensors.push_back({name, dtype, shape,
                       std::string(static_cast<std::size_t>(*tensor_bytes(dtype, shape)), '\0')});
  };
  for (const LinearName& linear : weight_modules(config)) {
    const LayerQuantization layer = config.quantization->layers.at(linear.module);
    if (layer.scheme == WeightScheme::kLiquid4) {
      const std::int64_t groups = (linear.k + layer.group_size - 1) / layer.group_size;
      zeros(linear.module + ".weight_packed", DType::kU8, {linear.n, linear.k / 2});
      zeros(linear.module + ".group_scale", DType::kU8, {linear.n, groups});
      zeros(linear.module + ".group_offset", DType::kU8, {linear.n, groups});
    } else {
      zeros(linear.module + ".weight_int8", DType::kI8, {linear.n, linear.k});
    }
    zeros(linear.module + ".weight_scale", DType::kF32, {linear.n});
    if (linear.bias) zeros(linear.module + ".bias", DType::kF32, {linear.n});
  }
  for (const NormName& norm : norm_tensors(config)) zeros(norm.tensor, DType::kBF16, {norm.size});
  return tensors;
}

ModelConfig quantized_config(ModelFamily family) {
  ModelConfig config = tiny_config(family);
  QuantizationConfig quantization;
  for (const LinearName& module : weight_modules(config)) {
    const bool lookup = module.module == kEmbeddingModule || module.module == kHeadModule;
    quantization.layers[module.module] = lookup ? LayerQuantization{WeightScheme::kInt8, 0}
                                                : LayerQuantization{WeightScheme::kLiquid4, 64};
  }
  config.quantization = quantization;
  return config;
}

TestTensor& find(std::vector<TestTensor>& tensors, const std::string& name) {
  for (TestTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << name;
  return tensors.front();
}

class HuggingFace : public ::testing::Test {
 protected:
  void write(const ModelConfig& config, const std::vector<TestTensor>& tensors) {
    folder_.write("config.json", config_to_json(config));
    folder_.write("model.safetensors", safetensors_file(tensors));
    folder_.write("tokenizer.json", testing::tiny_tokenizer_json());
  }
  Result<ModelSource> open() { return open_model_source(folder_.path()); }
  TempFolder folder_;
};

TEST_F(HuggingFace, OpensEveryFamily) {
  for (ModelFamily family : {ModelFamily::kLlama, ModelFamily::kQwen2, ModelFamily::kQwen3}) {
    for (bool tied : {false, true}) {
      ModelConfig config = tiny_config(family);
      config.tied_embeddings = tied;
      std::vector<TestTensor> tensors = float_tensors(config);
      tensors.push_back(random_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {8}, 3));
      write(config, tensors);
      const auto source = open();
      ASSERT_TRUE(source.ok()) << source.status().to_string();
      EXPECT_EQ(source->format, ModelSource::Format::kHuggingFace);
      EXPECT_EQ(source->config.architecture, config.architecture);
      EXPECT_EQ(source->tokenizer.vocabulary.size(), 40u);
      EXPECT_EQ(
          source->stored_bytes,
          static_cast<std::int64_t>(std::filesystem::file_size(folder_.file("model.safetensors"))));
      const TestTensor expected = find(tensors, "model.layers.1.mlp.down_proj.weight");
      std::vector<float> values(96 * 160);
      ASSERT_TRUE(source->tensors->read_rows(expected.name, 0, 96, values.data()).ok());
      EXPECT_EQ(raw_vector(values), expected.data);
    }
  }
}

TEST_F(HuggingFace, ReadsTheSmallFiles) {
  write(tiny_config(), float_tensors(tiny_config()));
  folder_.write("generation_config.json",
                R"({"eos_token_id": [1, 2], "temperature": 0.6, "top_p": 0.9, "top_k": -1,
                    "do_sample": true, "transformers_version": "4.57.1"})");
  folder_.write("tokenizer_config.json",
                R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
                    "chat_template": [{"name": "tool_use", "template": "no"},
                                      {"name": "default", "template": "yes"}],
                    "added_tokens_decoder": {"1": {"content": "</s>", "special": true},
                                             "39": {"content": "ignored"}}})");
  auto source = open();
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  EXPECT_EQ(source->config.eos_tokens, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(source->generation.temperature, 0.6);
  EXPECT_EQ(source->generation.top_p, 0.9);
  EXPECT_FALSE(source->generation.top_k);
  EXPECT_FALSE(source->generation.min_p);
  EXPECT_EQ(source->bos_token, "<s>");
  EXPECT_EQ(source->eos_token, "</s>");
  EXPECT_EQ(source->chat_template, "yes");
  EXPECT_EQ(source->tokenizer.added_tokens.size(), 2u);  // both were known already

  folder_.write("chat_template.jinja", "from the file");
  source = open();
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(source->chat_template, "from the file");
}

TEST_F(HuggingFace, AddsTokensOfTokenizerConfig) {
  ModelConfig config = tiny_config();
  config.vocab_size = 48;
  write(config, float_tensors(config));
  folder_.write("tokenizer_config.json",
                R"({"added_tokens_decoder": {"41": {"content": "<x>", "special": true}}})");
  const auto source = open();
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  ASSERT_EQ(source->tokenizer.added_tokens.size(), 3u);
  EXPECT_EQ(source->tokenizer.added_tokens.back().content, "<x>");
  EXPECT_TRUE(source->tokenizer.added_tokens.back().special);
}

TEST_F(HuggingFace, RefusesTensorsThatDoNotFitTheConfig) {
  const ModelConfig config = tiny_config(ModelFamily::kQwen3);
  const std::vector<TestTensor> good = float_tensors(config);
  const auto error_with = [&](auto change) {
    std::vector<TestTensor> tensors = good;
    change(tensors);
    write(config, tensors);
    return open().status();
  };
  expect_error(
      error_with([](auto& t) { find(t, "model.layers.1.self_attn.k_norm.weight").name = "other"; }),
      "model.layers.1.self_attn.k_norm.weight", StatusCode::kNotFound);
  expect_error(error_with([](auto& t) {
                 find(t, "model.layers.0.mlp.up_proj.weight").shape = {96, 160};
               }),
               "[96, 160], the config expects [160, 96]");
  expect_error(error_with([](auto& t) {
                 TestTensor& tensor = find(t, "model.norm.weight");
                 tensor.dtype = DType::kI32;
               }),
               "I32");
  expect_error(error_with([](auto& t) {
                 find(t, "model.embed_tokens.weight") =
                     random_tensor("model.embed_tokens.weight", {41, 96}, 1);
               }),
               "model.embed_tokens.weight");
}

TEST_F(HuggingFace, RefusesBadSmallFiles) {
  write(tiny_config(), float_tensors(tiny_config()));
  folder_.write("generation_config.json", R"({"temperature": "hot"})");
  expect_error(open().status(), "temperature");
  folder_.write("generation_config.json", R"({"eos_token_id": 40})");
  expect_error(open().status(), "eos_token_id");
  folder_.write("generation_config.json", "{}");
  folder_.write("tokenizer_config.json", R"({"bos_token": 7})");
  expect_error(open().status(), "bos_token");
  folder_.write("tokenizer_config.json", R"({"added_tokens_decoder": {"-1": {"content": "x"}}})");
  expect_error(open().status(), "added_tokens_decoder");
  folder_.write("tokenizer_config.json", R"({"added_tokens_decoder": {"40": {"content": "x"}}})");
  expect_error(open().status(), "vocab_size");
  folder_.write("tokenizer_config.json", "{}");
  ASSERT_TRUE(open().ok());
  folder_.write("chat_template.jinja", std::string((1u << 20) + 1, 'x'));
  expect_error(open().status(), "chat_template.jinja", StatusCode::kResourceExhausted);
  std::filesystem::remove(folder_.file("chat_template.jinja"));
  std::filesystem::create_symlink("/etc/hostname", folder_.file("chat_template.jinja"));
  expect_error(open().status(), "leaves the folder", StatusCode::kInvalidArgument);
  std::filesystem::remove(folder_.file("chat_template.jinja"));
  std::filesystem::remove(folder_.file("tokenizer.json"));
  expect_error(open().status(), "tokenizer.json", StatusCode::kNotFound);
  folder_.write("tokenizer.model", "");
  expect_error(open().status(), "another form", StatusCode::kNotFound);
  std::filesystem::remove(folder_.file("config.json"));
  expect_error(open().status(), "config.json", StatusCode::kNotFound);
}

TEST_F(HuggingFace, OpensLiquidQuantCheckpoints) {
  for (ModelFamily family : {ModelFamily::kLlama, ModelFamily::kQwen2, ModelFamily::kQwen3}) {
    const ModelConfig config = quantized_config(family);
    write(config, quantized_tensors(config));
    const auto source = open();
    ASSERT_TRUE(source.ok()) << source.status().to_string();
    ASSERT_TRUE(source->config.quantization);
    const auto packed = source->tensors->bytes("model.layers.0.mlp.down_proj.weight_packed");
    ASSERT_TRUE(packed.ok());
    EXPECT_EQ(packed->size(), 96u * 80u);
  }
}

TEST_F(HuggingFace, RefusesLiquidQuantTensorsOfAnotherLayout) {
  const ModelConfig config = quantized_config(ModelFamily::kQwen2);
  const std::vector<TestTensor> good = quantized_tensors(config);
  const std::string q = "model.layers.0.self_attn.q_proj";
  const struct {
    std::string name;
    DType dtype;
    Shape shape;
  } cases[] = {
      {q + ".weight_packed", DType::kI8, {96, 48}},
      {q + ".weight_packed", DType::kU8, {96, 96}},
      {q + ".group_scale", DType::kU8, {96, 1}},  // 96 = 64 + 32: two groups
      {q + ".group_offset", DType::kF16, {96, 2}},
      {q + ".weight_scale", DType::kF16, {96}},
      {q + ".weight_scale", DType::kF32, {96, 1}},
      {q + ".bias", DType::kBF16, {96}},
      {"lm_head.weight_int8", DType::kU8, {40, 96}},
      {"model.norm.weight", DType::kU8, {96}},
      {"model.layers.0.self_attn.k_scale", DType::kF16, {config.kv_heads * config.head_dim}},
      {"model.layers.0.self_attn.k_scale", DType::kF32, {2}},
      {q + ".weight", DType::kF16, {96, 96}},  // float beside quantized: which one is right?
  };
  for (const auto& c : cases) {
    std::vector<TestTensor> tensors = good;
    std::erase_if(tensors, [&](const TestTensor& tensor) { return tensor.name == c.name; });
    tensors.push_back({c.name, c.dtype, c.shape,
                       std::string(static_cast<std::size_t>(*tensor_bytes(c.dtype, c.shape)), 0)});
    write(config, tensors);
    expect_error(open().status(), c.name);
  }
  std::vector<TestTensor> tensors = good;
  std::erase_if(tensors, [&](const TestTensor& t) { return t.name == q + ".group_scale"; });
  write(config, tensors);
  expect_error(open().status(), q + ".group_scale", StatusCode::kNotFound);
}

TEST_F(HuggingFace, AnFp16HeadHasOneTensorOfItsOwn) {
  ModelConfig config = quantized_config(ModelFamily::kQwen2);
  std::vector<TestTensor> rest = quantized_tensors(config);
  std::erase_if(rest, [](const TestTensor& t) { return t.name.starts_with("lm_head."); });
  config.quantization->layers[kHeadModule] = {WeightScheme::kFp16, 0};
  const Shape shape{config.vocab_size, config.hidden_size};
  const auto write_head = [&](const char* name, DType dtype, const Shape& of) {
    std::vector<TestTensor> tensors = rest;
    tensors.push_back(
        {name, dtype, of, std::string(static_cast<std::size_t>(*tensor_bytes(dtype, of)), 0)});
    write(config, tensors);
  };
  write_head("lm_head.weight", DType::kF16, shape);
  const auto source = open();
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  write_head("lm_head.weight", DType::kBF16, shape);
  expect_error(open().status(), "lm_head.weight");
  write_head("lm_head.weight", DType::kF32, shape);
  expect_error(open().status(), "lm_head.weight");
  write_head("lm_head.weight", DType::kF16, {shape[1], shape[0]});
  expect_error(open().status(), "lm_head.weight");
  write_head("lm_head.weight_int8", DType::kI8, shape);
  expect_error(open().status(), "lm_head.weight", StatusCode::kNotFound);
  rest.push_back({"lm_head.weight_scale",
                  DType::kF32,
                  {shape[0]},
                  std::string(static_cast<std::size_t>(4 * shape[0]), 0)});
  write_head("lm_head.weight", DType::kF16, shape);
  expect_error(open().status(), "lm_head.weight_scale");
}

TEST(ModelSource, SaysWhatToPass) {
  TempFolder folder;
  expect_error(open_model_source(folder.file("none")).status(), "no such", StatusCode::kNotFound);
  expect_error(open_model_source(folder.write("model.safetensors", "x")).status(), "folder",
               StatusCode::kInvalidArgument);
  expect_error(open_model_source(folder.write("pytorch_model.bin", "x")).status(), "safetensors",
               StatusCode::kUnsupported);
  expect_error(open_model_source(folder.write("model", "x")).status(), "ends inside the magic");
}

}  // namespace
}  // namespace liquidgemm
