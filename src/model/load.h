// From a path to a model that is ready to run: checkpoint, tokenizer, chat template, backend.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/thread_pool.h"
#include "model/backend.h"
#include "model/chat/chat_template.h"
#include "model/checkpoint/model_source.h"
#include "model/tokenizer/tokenizer.h"
#include "model/weights.h"

namespace liquidgemm {

// Where a model runs. kAuto: on a GPU where there is one that can run it, else on the CPU; a line
// of the log says why.
enum class DeviceChoice { kAuto, kCpu, kCuda };

struct LoadOptions {
  DeviceChoice device = DeviceChoice::kCpu;
  std::size_t gpu_memory = 0;  // bytes that the model may take on the GPU; 0: what is free
  Precision precision = Precision::kAuto;
  int group_size = 64;  // when weights are quantised while loading
  StepRule step_rule = StepRule::kSearch;
  std::optional<Isa> isa;        // empty: the best one
  int threads = 0;               // 0: one for each CPU
  BackendLimits limits;          // max_position 0: the model's own, pages 0: as needed
  bool text = true;              // false: token ids are enough, no tokenizer and no chat template
  TemplateLimits chat_template;  // what rendering a chat may cost
  WeightLoader::Report report;   // called after each layer; may be empty
  // Keep the packed weights in a file and take them from there the next time: in the model's
  // folder, or in this folder for a model that is one file. A file that is missing or does not fit
  // is written; where that fails, a warning says so and the model runs without.
  bool cache_packed_weights = false;
  std::string packed_weights_folder;
};

// Everything that belongs to one loaded model. Movable; the parts point at each other.
struct LoadedModel {
  std::string path;
  Precision precision = Precision::kW4A8;
  ModelConfig config;
  GenerationDefaults generation;
  std::string bos_token;
  std::string eos_token;
  std::unique_ptr<Tokenizer> tokenizer;         // null: loaded without text
  std::unique_ptr<ChatTemplate> chat_template;  // null: the model has none
  std::unique_ptr<ThreadPool> pool;
  bool on_gpu = false;
  std::unique_ptr<Backend> backend;
};

// Whether load_model will try a GPU: limits that suit one may be asked for then. With pages 0 the
// GPU's cache takes what memory is left.
bool expects_gpu(const LoadOptions& options);

Result<LoadedModel> load_model(const ModelSource& source, const LoadOptions& options);

}  // namespace liquidgemm
