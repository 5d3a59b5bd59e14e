#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "base/status_macros.h"

namespace liquidgemm {
namespace {

// Rows that one thread converts at a time.
constexpr std::int64_t kChunkRows = 64;

// Runs body(first, count) over chunks of rows on all threads; the first error wins.
template <typename Body>
Status for_row_chunks(ThreadPool& pool, std::int64_t rows, const Body& body) {
  std::mutex mutex;
  Status failure;
  pool.parallel_for(rows, kChunkRows, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t first = begin; first < end; first += kChunkRows) {
      Status status = body(first, std::min(kChunkRows, end - first));
      if (!status.ok()) {
        std::lock_guard lock(mutex);
        if (failure.ok()) failure = status;
        return;
      }
    }
  });
  return failure;
}

template <typename T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// Stacks `part` under `whole`; both have the same kind, k and group size.
void append(LoadedMatrix& whole, const LoadedMatrix& part) {
  whole.n += part.n;
  append(whole.liquid.packed, part.liquid.packed);
  append(whole.liquid.step, part.liquid.step);
  append(whole.liquid.offset, part.liquid.offset);
  append(whole.liquid.channel_scale, part.liquid.channel_scale);
  whole.liquid.rows += part.liquid.rows;
  append(whole.int8.values, part.int8.values);
  append(whole.int8.channel_scale, part.int8.channel_scale);
  whole.int8.rows += part.int8.rows;
  append(whole.f32, part.f32);
  append(whole.bias, part.bias);
}

bool same_form(const LoadedMatrix& a, const LoadedMatrix& b) {
  return a.kind == b.kind && a.k == b.k &&
         (a.kind != WeightView::Kind::kLiquid4 || a.liquid.group_size == b.liquid.group_size);
}

// INT8 weights back to float, for the float precisions.
std::vector<float> dequantize_int8(const Int8Rows& rows) {
  std::vector<float> out(rows.values.size());
  for (std::int64_t n = 0; n < rows.rows; ++n) {
    for (std::int64_t i = n * rows.k; i < (n + 1) * rows.k; ++i) {
      const auto at = static_cast<std::size_t>(i);
      out[at] =
          rows.channel_scale[static_cast<std::size_t>(n)] * static_cast<float>(rows.values[at]);
    }
  }
  return out;
}

}  // namespace

std::string_view precision_name(Precision precision) {
  switch (precision) {
    case Precision::kAuto: return "auto";
    case Precision::kFp32: return "fp32";
    case Precision::kW8A8: return "w8a8";
    case Precision::kW4A16: return "w4a16";
    case Precision::kW4A8: return "w4a8";
  }
  return "?";
}

Result<Precision> parse_precision(std::string_view name) {
  for (const Precision precision : {Precision::kAuto, Precision::kFp32, Precision::kW8A8,
                                    Precision::kW4A16, Precision::kW4A8}) {
    if (name == precision_name(precision)) return precision;
  }
  return invalid_argument("precision \"" + std::string(name) +
                          "\" is not known: expected auto, fp32, w8a8, w4a16 or w4a8");
}

WeightView LoadedMatrix::view() const {
  WeightView view;
  view.kind = kind;
  view.name = name;
  view.n = n;
  view.k = k;
  if (kind == WeightView::Kind::kLiquid4) {
    view.group_size = liquid.group_size;
    view.packed = liquid.packed.data();
    view.step = liquid.step.data();
    view.offset = liquid.offset.data();
    view.channel_scale = liquid.channel_scale.data();
  } else if (kind == WeightView::Kind::kInt8) {
    view.int8 = int8.values.data();
    view.channel_scale = int8.channel_scale.data();
  } else {
    view.f32 = f32.data();
  }
  return view;
}

Result<WeightLoader> WeightLoader::create(const ModelSource& source, Precision precision,
                                          int group_size, StepRule rule, ThreadPool& pool) {
  if (source.config.quantization) {
    const auto& layers = source.config.quantization->layers;
    const bool has_liquid = std::any_of(layers.begin(), layers.end(), [](const auto& layer) {
      return layer.second.scheme == WeightScheme::kLiquid4;
    });
    const Precision stored = has_liquid ? Precision::kW4A8 : Precision::kW8A8;
    if (precision == Precision::kAuto) precision = stored;
    if (precision != stored && !(has_liquid && precision == Precision::kW4A16)) {
      return invalid_argument(source.path + ": holds " + std::string(precision_name(stored)) +
                              " weights, from which " + std::string(precision_name(precision)) +
                              " cannot be made; name the original model instead");
    }
  } else if (precision == Precision::kAuto) {
    precision = Precision::kW4A8;
  }
  WeightLoader loader;
  loader.source_ = &source;
  loader.precision_ = precision;
  loader.as_float_ = precision == Precision::kFp32 || precision == Precision::kW4A16;
  loader.group_size_ = group_size;
  loader.rule_ = rule;
  loader.pool_ = &pool;
  return loader;
}

Result<std::vector<float>> WeightLoader::read_floats(const std::string& tensor, std::int64_t n,
                                                     std::int64_t k) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, source_->tensors->require(tensor));
  const Shape expected = n == 1 && info->shape.size() == 1 ? Shape{k} : Shape{n, k};
  if (info->shape != expected) {
    return corrupt(source_->tensors->where() + ": tensor " + tensor + ": expected shape " +
                   shape_string(expected) + ", found " + shape_string(info->shape));
  }
  std::vector<float> values(static_cast<std::size_t>(n * k));
  LIQUIDGEMM_RETURN_IF_ERROR(for_row_chunks(*pool_, n, [&](std::int64_t first, std::int64_t count) {
    return source_->tensors->read_rows(tensor, first, count, values.data() + first * k);
  }));
  source_->tensors->release(tensor);
  return values;
}

Result<std::vector<float>> WeightLoader::vector(const std::string& tensor, std::int64_t width) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<float> values, read_floats(tensor, 1, width));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return corrupt(source_->tensors->where() + ": tensor " + tensor + ": element " +
                     std::to_string(i) + " is not a finite number");
    }
  }
  return values;
}

Result<LoadedMatrix> WeightLoader::read_quantized(const std::string& module, std::int64_t n,
                                                  std::int64_t k) {
  const QuantizationConfig& quantization = *source_->config.quantization;
  const auto found = quantization.layers.find(module);
  if (found == quantization.layers.end()) {
    return corrupt(source_->path + "/config.json: field \"quantization_config.layers\" has no \"" +
                   module + "\"");
  }
  LoadedMatrix matrix;
  matrix.name = module;
  matrix.n = n;
  matrix.k = k;
  const auto fetch = [&](const std::string& suffix, DType dtype, Shape shape,
                         auto& into) -> Status {
    const std::string tensor = module + suffix;
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, source_->tensors->require(tensor));
    if (info->dtype != dtype || info->shape != shape) {
      return corrupt(source_->tensors->where() + ": tensor " + tensor + ": expected " +
                     std::string(dtype_name(dtype)) + " " + shape_string(shape) + ", found " +
                     std::string(dtype_name(info->dtype)) + " " + shape_string(info->shape));
    }
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto bytes, source_->tensors->bytes(tensor));
    into.resize(bytes.size() / sizeof(into[0]));
    std::memcpy(into.data(), bytes.data(), bytes.size());
    source_->tensors->release(tensor);
    return ok_status();
  };
  if (found->second.scheme == WeightScheme::kInt8) {
    matrix.kind = WeightView::Kind::kInt8;
    matrix.int8.rows = n;
    matrix.int8.k = k;
    LIQUIDGEMM_RETURN_IF_ERROR(fetch(".weight_int8", DType::kI8, {n, k}, matrix.int8.values));
    LIQUIDGEMM_RETURN_IF_ERROR(fetch(".weight_scale", DType::kF32, {n}, matrix.int8.channel_scale));
    LIQUIDGEMM_RETURN_IF_ERROR(
        check_int8_scales(matrix.int8.channel_scale, source_->tensors->where() + ": " + module));
  } else {
    matrix.kind = WeightView::Kind::kLiquid4;
    LiquidRows& liquid = matrix.liquid;
    liquid.rows = n;
    liquid.k = k;
    liquid.group_size = found->second.group_size;
    const std::int64_t groups = liquid.groups();
    LIQUIDGEMM_RETURN_IF_ERROR(fetch(".weight_packed", DType::kU8, {n, k / 2}, liquid.packed));
    LIQUIDGEMM_RETURN_IF_ERROR(fetch(".group_scale", DType::kU8, {n, groups}, liquid.step));
    LIQUIDGEMM_RETURN_IF_ERROR(fetch(".group_offset", DType::kU8, {n, groups}, liquid.offset));
    LIQUIDGEMM_RETURN_IF_ERROR(fetch(".weight_scale", DType::kF32, {n}, liquid.channel_scale));
    LIQUIDGEMM_RETURN_IF_ERROR(check_liquid_rows(liquid.packed, liquid.step, liquid.offset,
                                                 liquid.channel_scale, n, k, liquid.group_size,
                                                 source_->tensors->where() + ": " + module));
  }
  return matrix;
}

Result<LoadedMatrix> WeightLoader::matrix(const std::string& module, std::int64_t n, std::int64_t k,
                                          WeightScheme wanted) {
  LoadedMatrix matrix;
  if (source_->config.quantization) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix, read_quantized(module, n, k));
  } else {
    matrix.name = module;
    matrix.n = n;
    matrix.k = k;
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix.f32, read_floats(module + ".weight", n, k));
    const std::string where = source_->tensors->where() + ": tensor " + module + ".weight";
    if (wanted == WeightScheme::kLiquid4 && !liquid_quant_takes(n, k)) wanted = WeightScheme::kInt8;
    switch (wanted) {
      case WeightScheme::kFloat:
        for (std::size_t i = 0; i < matrix.f32.size(); ++i) {
          if (!std::isfinite(matrix.f32[i])) {
            return corrupt(where + ": row " + std::to_string(i / static_cast<std::size_t>(k)) +
                           ", column " + std::to_string(i % static_cast<std::size_t>(k)) +
                           " is not a finite number");
          }
        }
        break;
      case WeightScheme::kInt8: {
        matrix.kind = WeightView::Kind::kInt8;
        auto quantized = quantize_rows_int8(matrix.f32, n, k);
        if (!quantized.ok()) return quantized.status().with_context(where);
        matrix.int8 = std::move(*quantized);
        matrix.f32 = {};
        break;
      }
      case WeightScheme::kLiquid4: {
        matrix.kind = WeightView::Kind::kLiquid4;
        LiquidRows& liquid = matrix.liquid;
        liquid.rows = n;
        liquid.k = k;
        liquid.group_size = group_size_;
        const std::int64_t groups = liquid.groups();
        liquid.packed.resize(static_cast<std::size_t>(n * k / 2));
        liquid.step.resize(static_cast<std::size_t>(n * groups));
        liquid.offset.resize(static_cast<std::size_t>(n * groups));
        liquid.channel_scale.resize(static_cast<std::size_t>(n));
        const auto quantize = [&](std::int64_t first, std::int64_t count) -> Status {
          const std::span<const float> rows(matrix.f32.data() + first * k,
                                            static_cast<std::size_t>(count * k));
          auto part = quantize_rows(rows, count, k, group_size_, rule_);
          if (!part.ok()) {
            return part.status().with_context(where + " (rows from " + std::to_string(first) + ")");
          }
          std::copy(part->packed.begin(), part->packed.end(),
                    liquid.packed.begin() + first * (k / 2));
          std::copy(part->step.begin(), part->step.end(), liquid.step.begin() + first * groups);
          std::copy(part->offset.begin(), part->offset.end(),
                    liquid.offset.begin() + first * groups);
          std::copy(part->channel_scale.begin(), part->channel_scale.end(),
                    liquid.channel_scale.begin() + first);
          return ok_status();
        };
        LIQUIDGEMM_RETURN_IF_ERROR(for_row_chunks(*pool_, n, quantize));
        matrix.f32 = {};
        break;
      }
    }
  }
  if (as_float_ && matrix.kind != WeightView::Kind::kFloat) {
    if (matrix.kind == WeightView::Kind::kInt8) {
      matrix.f32 = dequantize_int8(matrix.int8);
    } else {
      matrix.f32.resize(static_cast<std::size_t>(n * k));
      dequantize_rows(matrix.liquid, matrix.f32);
    }
    matrix.int8 = {};
    matrix.liquid = {};
    matrix.kind = WeightView::Kind::kFloat;
  }
  return matrix;
}

Result<std::vector<LoadedMatrix>> WeightLoader::linear_group(const LinearGroup& group) {
  WeightScheme wanted = WeightScheme::kLiquid4;
  if (precision_ == Precision::kFp32) wanted = WeightScheme::kFloat;
  if (precision_ == Precision::kW8A8) wanted = WeightScheme::kInt8;
  std::vector<LoadedMatrix> parts;
  bool any_bias = false;
  for (const LinearName& part : group.parts) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(LoadedMatrix loaded, matrix(part.module, part.n, part.k, wanted));
    if (part.bias) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(loaded.bias, vector(part.module + ".bias", part.n));
      any_bias = true;
    }
    parts.push_back(std::move(loaded));
  }
  if (any_bias) {
    // A part without bias beside one with: adding 0 would change -0, but never a comparison or a
    // sum of the group's other outputs. No supported family mixes them.
    for (LoadedMatrix& part : parts) part.bias.resize(static_cast<std::size_t>(part.n), 0.0f);
  }
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (!same_form(parts[0], parts[i])) return parts;
  }
  for (std::size_t i = 1; i < parts.size(); ++i) append(parts[0], parts[i]);
  parts.resize(1);
  parts[0].name = group.parts.front().module;
  return parts;
}

Result<LoadedMatrix> WeightLoader::table(const std::string& module, std::int64_t n,
                                         std::int64_t k) {
  return matrix(module, n, k,
                precision_ == Precision::kFp32 ? WeightScheme::kFloat : WeightScheme::kInt8);
}

}  // namespace liquidgemm
