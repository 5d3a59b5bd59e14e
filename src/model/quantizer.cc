#include "model/quantizer.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "base/half.h"
#include "base/status_macros.h"
#include "model/checkpoint/safetensors_writer.h"
#include "model/quantize_files.h"
#include "model/quantize_fingerprint.h"
#include "model/quantize_folder.h"
#include "model/quantize_plan.h"

namespace liquidgemm {
namespace {

// Weights that one thread reads, quantises and writes at a time: 1 MiB of floats.
constexpr std::int64_t kChunkWeights = 1 << 18;
constexpr std::int64_t kKeptFree = 4 << 20;  // room for the small files

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

Status interrupted() { return cancelled("interrupted"); }

// The first value of a chunk that is no number, with its place in the tensor.
Status check_finite(std::span<const float> values, std::int64_t first_row, std::int64_t k,
                    const std::string& where, const std::string& tensor) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    const auto at = static_cast<std::int64_t>(i);
    return corrupt(where + ": tensor " + tensor + ", row " + std::to_string(first_row + at / k) +
                   ", column " + std::to_string(at % k) + ": the value is " +
                   (std::isnan(values[i]) ? "NaN" : "infinite") +
                   ", expected a finite number; the file is damaged or the model diverged");
  }
  return ok_status();
}

// Quantises one module; errors of rows are kept a row, so that their sum does not depend on how the
// rows were shared out.
class ModuleQuantizer {
 public:
  ModuleQuantizer(const TensorSource& source, const QuantizeOptions& options,
                  const PlannedModule& module, SafetensorsWriter& writer)
      : source_(source),
        options_(options),
        module_(module),
        writer_(writer),
        tensor_(module.source),
        row_error_(static_cast<std::size_t>(module.linear.n)),
        row_norm_(static_cast<std::size_t>(module.linear.n)) {}

  // Runs on several threads at once, on ranges that do not overlap.
  Status rows(std::int64_t first, std::int64_t count) {
    try {
      return quantize(first, count);
    } catch (const std::bad_alloc&) {
      return resource_exhausted("out of memory while quantizing " + tensor_);
    }
  }

  ModuleErrors errors() const {
    ModuleErrors sum;
    for (const double error : row_error_) sum.squared_error += error;
    for (const double norm : row_norm_) sum.squared_norm += norm;
    return sum;
  }

 private:
  Status quantize(std::int64_t first, std::int64_t count) {
    const std::int64_t k = module_.linear.k;
    std::vector<float> weights(static_cast<std::size_t>(count * k));
    std::vector<float> restored(weights.size());
    LIQUIDGEMM_RETURN_IF_ERROR(source_.read_rows(tensor_, first, count, weights.data()));
    LIQUIDGEMM_RETURN_IF_ERROR(check_finite(weights, first, k, source_.where(), tensor_));
    if (module_.stored.scheme == WeightScheme::kLiquid4) {
      LIQUIDGEMM_RETURN_IF_ERROR(write_liquid(first, count, weights, restored));
    } else if (module_.stored.scheme == WeightScheme::kFp16) {
      LIQUIDGEMM_RETURN_IF_ERROR(write_fp16(first, weights, restored));
    } else {
      LIQUIDGEMM_RETURN_IF_ERROR(write_int8(first, count, weights, restored));
    }
    measure(first, count, weights, restored);
    return ok_status();
  }

  Status write_liquid(std::int64_t first, std::int64_t count, std::span<const float> weights,
                      std::span<float> restored) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        const LiquidRows quantized,
        quantize_rows(weights, count, module_.linear.k, module_.stored.group_size, options_.rule));
    dequantize_rows(quantized, restored);
    const std::int64_t groups = quantized.groups();
    LIQUIDGEMM_RETURN_IF_ERROR(
        writer_.write(module_.values, first * (quantized.k / 2), bytes_of(quantized.packed)));
    LIQUIDGEMM_RETURN_IF_ERROR(
        writer_.write(module_.group_scale, first * groups, bytes_of(quantized.step)));
    LIQUIDGEMM_RETURN_IF_ERROR(
        writer_.write(module_.group_offset, first * groups, bytes_of(quantized.offset)));
    return write_scales(first, quantized.channel_scale);
  }

  Status write_int8(std::int64_t first, std::int64_t count, std::span<const float> weights,
                    std::span<float> restored) {
    const std::int64_t k = module_.linear.k;
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Int8Rows quantized, quantize_rows_int8(weights, count, k));
    for (std::size_t i = 0; i < restored.size(); ++i) {
      restored[i] = quantized.channel_scale[i / static_cast<std::size_t>(k)] *
                    static_cast<float>(quantized.values[i]);
    }
    LIQUIDGEMM_RETURN_IF_ERROR(
        writer_.write(module_.values, first * k, bytes_of(quantized.values)));
    return write_scales(first, quantized.channel_scale);
  }

  Status write_fp16(std::int64_t first, std::span<const float> weights, std::span<float> restored) {
    const std::int64_t k = module_.linear.k;
    std::vector<std::uint16_t> rounded(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      rounded[i] = float_to_f16(weights[i]);
      restored[i] = f16_to_float(rounded[i]);
      if (std::isfinite(restored[i])) continue;
      const auto at = static_cast<std::int64_t>(i);
      return invalid_argument(source_.where() + ": tensor " + tensor_ + ", row " +
                              std::to_string(first + at / k) + ", column " +
                              std::to_string(at % k) + ": " + std::to_string(weights[i]) +
                              " is too large for fp16; store the head as int8 (--lm-head int8)");
    }
    return writer_.write(module_.values, first * k * std::int64_t{sizeof(std::uint16_t)},
                         bytes_of(rounded));
  }

  Status write_scales(std::int64_t first, const std::vector<float>& scales) {
    constexpr std::int64_t kFloatBytes = sizeof(float);
    return writer_.write(module_.weight_scale, first * kFloatBytes, bytes_of(scales));
  }

  void measure(std::int64_t first, std::int64_t count, std::span<const float> weights,
               std::span<const float> restored) {
    const auto k = static_cast<std::size_t>(module_.linear.k);
    for (std::size_t row = 0; row < static_cast<std::size_t>(count); ++row) {
      double error = 0;
      double norm = 0;
      for (std::size_t i = row * k; i < (row + 1) * k; ++i) {
        const double weight = weights[i];
        const double difference = weight - static_cast<double>(restored[i]);
        error += difference * difference;
        norm += weight * weight;
      }
      row_error_[static_cast<std::size_t>(first) + row] = error;
      row_norm_[static_cast<std::size_t>(first) + row] = norm;
    }
  }

  const TensorSource& source_;
  const QuantizeOptions& options_;
  const PlannedModule& module_;
  SafetensorsWriter& writer_;
  const std::string tensor_;
  std::vector<double> row_error_;
  std::vector<double> row_norm_;
};

class ModelQuantizer {
 public:
  ModelQuantizer(const ModelSource& source, const QuantizeOptions& options, ThreadPool& pool,
                 const std::atomic<bool>& stop, const QuantizeProgress& progress)
      : source_(source),
        tensors_(*source.tensors),
        options_(options),
        pool_(pool),
        stop_(stop),
        progress_(progress) {}

  Result<QuantizeReport> run(const std::string& out) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(plan_, plan_quantization(source_, options_));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string fingerprint,
                                quantize_fingerprint(source_, options_));
    LIQUIDGEMM_ASSIGN_OR_RETURN(QuantizeFolder folder,
                                QuantizeFolder::open(out, options_.overwrite, fingerprint));
    report_.shards_reused = static_cast<int>(folder.finished().size());
    const Status status = write(folder);
    if (!status.ok()) return explain(status, folder);
    fill_report(folder);
    return std::move(report_);
  }

 private:
  Status write(QuantizeFolder& folder) {
    std::uint64_t missing = kKeptFree;
    for (const PlannedShard& shard : plan_.shards) {
      if (!folder.finished().contains(shard.file)) {
        missing += SafetensorsWriter::file_bytes(shard.tensors);
      }
    }
    LIQUIDGEMM_RETURN_IF_ERROR(folder.check_space(missing));
    // First, so that whatever is wrong with them shows before the long work.
    LIQUIDGEMM_RETURN_IF_ERROR(write_small_files(source_, plan_, folder));
    for (const PlannedShard& shard : plan_.shards) {
      if (folder.finished().contains(shard.file)) {
        for (const PlannedModule& module : shard.modules) {
          advance(module.linear.n * module.linear.k, module.linear.module);
        }
      } else {
        LIQUIDGEMM_RETURN_IF_ERROR(write_shard(shard, folder));
      }
    }
    if (stop_) return interrupted();
    return folder.publish();
  }

  Status write_shard(const PlannedShard& shard, QuantizeFolder& folder) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                                SafetensorsWriter::create(folder.file(shard.file), shard.tensors));
    FinishedShard finished;
    finished.file_bytes = SafetensorsWriter::file_bytes(shard.tensors);
    for (const PlannedVector& vector : shard.vectors) {
      LIQUIDGEMM_RETURN_IF_ERROR(write_vector(shard.tensors[vector.tensor], vector, writer));
    }
    for (const PlannedModule& module : shard.modules) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(finished.modules[module.linear.module],
                                  write_module(module, writer));
      if (module.linear.bias) {
        LIQUIDGEMM_RETURN_IF_ERROR(
            write_vector(shard.tensors[module.bias],
                         {.tensor = module.bias, .copy_bytes = false, .values = nullptr}, writer));
      }
    }
    LIQUIDGEMM_RETURN_IF_ERROR(writer.commit());
    return folder.add_finished(shard.file, std::move(finished));
  }

  Result<ModuleErrors> write_module(const PlannedModule& module, SafetensorsWriter& writer) {
    ModuleQuantizer quantizer(tensors_, options_, module, writer);
    const std::int64_t n = module.linear.n;
    const std::int64_t chunk = std::max<std::int64_t>(1, kChunkWeights / module.linear.k);
    const std::int64_t wave = chunk * pool_.threads();
    for (std::int64_t first = 0; first < n; first += wave) {
      if (stop_) return interrupted();
      const std::int64_t count = std::min(wave, n - first);
      std::vector<Status> statuses(static_cast<std::size_t>(pool_.threads()));
      pool_.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end, int worker) {
        statuses[static_cast<std::size_t>(worker)] = quantizer.rows(first + begin, end - begin);
      });
      // Workers have ascending rows: the first status is the first row's.
      for (const Status& status : statuses) LIQUIDGEMM_RETURN_IF_ERROR(status);
      advance(count * module.linear.k, module.linear.module);
    }
    tensors_.release(module.source);
    return quantizer.errors();
  }

  Status write_vector(const TensorInfo& info, const PlannedVector& vector,
                      SafetensorsWriter& writer) {
    if (vector.values != nullptr) return writer.write(vector.tensor, 0, bytes_of(*vector.values));
    const std::int64_t size = element_count(info.shape).value_or(0);
    std::vector<float> values(static_cast<std::size_t>(size));
    LIQUIDGEMM_RETURN_IF_ERROR(tensors_.read_rows(info.name, 0, 1, values.data()));
    LIQUIDGEMM_RETURN_IF_ERROR(check_finite(values, 0, size, tensors_.where(), info.name));
    std::span<const std::byte> bytes = bytes_of(values);
    if (vector.copy_bytes) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(bytes, tensors_.bytes(info.name));
    }
    return writer.write(vector.tensor, 0, bytes);
  }

  void advance(std::int64_t weights, const std::string& module) {
    done_ += weights;
    if (progress_) progress_(done_, plan_.weights, module);
  }

  // What became of the work so far.
  Status explain(const Status& status, const QuantizeFolder& folder) const {
    const std::size_t finished = folder.finished().size();
    std::string message = status.message() + "; " + folder.out() + " is as it was";
    if (finished > 0) {
      message += "; " + std::to_string(finished) + " of " + std::to_string(plan_.shards.size()) +
                 " shards are finished in " + folder.path() +
                 ": run the same command again to go on from there";
    } else if (status.code() == StatusCode::kCancelled) {
      message += "; run the same command again to start over";
    }
    return Status(status.code(), message);
  }

  void add(const TensorInfo& info, std::int64_t bytes_before, QuantizeTotals& totals) const {
    totals.bytes_before += bytes_before;
    totals.bytes_after += info.bytes;
  }

  std::int64_t source_bytes(const std::string& tensor) const {
    const TensorInfo* info = tensors_.find(tensor);
    return info == nullptr ? 0 : info->bytes;
  }

  void fill_report(const QuantizeFolder& folder) {
    report_.path = folder.out();
    report_.shards = static_cast<int>(plan_.shards.size());
    for (const PlannedShard& shard : plan_.shards) {
      const auto finished = folder.finished().find(shard.file);
      for (const PlannedModule& module : shard.modules) {
        add_to_report(shard, module, errors_of(finished->second, module.linear.module));
      }
      for (const PlannedVector& vector : shard.vectors) {
        const TensorInfo& info = shard.tensors[vector.tensor];
        // Scales of the cache are bytes, but no weights.
        if (vector.values == nullptr) {
          report_.model.weights += element_count(info.shape).value_or(0);
        }
        add(info, source_bytes(info.name), report_.model);
      }
    }
  }

  static ModuleErrors errors_of(const FinishedShard& shard, const std::string& module) {
    const auto found = shard.modules.find(module);
    return found == shard.modules.end() ? ModuleErrors{} : found->second;
  }

  void add_to_report(const PlannedShard& shard, const PlannedModule& module,
                     const ModuleErrors& errors) {
    QuantizedModule entry;
    entry.name = module.linear.module;
    entry.n = module.linear.n;
    entry.k = module.linear.k;
    entry.stored = module.stored;
    entry.squared_error = errors.squared_error;
    entry.squared_norm = errors.squared_norm;
    entry.bytes_before = source_bytes(entry.name + ".weight");
    std::vector<std::size_t> stored = {module.values};
    if (module.stored.scheme != WeightScheme::kFp16) stored.push_back(module.weight_scale);
    if (module.stored.scheme == WeightScheme::kLiquid4) {
      stored.insert(stored.end(), {module.group_scale, module.group_offset});
    }
    for (const std::size_t tensor : stored) entry.bytes_after += shard.tensors[tensor].bytes;

    std::vector<QuantizeTotals*> totals = {&report_.model};
    if (module.is_linear) totals.push_back(&report_.linears);
    for (QuantizeTotals* total : totals) {
      total->weights += entry.n * entry.k;
      total->bytes_before += entry.bytes_before;
      total->bytes_after += entry.bytes_after;
      total->squared_error += entry.squared_error;
      total->squared_norm += entry.squared_norm;
    }
    if (module.linear.bias) {
      report_.model.weights += entry.n;
      add(shard.tensors[module.bias], source_bytes(entry.name + ".bias"), report_.model);
    }
    report_.modules.push_back(std::move(entry));
  }

  const ModelSource& source_;
  const TensorSource& tensors_;
  const QuantizeOptions& options_;
  ThreadPool& pool_;
  const std::atomic<bool>& stop_;
  const QuantizeProgress& progress_;
  QuantizePlan plan_;
  QuantizeReport report_;
  std::int64_t done_ = 0;
};

}  // namespace

Result<QuantizeReport> quantize_model(const ModelSource& source, const std::string& out,
                                      const QuantizeOptions& options, ThreadPool& pool,
                                      const std::atomic<bool>& stop,
                                      const QuantizeProgress& progress) {
  try {
    return ModelQuantizer(source, options, pool, stop, progress).run(out);
  } catch (const std::bad_alloc&) {
    return resource_exhausted("out of memory while quantizing " + source.path);
  }
}

int default_group_size(const ModelConfig& config) { return config.hidden_size < 2048 ? 32 : 64; }

}  // namespace liquidgemm
