#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "checkpoint/file_builders.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/gguf_source.h"
#include "model/checkpoint/quantized_tensors.h"

namespace liquidgemm {
namespace {

using testing::as_bytes;
using testing::float_tensor;
using testing::GgufBuilder;
using testing::random_tensor;
using testing::raw;
using testing::TempFolder;
using testing::TestTensor;

void expect_error(const Status& status, const std::string& text,
                  StatusCode code = StatusCode::kCorrupt) {
  EXPECT_EQ(status.code(), code) << status.to_string();
  EXPECT_NE(status.message().find(text), std::string::npos)
      << status.to_string() << "\n  should mention: " << text;
}

Status parse(const GgufBuilder& builder) {
  const std::string file = builder.build();
  return parse_gguf(as_bytes(file), "a.gguf").status();
}
Status parse(const std::string& file) { return parse_gguf(as_bytes(file), "a.gguf").status(); }

TEST(Gguf, ReadsMetadataAndTensors) {
  GgufBuilder builder;
  builder.u32("u", 7).f32("f", 0.5f).boolean("b", true).string("s", "text");
  builder.strings("list", {"", "x", "yz"}).ints("ints", {-1, 5}).key("i8", 1, raw<std::int8_t>(-3));
  builder.alignment(64).tensor(random_tensor("w", {3, 5}, 1)).tensor(random_tensor("v", {4}, 2));
  const std::string bytes = builder.build();
  const auto file = parse_gguf(as_bytes(bytes), "a.gguf");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  const GgufMetadata& metadata = file->metadata;
  EXPECT_EQ(*metadata.required_int("u", 0, 10), 7);
  EXPECT_EQ(*metadata.required_int("i8", -10, 10), -3);
  EXPECT_EQ(**metadata.optional_number("f", 0, 1), 0.5);
  EXPECT_EQ(**metadata.optional_bool("b"), true);
  EXPECT_EQ(*metadata.required_string("s"), "text");
  EXPECT_EQ(*metadata.required_strings("list", 3), (std::vector<std::string_view>{"", "x", "yz"}));
  EXPECT_EQ(*metadata.optional_ints("ints", 2), (std::vector<std::int64_t>{-1, 5}));
  ASSERT_EQ(file->tensors.size(), 2u);
  EXPECT_EQ(file->tensors[0].info.shape, (Shape{3, 5}));
  EXPECT_EQ(file->tensors[1].begin % 64, 0u);

  expect_error(metadata.required_int("u", 0, 6).status(), "\"u\"");
  expect_error(metadata.required_int("none", 0, 6).status(), "\"none\": missing");
  expect_error(metadata.required_int("s", 0, 6).status(), "expected an integer, found a string");
  expect_error(metadata.optional_number("u", 0, 9).status(), "expected a number");
  expect_error(metadata.required_strings("ints", 9).status(), "found one of int32");
  expect_error(metadata.optional_ints("list", 9).status(), "found one of string");
  expect_error(metadata.required_strings("list", 2).status(), "at most 2",
               StatusCode::kResourceExhausted);
}

TEST(Gguf, RefusesOtherContainers) {
  expect_error(parse(std::string("GGU")), "magic");
  expect_error(parse(std::string("GGML") + std::string(60, '\0')), "not a GGUF file");
  for (std::uint32_t version : {0u, 1u, 2u, 4u}) {
    expect_error(parse(GgufBuilder().version(version)), "version", StatusCode::kUnsupported);
  }
  expect_error(parse(GgufBuilder().version(3u << 24)), "big-endian", StatusCode::kUnsupported);
}

TEST(Gguf, RefusesLyingCounts) {
  for (std::uint64_t count : {std::uint64_t{1} << 63, ~std::uint64_t{0}, std::uint64_t{1} << 40}) {
    expect_error(parse(GgufBuilder().counts(count, 1)), "tensors");
    expect_error(parse(GgufBuilder().counts(1, count)), "keys");
    expect_error(parse(GgufBuilder().key("s", 8, raw(count) + "abc")), "ends inside");
    expect_error(parse(GgufBuilder().key("a", 9, raw<std::uint32_t>(8) + raw(count))),
                 "does not fit");
    expect_error(parse(GgufBuilder().key("a", 9, raw<std::uint32_t>(12) + raw(count))),
                 "does not fit");
  }
  expect_error(parse(GgufBuilder().counts(0, 3)), "0 bytes");  // the padding, read as a key
  expect_error(parse(GgufBuilder().u32("a", 1).u32("a", 1)), "twice");
  expect_error(parse(GgufBuilder().u32("", 1)), "0 bytes");
  expect_error(parse(GgufBuilder().u32(std::string(70000, 'k'), 1)), "70000 bytes");
}

TEST(Gguf, RefusesConfusedTypes) {
  expect_error(parse(GgufBuilder().key("a", 13, "")), "type 13");
  expect_error(parse(GgufBuilder().key("a", 7, "\x02")), "bool");
  expect_error(parse(GgufBuilder().key("a", 9, raw<std::uint32_t>(99) + raw<std::uint64_t>(0))),
               "type 99");
  // Nesting is refused at its first level, so depth costs nothing.
  std::string nested;
  for (int i = 0; i < 10000; ++i) nested += raw<std::uint32_t>(9) + raw<std::uint64_t>(1);
  expect_error(parse(GgufBuilder().key("a", 9, nested)), "arrays of arrays",
               StatusCode::kUnsupported);
  expect_error(parse(GgufBuilder().string("general.alignment", "32")), "general.alignment");
}

TEST(Gguf, RefusesBadAlignment) {
  for (std::uint32_t alignment : {0u, 1u, 3u, 24u, 1u << 20, 0xFFFFFFFFu}) {
    expect_error(parse(GgufBuilder().u32("general.alignment", alignment)), "power of two");
  }
}

TEST(Gguf, RefusesLyingTensors) {
  const std::string data(64, '\0');
  const auto tensor = [&](std::uint32_t type, const std::vector<std::int64_t>& dimensions,
                          std::uint64_t offset = 0) {
    return parse(GgufBuilder().tensor_at("w", type, dimensions, offset, data));
  };
  ASSERT_TRUE(tensor(0, {4, 4}).ok()) << tensor(0, {4, 4}).to_string();
  expect_error(tensor(12, {256}), "type Q4_K", StatusCode::kUnsupported);
  expect_error(tensor(14, {256}), "supported are F32, F16, BF16, Q8_0, Q4_0 and Q4_1",
               StatusCode::kUnsupported);
  expect_error(tensor(4, {16}), "type number 4", StatusCode::kUnsupported);
  expect_error(tensor(12345, {16}), "12345", StatusCode::kUnsupported);
  expect_error(tensor(0, {}), "0 dimensions");
  expect_error(tensor(0, {1, 1, 1, 1, 16}), "5 dimensions");
  expect_error(tensor(0, {16, 0}), "dimension is 0");
  expect_error(tensor(0, {16, -1}), "dimension is -1");
  expect_error(tensor(0, {INT64_MAX, 2}), "overflows");
  expect_error(tensor(0, {INT64_MAX}), "overflows");
  expect_error(tensor(3, {48, 1}), "whole blocks");
  expect_error(tensor(0, {17}), "leave the file");
  expect_error(tensor(0, {16}, 8), "multiple of 32");
  expect_error(tensor(0, {16}, 64), "leave the file");
  expect_error(tensor(0, {16}, ~std::uint64_t{0} - 31), "leave the file");
  expect_error(tensor(0, {8}, 32), "belong to no tensor");
  expect_error(tensor(0, {8}), "at the end");
  expect_error(
      parse(GgufBuilder().tensor_at("a", 0, {16}, 0, data).tensor_at("b", 0, {16}, 32, data)),
      "overlaps");
  expect_error(parse(GgufBuilder().tensor_at("", 0, {16}, 0, data)), "name");
  const std::string whole = GgufBuilder().tensor(random_tensor("w", {16}, 1)).build();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(parse(whole.substr(0, size)).ok()) << size;
  }
}

// A whole tiny model as llama.cpp's converter would write it, and the tensors before conversion.
struct TinyModel {
  ModelConfig config;
  std::vector<TestTensor> hugging_face;
};

std::string gguf_name(std::string name) {
  const std::pair<const char*, const char*> pairs[] = {{"model.embed_tokens", "token_embd"},
                                                       {"model.norm", "output_norm"},
                                                       {"lm_head", "output"},
                                                       {"model.layers.", "blk."},
                                                       {"input_layernorm", "attn_norm"},
                                                       {"post_attention_layernorm", "ffn_norm"},
                                                       {"self_attn.q_proj", "attn_q"},
                                                       {"self_attn.k_proj", "attn_k"},
                                                       {"self_attn.v_proj", "attn_v"},
                                                       {"self_attn.o_proj", "attn_output"},
                                                       {"self_attn.q_norm", "attn_q_norm"},
                                                       {"self_attn.k_norm", "attn_k_norm"},
                                                       {"mlp.gate_proj", "ffn_gate"},
                                                       {"mlp.up_proj", "ffn_up"},
                                                       {"mlp.down_proj", "ffn_down"}};
  for (const auto& [from, to] : pairs) {
    const std::size_t at = name.find(from);
    if (at != std::string::npos) name.replace(at, std::strlen(from), to);
  }
  return name;
}

// llama.cpp's order of q and k: row 2i + j of a head holds Hugging Face's row j * half + i.
TestTensor interleave(TestTensor tensor, std::int64_t head_dim) {
  const std::int64_t rows = tensor.shape[0];
  const std::size_t bytes = tensor.data.size() / static_cast<std::size_t>(rows);
  std::string data;
  for (std::int64_t head = 0; head < rows / head_dim; ++head) {
    for (std::int64_t i = 0; i < head_dim / 2; ++i) {
      for (std::int64_t j = 0; j < 2; ++j) {
        const std::int64_t row = head * head_dim + j * (head_dim / 2) + i;
        data += tensor.data.substr(static_cast<std::size_t>(row) * bytes, bytes);
      }
    }
  }
  tensor.data = data;
  return tensor;
}

TinyModel tiny_model(ModelFamily family, bool tied, bool bias = false) {
  TinyModel model{testing::tiny_config(family), {}};
  model.config.tied_embeddings = tied;
  if (bias) model.config.qkv_bias = model.config.output_bias = true;
  unsigned seed = 1;
  for (const LinearName& linear : weight_modules(model.config)) {
    model.hugging_face.push_back(
        random_tensor(linear.module + ".weight", {linear.n, linear.k}, ++seed));
    if (linear.bias) {
      model.hugging_face.push_back(random_tensor(linear.module + ".bias", {linear.n}, ++seed));
    }
  }
  for (const NormName& norm : norm_tensors(model.config)) {
    model.hugging_face.push_back(random_tensor(norm.tensor, {norm.size}, ++seed));
  }
  return model;
}

void add_tensors(const TinyModel& model, GgufBuilder& builder) {
  for (TestTensor tensor : model.hugging_face) {
    const bool reordered = tensor.name.find("q_proj") != std::string::npos ||
                           tensor.name.find("k_proj") != std::string::npos;
    if (model.config.family == ModelFamily::kLlama && reordered) {
      tensor = interleave(tensor, model.config.head_dim);
    }
    tensor.name = gguf_name(tensor.name);
    builder.tensor(tensor);
  }
}

void add_config(const ModelConfig& config, GgufBuilder& builder) {
  const std::string name = config.family == ModelFamily::kLlama   ? "llama"
                           : config.family == ModelFamily::kQwen2 ? "qwen2"
                                                                  : "qwen3";
  const auto size = [&](const std::string& key, std::int64_t value) {
    builder.u32(name + "." + key, static_cast<std::uint32_t>(value));
  };
  builder.string("general.architecture", name);
  size("block_count", config.layers);
  size("context_length", config.max_position);
  size("embedding_length", config.hidden_size);
  size("feed_forward_length", config.intermediate_size);
  size("attention.head_count", config.heads);
  size("attention.head_count_kv", config.kv_heads);
  size("attention.key_length", config.head_dim);
  builder.f32(name + ".rope.freq_base", 10000.0f);
  builder.f32(name + ".attention.layer_norm_rms_epsilon", 1e-5f);
}

void add_tokenizer(GgufBuilder& builder) {
  std::vector<std::string> tokens = {"<|start|>", "<|im_end|>", "<tool>", "[PAD3]"};
  std::vector<std::int32_t> types = {3, 3, 4, 5};
  for (char c = 'a'; c <= 'z'; ++c) {
    tokens.emplace_back(1, c);
    types.push_back(1);
  }
  tokens.push_back("ab");
  types.push_back(1);
  builder.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "llama-bpe");
  builder.strings("tokenizer.ggml.tokens", tokens).ints("tokenizer.ggml.token_type", types);
  builder.strings("tokenizer.ggml.merges", {"a b"});
  builder.u32("tokenizer.ggml.bos_token_id", 0).u32("tokenizer.ggml.eos_token_id", 1);
  builder.string("tokenizer.chat_template", "{{ x }}");
}

Result<ModelSource> open(const GgufBuilder& builder, const TempFolder& folder) {
  return open_model_source(folder.write("model.gguf", builder.build()));
}

TEST(GgufSource, EqualsTheHuggingFaceTensors) {
  TempFolder folder;
  for (ModelFamily family : {ModelFamily::kLlama, ModelFamily::kQwen2, ModelFamily::kQwen3}) {
    for (bool tied : {false, true}) {
      const TinyModel model = tiny_model(family, tied, family == ModelFamily::kLlama && tied);
      GgufBuilder builder;
      add_config(model.config, builder);
      add_tokenizer(builder);
      add_tensors(model, builder);
      const auto source = open(builder, folder);
      ASSERT_TRUE(source.ok()) << source.status().to_string();
      ModelConfig expected = model.config;
      EXPECT_EQ(config_to_json(source->config), config_to_json(expected));
      ASSERT_EQ(source->tensors->tensors().size(), model.hugging_face.size());
      for (const TestTensor& tensor : model.hugging_face) {
        const TensorInfo* info = source->tensors->find(tensor.name);
        ASSERT_NE(info, nullptr) << tensor.name;
        EXPECT_EQ(info->shape, tensor.shape);
        const std::int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape[0];
        // One row at a time and all at once give the same.
        std::vector<float> all(tensor.data.size() / 4, NAN), single(all.size(), NAN);
        ASSERT_TRUE(source->tensors->read_rows(tensor.name, 0, rows, all.data()).ok());
        for (std::int64_t row = 0; row < rows; ++row) {
          const auto columns = static_cast<std::int64_t>(all.size()) / rows;
          ASSERT_TRUE(
              source->tensors->read_rows(tensor.name, row, 1, single.data() + row * columns).ok());
        }
        EXPECT_EQ(testing::raw_vector(all), tensor.data) << tensor.name;
        EXPECT_EQ(testing::raw_vector(single), tensor.data) << tensor.name;
      }
      const auto bytes = source->tensors->bytes("model.layers.0.self_attn.q_proj.weight");
      EXPECT_EQ(bytes.ok(), family != ModelFamily::kLlama);
    }
  }
}

TEST(GgufSource, ReadsTheTokenizer) {
  TempFolder folder;
  const TinyModel model = tiny_model(ModelFamily::kLlama, true);
  GgufBuilder builder;
  add_config(model.config, builder);
  add_tokenizer(builder);
  builder.u32("tokenizer.ggml.eot_token_id", 2);
  add_tensors(model, builder);
  const auto source = open(builder, folder);
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  const TokenizerSpec& spec = source->tokenizer;
  EXPECT_EQ(spec.pre_tokenizer, PreTokenizer::kLlama3);
  EXPECT_TRUE(spec.ignore_merges);
  EXPECT_EQ(spec.vocabulary.size(), 31u);
  EXPECT_EQ(spec.vocabulary[3], "");  // unused
  EXPECT_EQ(spec.vocabulary[4], "a");
  ASSERT_EQ(spec.added_tokens.size(), 3u);
  EXPECT_TRUE(spec.added_tokens[0].special);
  EXPECT_FALSE(spec.added_tokens[2].special);
  EXPECT_EQ(spec.merges.front(), (std::pair<std::string, std::string>("a", "b")));
  EXPECT_EQ(spec.prefix_tokens, std::vector<TokenId>{0});  // llama-bpe's default
  EXPECT_EQ(source->bos_token, "<|start|>");
  EXPECT_EQ(source->eos_token, "<|im_end|>");
  EXPECT_EQ(source->config.eos_tokens, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(source->chat_template, "{{ x }}");
}

// One change to a good model, one error.
TEST(GgufSource, RefusesWhatItCannotRun) {
  TempFolder folder;
  const TinyModel model = tiny_model(ModelFamily::kLlama, true);
  const auto status_with = [&](auto change) {
    GgufBuilder builder;
    add_config(model.config, builder);
    add_tokenizer(builder);
    change(builder);
    add_tensors(model, builder);
    return open(builder, folder).status();
  };
  const auto no = StatusCode::kUnsupported;
  using B = GgufBuilder;
  ASSERT_TRUE(status_with([](B&) {}).ok()) << status_with([](B&) {}).to_string();
  expect_error(status_with([](B& b) { b.u32("llama.expert_count", 8); }), "expert_count", no);
  EXPECT_TRUE(status_with([](B& b) { b.u32("llama.expert_count", 0); }).ok());
  expect_error(status_with([](B& b) { b.u32("llama.attention.sliding_window", 4096); }),
               "sliding_window", no);
  expect_error(status_with([](B& b) { b.string("llama.rope.scaling.type", "yarn"); }), "yarn", no);
  expect_error(status_with([](B& b) { b.u32("llama.rope.dimension_count", 8); }),
               "rope.dimension_count", no);
  expect_error(status_with([](B& b) { b.u32("llama.vocab_size", 41); }), "40 rows");
  expect_error(status_with([](B& b) { b.u32("split.count", 3); }), "--merge", no);
  expect_error(status_with([](B& b) { b.u32("tokenizer.ggml.eom_token_id", 31); }), "eom_token_id");
  expect_error(status_with([](B& b) {
                 b.boolean("tokenizer.ggml.add_bos_token", true)
                     .tensor(random_tensor("blk.0.attn_sinks.weight", {4}, 1));
               }),
               "attn_sinks", no);
  expect_error(status_with([](B& b) { b.tensor(random_tensor("rope_freqs.weight", {7}, 1)); }),
               "rope_freqs");
  expect_error(status_with([](B& b) {
                 b.tensor(float_tensor("rope_freqs.weight", {8}, {1, 2, 3, 4, 5, 6, 7, 8}));
               }),
               "rope_freqs", no);
  expect_error(status_with([](B& b) {
                 b.tensor(float_tensor("rope_freqs.weight", {8}, {1, 1, 1, 1, NAN, 1, 1, 1}));
               }),
               "rope_freqs");
}

TEST(GgufSource, RefusesBadTokenizers) {
  const auto read = [](auto change) {
    GgufBuilder builder;
    change(builder);
    const std::string bytes = builder.build();
    auto file = parse_gguf(as_bytes(bytes), "a.gguf");
    EXPECT_TRUE(file.ok());
    ModelConfig config = testing::tiny_config();
    return tokenizer_from_gguf(file->metadata, config).status();
  };
  using B = GgufBuilder;
  const auto base = [](B& b, const std::vector<std::string>& tokens,
                       const std::vector<std::string>& merges) -> B& {
    return b.string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "qwen2")
        .strings("tokenizer.ggml.tokens", tokens)
        .strings("tokenizer.ggml.merges", merges);
  };
  ASSERT_TRUE(read([&](B& b) { base(b, {"a"}, {}); }).ok());
  expect_error(read([](B&) {}), "tokenizer.ggml.model");
  expect_error(read([](B& b) { b.string("tokenizer.ggml.model", "llama"); }), "\"llama\"",
               StatusCode::kUnsupported);
  expect_error(read([](B& b) { b.string("tokenizer.ggml.model", "gpt2"); }), "tokenizer.ggml.pre",
               StatusCode::kUnsupported);
  expect_error(read([](B& b) {
                 b.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "tekken");
               }),
               "tekken", StatusCode::kUnsupported);
  expect_error(read([&](B& b) { base(b, {"a"}, {"ab"}); }), "merge 0");
  expect_error(read([&](B& b) { base(b, {"a"}, {"a b", " b"}); }), "merge 1");
  expect_error(read([&](B& b) { base(b, std::vector<std::string>(41, "a"), {}); }), "41 tokens");
  expect_error(read([&](B& b) {
                 base(b, {"a"}, {}).ints("tokenizer.ggml.token_type", {1, 1});
               }),
               "2 types");
  expect_error(read([&](B& b) { base(b, {"a"}, {}).ints("tokenizer.ggml.token_type", {9}); }),
               "type 9");
  expect_error(read([&](B& b) { base(b, {"a"}, {}).u32("tokenizer.ggml.bos_token_id", 1); }),
               "bos_token_id");
  expect_error(
      read([&](B& b) { base(b, {"a"}, {}).boolean("tokenizer.ggml.add_bos_token", true); }),
      "add_bos_token");
}

// llama.cpp writes the factors of the rule; here the rule is written out again, in float.
TEST(GgufSource, RecoversLlama3RopeScaling) {
  const struct {
    double factor, theta;
    int head_dim;
    std::int64_t original;
  } cases[] = {{8, 500000, 128, 8192}, {32, 500000, 64, 8192}, {4, 10000, 96, 4096}};
  for (const auto& c : cases) {
    std::vector<float> factors;
    for (int i = 0; i < c.head_dim / 2; ++i) {
      const double wavelength = 2 * M_PI * std::pow(c.theta, 2.0 * i / c.head_dim);
      const double ratio = static_cast<double>(c.original) / wavelength;
      const double smooth = std::min(1.0, std::max(0.0, (ratio - 1.0) / 3.0));
      factors.push_back(static_cast<float>(1.0 / ((1.0 - smooth) / c.factor + smooth)));
    }
    const auto scaling = rope_scaling_from_factors(factors, c.theta, "a.gguf");
    ASSERT_TRUE(scaling.ok()) << scaling.status().to_string();
    EXPECT_EQ(scaling->kind, RopeScaling::Kind::kLlama3);
    EXPECT_EQ(scaling->factor, c.factor);
    EXPECT_EQ(scaling->low_freq_factor, 1.0);
    EXPECT_EQ(scaling->high_freq_factor, 4.0);
    EXPECT_EQ(scaling->original_max_position, c.original);
  }
  const auto plain = rope_scaling_from_factors(std::vector<float>(32, 1.0f), 1e4, "a.gguf");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->kind, RopeScaling::Kind::kNone);
}

TEST(Gguf, SurvivesRandomMutations) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  TinyModel model = tiny_model(ModelFamily::kQwen3, true);
  model.hugging_face.resize(3);
  GgufBuilder builder;
  add_config(model.config, builder);
  add_tokenizer(builder);
  add_tensors(model, builder);
  const std::string good = builder.build();
  const std::size_t header = good.size() - (40 + 96 + 32) * 96 * 4;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good.substr(0, round % 2 == 0 ? good.size() : header + random() % 999);
    for (unsigned i = 0; i <= random() % 4; ++i) {
      bad[random() % header] = static_cast<char>(random() % 3 == 0 ? 0xFF : random());
    }
    const auto file = parse_gguf(as_bytes(bad), "a.gguf");
    if (!file.ok()) continue;
    for (const StoredTensor& tensor : file->tensors) {
      ASSERT_LE(tensor.begin + static_cast<std::size_t>(tensor.info.bytes), bad.size());
    }
    auto config = config_from_gguf(*file);
    if (config.ok()) (void)tokenizer_from_gguf(file->metadata, *config).ok();
  }
}

}  // namespace
}  // namespace liquidgemm
