#include "model/quantizer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/file_builders.h"
#include "model/checkpoint/quantized_tensors.h"
#include "model/goldens.h"

namespace liquidgemm {
namespace {

namespace fs = std::filesystem;
using testing::open;
using testing::TempFolder;

const std::string kModels = std::string(LIQUIDGEMM_TEST_DATA) + "/model/";

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::map<std::string, std::string> folder_contents(const std::string& path) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : fs::directory_iterator(path)) {
    contents[entry.path().filename().string()] = read(entry.path().string());
  }
  return contents;
}

struct QuantizeRun {
  Result<QuantizeReport> report = internal_error("not run");
  std::vector<std::string> progress;  // one module name a call
};

// Stops after `calls` calls of the progress function, if any.
QuantizeRun quantize(const ModelSource& source, const std::string& out,
                     const QuantizeOptions& options = {}, int threads = 2, int calls = -1) {
  QuantizeRun run;
  ThreadPool pool(threads);
  std::atomic<bool> stop{calls == 0};
  run.report = quantize_model(source, out, options, pool, stop,
                              [&](std::int64_t, std::int64_t, const std::string& module) {
                                run.progress.push_back(module);
                                if (static_cast<int>(run.progress.size()) == calls) stop = true;
                              });
  return run;
}

// Small enough that every module of the test models is a shard of its own.
QuantizeOptions small_shards() {
  QuantizeOptions options;
  options.shard_bytes = 1;
  return options;
}

std::string tensor_text(const TensorSource& source, const std::string& name) {
  const auto bytes = source.bytes(name);
  EXPECT_TRUE(bytes.ok()) << bytes.status().to_string();
  if (!bytes.ok()) return "";
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

template <typename T>
std::string text_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::vector<TokenId> encode(const ModelSource& source, const std::string& text) {
  const auto tokenizer = Tokenizer::build(source.tokenizer, source.path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  return tokenizer->encode(text, true);
}

// Every tensor of the checkpoint against the library calls on the source's rows.
void expect_equal_to_direct(const ModelSource& source, const ModelSource& made,
                            const QuantizeOptions& options) {
  const TensorSource& tensors = *made.tensors;
  for (const LinearName& linear : weight_modules(source.config)) {
    SCOPED_TRACE(linear.module);
    std::vector<float> weights(static_cast<std::size_t>(linear.n * linear.k));
    ASSERT_TRUE(
        source.tensors->read_rows(linear.module + ".weight", 0, linear.n, weights.data()).ok());
    const bool decoder = linear.module.find("layers.") != std::string::npos;
    const bool liquid = options.scheme == WeightScheme::kLiquid4 && decoder && linear.k % 32 == 0 &&
                        linear.n % 8 == 0;
    const LayerQuantization& stored = made.config.quantization->layers.at(linear.module);
    EXPECT_EQ(stored.scheme, liquid ? WeightScheme::kLiquid4 : WeightScheme::kInt8);
    if (liquid) {
      const auto rows =
          quantize_rows(weights, linear.n, linear.k, options.group_size, options.rule);
      ASSERT_TRUE(rows.ok());
      EXPECT_EQ(stored.group_size, options.group_size);
      EXPECT_EQ(tensor_text(tensors, linear.module + ".weight_packed"), text_of(rows->packed));
      EXPECT_EQ(tensor_text(tensors, linear.module + ".group_scale"), text_of(rows->step));
      EXPECT_EQ(tensor_text(tensors, linear.module + ".group_offset"), text_of(rows->offset));
      EXPECT_EQ(tensor_text(tensors, linear.module + ".weight_scale"),
                text_of(rows->channel_scale));
    } else {
      const auto rows = quantize_rows_int8(weights, linear.n, linear.k);
      ASSERT_TRUE(rows.ok());
      EXPECT_EQ(tensor_text(tensors, linear.module + ".weight_int8"), text_of(rows->values));
      EXPECT_EQ(tensor_text(tensors, linear.module + ".weight_scale"),
                text_of(rows->channel_scale));
    }
    if (linear.bias) {
      std::vector<float> bias(static_cast<std::size_t>(linear.n));
      ASSERT_TRUE(source.tensors->read_rows(linear.module + ".bias", 0, 1, bias.data()).ok());
      EXPECT_EQ(tensor_text(tensors, linear.module + ".bias"), text_of(bias));
    }
  }
  for (const NormName& norm : norm_tensors(source.config)) {
    if (source.format == ModelSource::Format::kHuggingFace) {
      EXPECT_EQ(tensors.find(norm.tensor)->dtype, source.tensors->find(norm.tensor)->dtype);
      EXPECT_EQ(tensor_text(tensors, norm.tensor), tensor_text(*source.tensors, norm.tensor));
    } else {
      EXPECT_EQ(tensors.find(norm.tensor)->dtype, DType::kF32);
    }
  }
}

TEST(Quantizer, StoresWhatTheLibraryComputes) {
  for (const char* name : {"llama3", "llama-bias", "qwen25", "qwen3", "smollm2-odd",
                           "llama-q4_1.gguf", "qwen2-f16.gguf"}) {
    for (const WeightScheme scheme : {WeightScheme::kLiquid4, WeightScheme::kInt8}) {
      SCOPED_TRACE(name);
      const ModelSource source = open(kModels + name);
      const TempFolder folder;
      QuantizeOptions options;
      options.scheme = scheme;
      options.group_size = 32;
      const QuantizeRun run = quantize(source, folder.file("out"), options);
      ASSERT_TRUE(run.report.ok()) << run.report.status().to_string();
      EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
      const ModelSource made = open(folder.file("out"));
      ASSERT_TRUE(made.config.quantization.has_value());
      expect_equal_to_direct(source, made, options);
      EXPECT_EQ(made.chat_template, source.chat_template);
      EXPECT_EQ(made.bos_token, source.bos_token);
      EXPECT_EQ(made.eos_token, source.eos_token);
      EXPECT_EQ(made.config.eos_tokens, source.config.eos_tokens);
      const std::string text = "Hello <|im_start|>user 1234\n\u00e9\u4e16 " + source.eos_token;
      EXPECT_EQ(encode(made, text), encode(source, text));
      EXPECT_EQ(made.generation.temperature, source.generation.temperature);
    }
  }
}

TEST(Quantizer, AgreesWithAnIndependentNumPyQuantizer) {
  const ModelSource expected = open(kModels + "llama3-w4a8");
  const TempFolder folder;
  QuantizeOptions options;
  options.rule = StepRule::kRound;
  options.group_size = expected.config.quantization->group_size;
  const QuantizeRun run = quantize(open(kModels + "llama3"), folder.file("out"), options);
  ASSERT_TRUE(run.report.ok()) << run.report.status().to_string();
  const ModelSource made = open(folder.file("out"));
  ASSERT_EQ(made.tensors->tensors().size(), expected.tensors->tensors().size());
  for (const TensorInfo& tensor : expected.tensors->tensors()) {
    EXPECT_EQ(tensor_text(*made.tensors, tensor.name), tensor_text(*expected.tensors, tensor.name))
        << tensor.name;
  }
}

TEST(Quantizer, KeepsTheFilesBesideTheWeights) {
  const TempFolder folder;
  fs::copy(kModels + "llama3", folder.file("in"));
  const std::string config = read(folder.file("in/config.json"));
  folder.write("in/config.json",
               "{\"a_key_of_later_days\": [1, {\"x\": null}], " + config.substr(1));
  folder.write("in/special_tokens_map.json", "{ }\n");
  folder.write("in/chat_template.jinja", "{{ messages }}");
  folder.write("in/LICENSE", "Do as you like.");
  folder.write("in/other.txt", "not part of a model");
  const QuantizeRun run = quantize(open(folder.file("in")), folder.file("out/"));
  ASSERT_TRUE(run.report.ok()) << run.report.status().to_string();
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                           "special_tokens_map.json", "chat_template.jinja", "LICENSE"}) {
    EXPECT_EQ(read(folder.file("out/") + name), read(folder.file("in/") + name)) << name;
  }
  EXPECT_FALSE(fs::exists(folder.file("out/other.txt")));
  auto before = json::parse_file(folder.file("in/config.json"));
  auto after = json::parse_file(folder.file("out/config.json"));
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(after->get_object().erase("quantization_config"), 1u);
  EXPECT_EQ(json::dump(*before), json::dump(*after));
}

TEST(Quantizer, ReportsSizesAndErrors) {
  const ModelSource source = open(kModels + "qwen25");
  const TempFolder folder;
  const QuantizeRun run = quantize(source, folder.file("out"));
  ASSERT_TRUE(run.report.ok());
  const QuantizeReport& report = *run.report;
  EXPECT_EQ(report.modules.size(), weight_modules(source.config).size());
  std::int64_t file_bytes = 0;
  const ModelSource made = open(folder.file("out"));
  for (const TensorInfo& tensor : made.tensors->tensors()) file_bytes += tensor.bytes;
  EXPECT_EQ(report.model.bytes_after, file_bytes);
  EXPECT_GT(report.linears.bits_per_weight(), 4.0);
  EXPECT_LT(report.linears.bits_per_weight(), 5.5);  // small layers: scales weigh more
  for (const QuantizedModule& module : report.modules) {
    const bool liquid = module.stored.scheme == WeightScheme::kLiquid4;
    EXPECT_GT(module.relative_error(), liquid ? 1e-4 : 1e-7) << module.name;
    EXPECT_LT(module.relative_error(), liquid ? 2e-2 : 2e-4) << module.name;
    EXPECT_GT(module.bytes_before, module.bytes_after);
  }
  EXPECT_EQ(report.shards, 1);
}

TEST(Quantizer, ThreadsDoNotChangeAByte) {
  const ModelSource source = open(kModels + "smollm2-odd");
  const TempFolder folder;
  const QuantizeRun one = quantize(source, folder.file("one"), small_shards(), 1);
  const QuantizeRun five = quantize(source, folder.file("five"), small_shards(), 5);
  ASSERT_TRUE(one.report.ok() && five.report.ok());
  EXPECT_GT(one.report->shards, 10);
  EXPECT_EQ(folder_contents(folder.file("one")), folder_contents(folder.file("five")));
  EXPECT_EQ(one.report->linears.squared_error, five.report->linears.squared_error);
  const ModelSource made = open(folder.file("one"));
  expect_equal_to_direct(source, made, {});
}

TEST(Quantizer, GoesOnAfterAnInterruption) {
  const ModelSource source = open(kModels + "llama3");
  const TempFolder folder;
  const QuantizeRun whole = quantize(source, folder.file("whole"), small_shards());
  ASSERT_TRUE(whole.report.ok());

  const std::string out = folder.file("out");
  const QuantizeRun stopped = quantize(source, out, small_shards(), 2, 5);
  ASSERT_FALSE(stopped.report.ok());
  EXPECT_EQ(stopped.report.status().code(), StatusCode::kCancelled);
  EXPECT_NE(stopped.report.status().message().find("same command"), std::string::npos);
  EXPECT_FALSE(fs::exists(out));
  EXPECT_TRUE(fs::exists(out + ".partial"));

  // The folder may have moved; what counts is what is in it.
  const QuantizeRun resumed = quantize(source, out, small_shards());
  ASSERT_TRUE(resumed.report.ok()) << resumed.report.status().to_string();
  EXPECT_GE(resumed.report->shards_reused, 4);
  EXPECT_FALSE(fs::exists(out + ".partial"));
  EXPECT_EQ(folder_contents(out), folder_contents(folder.file("whole")));
  EXPECT_EQ(resumed.report->model.squared_error, whole.report->model.squared_error);
}

TEST(Quantizer, StartsAnewForOtherOptionsOrAnotherSource) {
  const TempFolder folder;
  fs::copy(kModels + "llama3", folder.file("in"));
  const std::string out = folder.file("out");
  const auto interrupt = [&] {
    const QuantizeRun run = quantize(open(folder.file("in")), out, small_shards(), 2, 5);
    EXPECT_EQ(run.report.status().code(), StatusCode::kCancelled);
    EXPECT_TRUE(fs::exists(out + ".partial"));
  };
  interrupt();
  QuantizeOptions other = small_shards();
  other.group_size = 32;
  const QuantizeRun first = quantize(open(folder.file("in")), out, other);
  ASSERT_TRUE(first.report.ok());
  EXPECT_EQ(first.report->shards_reused, 0);
  fs::remove_all(out);

  interrupt();
  const std::string shard = folder.file("in/model-00002-of-00003.safetensors");
  std::string bytes = read(shard);
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 1);
  folder.write("in/model-00002-of-00003.safetensors", bytes);
  const QuantizeRun second = quantize(open(folder.file("in")), out, small_shards());
  ASSERT_TRUE(second.report.ok());
  EXPECT_EQ(second.report->shards_reused, 0);
  fs::remove_all(out);

  // A finished shard that lost bytes since, and a state that is not readable.
  interrupt();
  fs::resize_file(out + ".partial/" + "model-00001-of-00016.safetensors", 100);
  std::ofstream(out + ".partial/model-00009-of-00016.safetensors.tmp-1") << "left by a crash";
  const QuantizeRun third = quantize(open(folder.file("in")), out, small_shards());
  ASSERT_TRUE(third.report.ok()) << third.report.status().to_string();
  EXPECT_EQ(third.report->shards, 16);
  EXPECT_EQ(folder_contents(out).size(), 16u + 5);  // index, config, generation, tokenizer (2)
  fs::remove_all(out);
  interrupt();
  std::ofstream(out + ".partial/quantize-state.json") << "{\"fingerprint\": ";
  const QuantizeRun fourth = quantize(open(folder.file("in")), out, small_shards());
  ASSERT_TRUE(fourth.report.ok());
  EXPECT_EQ(fourth.report->shards_reused, 0);
}

TEST(Quantizer, SurvivesBeingKilled) {
  const ModelSource source = open(kModels + "llama3");
  const TempFolder folder;
  const std::string out = folder.file("out");
  const pid_t child = ::fork();
  if (child == 0) {
    ThreadPool pool(1);
    const std::atomic<bool> stop{false};
    int calls = 0;
    const auto report = quantize_model(source, out, small_shards(), pool, stop,
                                       [&](std::int64_t, std::int64_t, const std::string&) {
                                         if (++calls == 7) ::kill(::getpid(), SIGKILL);
                                       });
    ::_exit(report.ok() ? 0 : 1);
  }
  int result = 0;
  ASSERT_EQ(::waitpid(child, &result, 0), child);
  ASSERT_TRUE(WIFSIGNALED(result));
  EXPECT_FALSE(fs::exists(out));
  const QuantizeRun resumed = quantize(source, out, small_shards());
  ASSERT_TRUE(resumed.report.ok()) << resumed.report.status().to_string();
  EXPECT_EQ(resumed.report->shards_reused, 6);
  expect_equal_to_direct(source, open(out), small_shards());
}

TEST(Quantizer, NothingStaysWhenNothingWasFinished) {
  const ModelSource source = open(kModels + "llama3");
  const TempFolder folder;
  const QuantizeRun run = quantize(source, folder.file("out"), {}, 2, 3);
  EXPECT_EQ(run.report.status().code(), StatusCode::kCancelled);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Quantizer, NamesTheWeightThatIsNoNumber) {
  const TempFolder folder;
  fs::copy(kModels + "smollm2-odd", folder.file("in"));
  const std::string path = folder.file("in/model.safetensors");
  const std::string tensor = "model.layers.1.mlp.up_proj.weight";
  std::size_t at = 0;
  {
    const ModelSource source = open(folder.file("in"));
    const std::string values = tensor_text(*source.tensors, tensor);
    at = read(path).find(values) + 2 * (5 * 72 + 17);  // F16
  }
  const std::string good = read(path);
  for (const std::uint16_t bits : {0x7E00, 0x7C00, 0xFC00}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bits & 0xFF);
    bad[at + 1] = static_cast<char>(bits >> 8);
    folder.write("in/model.safetensors", bad);
    for (const WeightScheme scheme : {WeightScheme::kLiquid4, WeightScheme::kInt8}) {
      QuantizeOptions options;
      options.scheme = scheme;
      const QuantizeRun run = quantize(open(folder.file("in")), folder.file("out"), options);
      ASSERT_FALSE(run.report.ok());
      EXPECT_EQ(run.report.status().code(), StatusCode::kCorrupt);
      for (const std::string& part : {folder.file("in"), tensor, std::string("row 5, column 17")}) {
        EXPECT_NE(run.report.status().message().find(part), std::string::npos)
            << run.report.status().message();
      }
      EXPECT_FALSE(fs::exists(folder.file("out")));
    }
  }
}

TEST(Quantizer, NeverReplacesWhatItShouldNot) {
  const ModelSource source = open(kModels + "llama3");
  const TempFolder folder;
  const std::string out = folder.file("out");
  QuantizeOptions overwrite;
  overwrite.overwrite = true;

  // A folder of other files, a file, the source itself.
  fs::create_directory(out);
  folder.write("out/thesis.txt", "years of work");
  EXPECT_EQ(quantize(source, out, overwrite).report.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(read(out + "/thesis.txt"), "years of work");
  folder.write("file", "text");
  EXPECT_FALSE(quantize(source, folder.file("file"), overwrite).report.ok());
  EXPECT_EQ(read(folder.file("file")), "text");
  fs::copy(kModels + "qwen3", folder.file("in"));
  const auto original = folder_contents(folder.file("in"));
  EXPECT_FALSE(quantize(open(folder.file("in")), folder.file("in"), overwrite).report.ok());
  EXPECT_EQ(folder_contents(folder.file("in")), original);

  // An empty folder is fine; a checkpoint only when asked, and nothing beside it.
  fs::remove(out + "/thesis.txt");
  ASSERT_TRUE(quantize(source, out).report.ok());
  const auto first = folder_contents(out);
  const QuantizeRun refused = quantize(source, out);
  EXPECT_EQ(refused.report.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.report.status().message().find("--overwrite"), std::string::npos);
  overwrite.group_size = 32;
  folder.write("out/notes.txt", "mine");
  EXPECT_FALSE(quantize(source, out, overwrite).report.ok());
  fs::remove(out + "/notes.txt");
  EXPECT_EQ(folder_contents(out), first);

  // While a replacement is not complete, the old checkpoint is untouched.
  const QuantizeRun stopped = quantize(source, out, overwrite, 2, 4);
  EXPECT_EQ(stopped.report.status().code(), StatusCode::kCancelled);
  EXPECT_EQ(folder_contents(out), first);
  ASSERT_TRUE(quantize(source, out, overwrite).report.ok());
  EXPECT_NE(folder_contents(out), first);
  EXPECT_EQ(open(out).config.quantization->group_size, 32);
  EXPECT_FALSE(fs::exists(out + ".partial"));

  // The place where work would happen belongs to somebody else.
  fs::create_directory(folder.file("new.partial"));
  folder.write("new.partial/data", "mine");
  EXPECT_FALSE(quantize(source, folder.file("new")).report.ok());
  EXPECT_EQ(read(folder.file("new.partial/data")), "mine");
}

TEST(Quantizer, OneRunAtATime) {
  const ModelSource source = open(kModels + "llama3");
  const TempFolder folder;
  const std::string partial = folder.file("out.partial");
  fs::create_directory(partial);
  const int fd = ::open(partial.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(fd, LOCK_EX | LOCK_NB), 0);
  const QuantizeRun run = quantize(source, folder.file("out"));
  ASSERT_FALSE(run.report.ok());
  EXPECT_NE(run.report.status().message().find("another run"), std::string::npos);
  EXPECT_TRUE(fs::exists(partial));
  ::close(fd);
  EXPECT_TRUE(quantize(source, folder.file("out")).report.ok());
}

// A limit on the size of files stands in for a full disk: the same path through reserve().
TEST(Quantizer, AFullDiskIsOneClearErrorAndKeepsWhatIsDone) {
  const ModelSource source = open(kModels + "llama3");
  const TempFolder folder;
  const std::string out = folder.file("out");
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limited = before;
  limited.rlim_cur = 30'000;  // the embedding's shard has 49 KB, most others less
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  const QuantizeRun run = quantize(source, out, small_shards());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, previous);
  ASSERT_FALSE(run.report.ok());
  EXPECT_EQ(run.report.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(run.report.status().message().find(out), std::string::npos);
  EXPECT_FALSE(fs::exists(out));
  const QuantizeRun again = quantize(source, out, small_shards());
  ASSERT_TRUE(again.report.ok()) << again.report.status().to_string();
}

TEST(Quantizer, RefusesWhatCannotWork) {
  const TempFolder folder;
  const ModelSource source = open(kModels + "llama3");
  QuantizeOptions options;
  options.group_size = 48;
  EXPECT_FALSE(quantize(source, folder.file("out"), options).report.ok());
  options = {};
  options.scheme = WeightScheme::kFloat;
  EXPECT_FALSE(quantize(source, folder.file("out"), options).report.ok());
  options = {};
  options.shard_bytes = 0;
  EXPECT_FALSE(quantize(source, folder.file("out"), options).report.ok());
  EXPECT_FALSE(quantize(source, "").report.ok());
  EXPECT_FALSE(quantize(source, "/").report.ok());
  const QuantizeRun twice = quantize(open(kModels + "llama3-w4a8"), folder.file("out"));
  EXPECT_NE(twice.report.status().message().find("quantized already"), std::string::npos);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace liquidgemm
