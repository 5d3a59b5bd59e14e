// Flags that every verb which runs a model shares.
#pragma once

#include <string>
#include <vector>

#include "cli/commands.h"
#include "model/load.h"

namespace liquidgemm::cli {

struct ModelOptions {
  std::string model;
  std::string device = "auto";
  std::string isa;              // empty: the best one
  std::int64_t gpu_memory = 0;  // bytes; 0: what is free
  int threads = 0;
  std::string kv_cache_dtype = "auto";
  bool cache_packed_weights = false;
  std::int64_t max_model_len = 0;  // 0: the model's own, at most kDefaultLength
};

inline constexpr std::int64_t kDefaultLength = 8192;

void add_model_options(CLI::App& verb, ModelOptions& options);
// Parts of them: MODEL alone, and what it runs on.
CLI::Option* add_model_argument(CLI::App& verb, ModelOptions& options);
void add_backend_options(CLI::App& verb, ModelOptions& options);
void add_precision_option(CLI::App& verb, std::string& precision);

// "auto" or a number; group_size_for gives the number for a model.
void add_group_size_option(CLI::App& verb, std::string& group_size);
int group_size_for(const std::string& group_size, const ModelConfig& config);

// "int8" or "fp16".
void add_head_option(CLI::App& verb, std::string& head);
WeightScheme head_scheme(const std::string& head);

// Opens MODEL; the path is resolved first.
Result<ModelSource> open_source(const std::string& model);

// As LoadOptions; limits are for one sequence until the caller changes them.
Result<LoadOptions> load_options(const ModelOptions& options, Precision precision,
                                 const ModelConfig& config);

// load_model with a bar once it takes longer than a second, stopped by Ctrl-C.
Result<LoadedModel> load_with_progress(const ModelSource& source, LoadOptions options);

}  // namespace liquidgemm::cli
