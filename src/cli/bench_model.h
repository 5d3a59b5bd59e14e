// What `liquid bench latency` and `liquid bench throughput` share: the model they run, a checkpoint
// or a preset with random weights, and how results are kept.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/model_options.h"

namespace liquidgemm::cli {

struct BenchModelOptions {
  ModelOptions model;
  std::string preset;  // instead of a model
  std::string precision = "auto";
  std::string group_size = "auto";
  std::string head = "int8";
  std::uint64_t seed = 0;
  bool json = false;
  std::vector<std::string> record;
};

void add_bench_model_options(CLI::App& verb, BenchModelOptions& options);
// To be called when the verb was chosen: neither a model nor a preset is wrong usage.
void check_bench_model_options(const CLI::App& verb, const BenchModelOptions& options);

// A model that is known, but not loaded: its limits are still to be chosen.
struct BenchModel {
  std::string name;  // "preset 1b", or the last part of the path
  ModelSource source;
  LoadOptions load;
  bool gpu = false;  // that it will run on
};
// A checkpoint that is not quantized yet is quantized first where W4A8 is wanted, as `liquid run`
// does.
Result<BenchModel> open_bench_model(const BenchModelOptions& options);

// Error when sequences of that many tokens, which `cause` needs, are longer than the model takes.
Status check_length(const BenchModel& model, const std::string& cause, std::int64_t longest);

// Tokens of one step on a GPU, where nothing else is said: prompts keep it busy.
inline constexpr std::int64_t kGpuBatchedTokens = 8192;

// Refuses what does not fit in memory before anything is allocated. model.load has its limits. A
// model that is taken for the GPU and cannot run there is an error.
Result<LoadedModel> load_bench_model(const BenchModel& model);

// What was measured on what.
struct MeasuredModel {
  std::string name;
  std::string gpu;     // empty: it ran on the CPU
  std::string driver;  // the GPU's
  std::string cpu;
  int threads = 0;
  std::string isa;
  std::string precision;
  std::string kv_format;
  std::vector<std::string> kernels;
  double weight_bytes = 0.0;
  std::string command;

  // "preset 1b, w4a8, f16 KV, 0.58 GB of weights; CPU NAME, 2 threads", or the GPU and its driver.
  std::string caption() const;
  // The beginning of a result.
  json::Object to_json() const;
};
Result<MeasuredModel> describe_model(const BenchModel& bench, const LoadedModel& loaded);

}  // namespace liquidgemm::cli
