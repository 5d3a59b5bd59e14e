// An FP16 head through the whole way: quantized, opened, packed, kept and run.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "base/half.h"
#include "base/json.h"
#include "checkpoint/file_builders.h"
#include "fresh_seed.h"
#include "model/checkpoint/quantized_tensors.h"
#include "model/goldens.h"
#include "model/packed_weights_cache.h"
#include "model/quantizer.h"

namespace liquidgemm {
namespace {

using testing::fresh_seed;
using testing::open;
using testing::TempFolder;

Result<QuantizeReport> quantize(const ModelSource& source, const std::string& out,
                                WeightScheme head, std::int64_t shard_bytes = 1 << 20,
                                int modules = -1) {
  ThreadPool pool(2);
  std::atomic<bool> stop{false};
  QuantizeOptions options;
  options.head = head;
  options.group_size = 32;
  options.shard_bytes = shard_bytes;
  int calls = 0;
  return quantize_model(source, out, options, pool, stop,
                        [&](std::int64_t, std::int64_t, const std::string&) {
                          if (++calls == modules) stop = true;
                        });
}

LoadOptions options_for(Isa isa, bool cache = false) {
  LoadOptions options;
  options.device = DeviceChoice::kCpu;
  options.isa = isa;
  options.threads = 2;
  options.text = false;
  options.limits.max_rows = 64;
  options.limits.max_logits_rows = 64;
  options.limits.max_sequences = 1;
  options.limits.max_position = 128;
  options.cache_packed_weights = cache;
  return options;
}

std::vector<TokenId> random_tokens(const ModelConfig& config, int count) {
  std::mt19937_64 random(fresh_seed());
  std::vector<TokenId> tokens(static_cast<std::size_t>(count));
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random() % static_cast<std::uint64_t>(config.vocab_size));
  }
  return tokens;
}

// After every token, `chunk` tokens a step.
std::vector<std::vector<float>> logits(const std::string& path, const std::vector<TokenId>& tokens,
                                       const LoadOptions& options, int chunk) {
  const ModelSource source = open(path);
  auto model = load_model(source, options);
  EXPECT_TRUE(model.ok()) << model.status().to_string();
  if (!model.ok()) return {};
  std::vector<std::int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  return testing::run_logits(*model->backend, tokens, positions, chunk);
}

TEST(Fp16Head, IsTheSourceRoundedAndApartFromTheEmbedding) {
  for (const char* name : {"llama3", "qwen25", "smollm2-odd", "llama-q4_1.gguf"}) {
    SCOPED_TRACE(name);
    const ModelSource source = open(testing::model_data(name));
    const bool tied = source.config.tied_embeddings;
    const TempFolder folder;
    const auto report = quantize(source, folder.file("out"), WeightScheme::kFp16);
    ASSERT_TRUE(report.ok()) << report.status().to_string();
    const ModelSource made = open(folder.file("out"));
    EXPECT_FALSE(made.config.tied_embeddings);
    const auto& layers = made.config.quantization->layers;
    EXPECT_EQ(layers.at(kHeadModule).scheme, WeightScheme::kFp16);
    EXPECT_EQ(layers.at(kEmbeddingModule).scheme, WeightScheme::kInt8);

    const std::string from = tied ? "model.embed_tokens.weight" : "lm_head.weight";
    const std::int64_t n = source.config.vocab_size, k = source.config.hidden_size;
    std::vector<float> weights(static_cast<std::size_t>(n * k));
    ASSERT_TRUE(source.tensors->read_rows(from, 0, n, weights.data()).ok());
    const auto stored = made.tensors->bytes("lm_head.weight");
    ASSERT_TRUE(stored.ok()) << stored.status().to_string();
    ASSERT_EQ(stored->size(), 2 * weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      std::uint16_t half;
      std::memcpy(&half, stored->data() + 2 * i, 2);
      ASSERT_EQ(half, float_to_f16(weights[i])) << i;
    }
    const QuantizedModule& head = report->modules.back();
    EXPECT_EQ(head.name, kHeadModule);
    EXPECT_EQ(head.bytes_after, 2 * n * k);
    EXPECT_LT(head.relative_error(), 1e-6);
  }
}

TEST(Fp16Head, RunsWithTheSameBitsOnEveryInstructionSetAndInEveryChunk) {
  for (const char* name : {"llama3", "qwen25", "smollm2-odd"}) {
    SCOPED_TRACE(name);
    const ModelSource source = open(testing::model_data(name));
    const TempFolder folder;
    ASSERT_TRUE(quantize(source, folder.file("fp16"), WeightScheme::kFp16).ok());
    ASSERT_TRUE(quantize(source, folder.file("int8"), WeightScheme::kInt8).ok());
    const std::vector<TokenId> tokens = random_tokens(source.config, 40);
    const auto expected = logits(folder.file("fp16"), tokens, options_for(Isa::kScalar), 40);
    for (const Isa isa : testing::isas()) {
      for (const int chunk : {1, 7, 40}) {
        EXPECT_EQ(logits(folder.file("fp16"), tokens, options_for(isa), chunk), expected)
            << isa_name(isa) << ", chunk " << chunk;
      }
    }
    // All but the head is the same: its logits are near those of an INT8 head, and not the same.
    const auto int8 = logits(folder.file("int8"), tokens, options_for(best_isa()), 40);
    ASSERT_EQ(int8.size(), expected.size());
    for (std::size_t i = 0; i < int8.size(); ++i) {
      const double off = testing::relative_difference(expected[i], int8[i]);
      EXPECT_GT(off, 1e-4);
      EXPECT_LT(off, 5e-2);
    }
  }
}

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Fp16Head, PackedWeightsAreKept) {
  const ModelSource source = open(testing::model_data("qwen25"));
  const TempFolder folder;
  ASSERT_TRUE(quantize(source, folder.file("out"), WeightScheme::kFp16).ok());
  const std::vector<TokenId> tokens = random_tokens(source.config, 9);
  for (const Isa isa : testing::isas()) {
    const auto expected = logits(folder.file("out"), tokens, options_for(isa), 9);
    const auto file = packed_weights_path(folder.file("out"), "", {isa, Precision::kW4A8, 0});
    EXPECT_EQ(logits(folder.file("out"), tokens, options_for(isa, true), 9), expected);
    const std::string kept = contents(file);
    ASSERT_FALSE(kept.empty());
    // One that did not fit would be replaced, and lose its mark.
    const auto before = std::filesystem::last_write_time(file) - std::chrono::hours(1);
    std::filesystem::last_write_time(file, before);
    EXPECT_EQ(logits(folder.file("out"), tokens, options_for(isa, true), 9), expected);
    EXPECT_EQ(std::filesystem::last_write_time(file), before);
    EXPECT_EQ(contents(file), kept);
  }
}

TEST(Fp16Head, IsNamedByTheBackend) {
  const ModelSource source = open(testing::model_data("llama3"));
  const TempFolder folder;
  ASSERT_TRUE(quantize(source, folder.file("out"), WeightScheme::kFp16).ok());
  const auto model = load_model(open(folder.file("out")), options_for(Isa::kScalar));
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const auto lines = model->backend->describe();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "lm_head: fp16 scalar"), 1);
}

TEST(Fp16Head, AnInterruptedRunWithAnotherHeadIsNotGoneOnFrom) {
  const ModelSource source = open(testing::model_data("llama3"));
  const TempFolder folder;
  EXPECT_EQ(quantize(source, folder.file("out"), WeightScheme::kInt8, 1, 8).status().code(),
            StatusCode::kCancelled);
  const auto again = quantize(source, folder.file("out"), WeightScheme::kFp16, 1);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ(again->shards_reused, 0);
  EXPECT_EQ(quantize(source, folder.file("out2"), WeightScheme::kFp16, 1, 8).status().code(),
            StatusCode::kCancelled);
  const auto same = quantize(source, folder.file("out2"), WeightScheme::kFp16, 1);
  ASSERT_TRUE(same.ok()) << same.status().to_string();
  EXPECT_GT(same->shards_reused, 0);
}

// Writes one element, of two bytes, into a tensor of a safetensors file.
void put_element(const std::string& path, const std::string& tensor, DType dtype,
                 std::int64_t index, std::uint16_t bits) {
  const auto file = MappedFile::open(path);
  ASSERT_TRUE(file.ok());
  const auto tensors = parse_safetensors(file->bytes(), path);
  ASSERT_TRUE(tensors.ok());
  const auto stored = std::find_if(tensors->begin(), tensors->end(),
                                   [&](const StoredTensor& t) { return t.info.name == tensor; });
  ASSERT_NE(stored, tensors->end());
  ASSERT_EQ(stored->info.dtype, dtype);
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(static_cast<std::streamoff>(stored->begin) + 2 * index);
  out.write(reinterpret_cast<const char*>(&bits), 2);
}

// The file of a checkpoint in several that holds a tensor.
std::string file_of(const std::string& folder, const std::string& tensor) {
  const auto index = json::parse_file(folder + "/model.safetensors.index.json");
  EXPECT_TRUE(index.ok()) << index.status().to_string();
  const auto& map = index->get_object().at("weight_map").get_object();
  return folder + "/" + std::string(map.at(tensor).get_string());
}

TEST(Fp16Head, AWeightThatIsTooLargeIsNamed) {
  const TempFolder folder;
  std::filesystem::copy(testing::model_data("llama3"), folder.file("in"));
  const std::int64_t k = open(folder.file("in")).config.hidden_size;
  const std::string head = "lm_head.weight";
  ASSERT_NO_FATAL_FAILURE(put_element(file_of(folder.file("in"), head), head, DType::kBF16,
                                      3 * k + 5, float_to_bf16(0x1p16f)));
  const Status status =
      quantize(open(folder.file("in")), folder.file("out"), WeightScheme::kFp16).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  for (const char* said : {"lm_head.weight", "row 3", "column 5", "fp16", "int8"}) {
    EXPECT_NE(status.message().find(said), std::string::npos) << status.message();
  }
  EXPECT_TRUE(quantize(open(folder.file("in")), folder.file("out"), WeightScheme::kInt8).ok());
}

TEST(Fp16Head, AStoredWeightThatIsNoNumberIsNamed) {
  const ModelSource source = open(testing::model_data("qwen25"));
  const TempFolder folder;
  ASSERT_TRUE(quantize(source, folder.file("out"), WeightScheme::kFp16).ok());
  const std::uint16_t infinity = 0x7C00;
  ASSERT_NO_FATAL_FAILURE(put_element(folder.file("out") + "/model.safetensors", "lm_head.weight",
                                      DType::kF16, 7 * source.config.hidden_size + 2, infinity));
  for (const Isa isa : testing::isas()) {
    const auto model = load_model(open(folder.file("out")), options_for(isa));
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().code(), StatusCode::kCorrupt);
    EXPECT_NE(model.status().message().find("lm_head: row 7, column 2"), std::string::npos)
        << model.status().message();
  }
}

}  // namespace
}  // namespace liquidgemm
