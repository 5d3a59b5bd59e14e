// The small files of a LiquidQuant checkpoint: config.json, the index, tokenizer files.
#pragma once

#include <string>
#include <string_view>

#include "model/checkpoint/model_source.h"
#include "model/quantize_folder.h"
#include "model/quantize_plan.h"

namespace liquidgemm {

// Whether quantize_model could have written a file of this name into a checkpoint.
bool is_checkpoint_file(std::string_view name);

// From a Hugging Face folder: its config.json with quantization_config added, and the tokenizer
// files byte by byte. From GGUF: the same files made from what the header says.
Status write_small_files(const ModelSource& source, const QuantizePlan& plan,
                         const QuantizeFolder& folder);

}  // namespace liquidgemm
