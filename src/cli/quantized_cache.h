// Quantizing with a progress bar, and the cache of models that were quantized on first use.
#pragma once

#include <string>

#include "base/thread_pool.h"
#include "liquidgemm/status.h"
#include "model/checkpoint/model_source.h"
#include "model/quantizer.h"

namespace liquidgemm::cli {

// The source itself when it is quantized already; otherwise its W4A8 form from the cache, made now
// if it is not there yet.
Result<ModelSource> quantized_source(ModelSource source, int threads);

// quantize_model with a bar, stopped by Ctrl-C.
Result<QuantizeReport> quantize_with_progress(const ModelSource& source, const std::string& out,
                                              const QuantizeOptions& options, ThreadPool& pool);

}  // namespace liquidgemm::cli
