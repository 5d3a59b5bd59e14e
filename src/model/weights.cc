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

Status check_finite(std::span<const float> weights, std::int64_t first_row, std::int64_t k,
                    const std::string& place) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (std::isfinite(weights[i])) continue;
    const auto at = static_cast<std::int64_t>(i);
    return corrupt(place + ": row " + std::to_string(first_row + at / k) + ", column " +
                   std::to_string(at % k) + " is not a finite number");
  }
  return ok_status();
}

// Rows [first, first + count) of a quantised view.
LiquidRows copy_rows(const WeightView& view, std::int64_t first, std::int64_t count) {
  LiquidRows rows;
  rows.rows = count;
  rows.k = view.k;
  rows.group_size = view.group_size;
  const auto copy = [&](const auto* from, std::int64_t width, auto& into) {
    into.assign(from + first * width, from + (first + count) * width);
  };
  copy(view.packed, view.k / 2, rows.packed);
  copy(view.step, rows.groups(), rows.step);
  copy(view.offset, rows.groups(), rows.offset);
  copy(view.channel_scale, 1, rows.channel_scale);
  return rows;
}

// `rows` become rows [first, ...) of `whole`, whose vectors have their size.
void put_rows(const LiquidRows& rows, std::int64_t first, LiquidRows& whole) {
  const auto put = [&](const auto& from, std::int64_t width, auto& into) {
    std::copy(from.begin(), from.end(), into.begin() + first * width);
  };
  put(rows.packed, rows.k / 2, whole.packed);
  put(rows.step, rows.groups(), whole.step);
  put(rows.offset, rows.groups(), whole.offset);
}

}  // namespace

std::string_view precision_name(Precision precision) {
  switch (precision) {
    case Precision::kAuto: return "auto";
    case Precision::kFp32: return "fp32";
    case Precision::kW8A8: return "w8a8";
    case Precision::kW4A16: return "w4a16";
    case Precision::kW4A8: return "w4a8";
    case Precision::kFp16: return "fp16";
  }
  return "?";
}

Result<Precision> parse_precision(std::string_view name) {
  for (const Precision precision : {Precision::kAuto, Precision::kFp32, Precision::kFp16,
                                    Precision::kW8A8, Precision::kW4A16, Precision::kW4A8}) {
    if (name == precision_name(precision)) return precision;
  }
  return invalid_argument("precision \"" + std::string(name) +
                          "\" is not known: expected auto, fp32, fp16, w8a8, w4a16 or w4a8");
}

MappedTensor& MappedTensor::operator=(MappedTensor&& other) noexcept {
  std::swap(source_, other.source_);
  std::swap(name_, other.name_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

WeightView LoadedMatrix::view() const {
  WeightView view;
  view.kind = kind;
  view.name = name;
  view.n = n;
  view.k = k;
  view.group_size = group_size;
  const bool mapped = codes.bytes().data() != nullptr;
  if (kind == WeightView::Kind::kLiquid4) {
    view.packed = mapped ? codes.as<std::uint8_t>() : liquid.packed.data();
    view.step = mapped ? step.as<std::uint8_t>() : liquid.step.data();
    view.offset = mapped ? offset.as<std::uint8_t>() : liquid.offset.data();
  } else if (kind == WeightView::Kind::kInt8) {
    view.int8 = mapped ? codes.as<std::int8_t>() : int8.data();
  } else if (kind == WeightView::Kind::kFp16) {
    view.f16 = codes.as<std::uint8_t>();
  } else {
    view.f32 = f32.data();
  }
  if (!channel_scale.empty()) view.channel_scale = channel_scale.data();
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
    const bool as_float =
        precision == Precision::kFp16 || (has_liquid && precision == Precision::kW4A16);
    if (precision != stored && !as_float) {
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
  loader.as_float_ = precision == Precision::kFp32 || precision == Precision::kW4A16 ||
                     precision == Precision::kFp16;
  loader.group_size_ = group_size;
  loader.rule_ = rule;
  loader.pool_ = &pool;
  return loader;
}

Status WeightLoader::check_floats(const std::string& tensor, std::int64_t n, std::int64_t k) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, source_->tensors->require(tensor));
  const Shape expected = n == 1 && info->shape.size() == 1 ? Shape{k} : Shape{n, k};
  if (info->shape == expected) return ok_status();
  return corrupt(where() + ": tensor " + tensor + ": expected shape " + shape_string(expected) +
                 ", found " + shape_string(info->shape));
}

Result<std::vector<float>> WeightLoader::vector(const std::string& tensor, std::int64_t width) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_floats(tensor, 1, width));
  std::vector<float> values(static_cast<std::size_t>(width));
  LIQUIDGEMM_RETURN_IF_ERROR(source_->tensors->read_rows(tensor, 0, 1, values.data()));
  source_->tensors->release(tensor);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return corrupt(where() + ": tensor " + tensor + ": element " + std::to_string(i) +
                     " is not a finite number");
    }
  }
  return values;
}

Result<std::vector<KvScales>> WeightLoader::kv_scales() {
  const ModelConfig& config = source_->config;
  const auto read = [&](const std::string& tensor) -> Result<std::vector<float>> {
    if (source_->tensors->find(tensor) == nullptr) {
      return not_found(where() + ": --kv-cache-dtype int8-static needs scales, and there is no " +
                       tensor + ": liquid quantize --kv-scales TEXT measures and stores them");
    }
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<float> scales,
                                vector(tensor, config.kv_heads * config.head_dim));
    for (std::size_t i = 0; i < scales.size(); ++i) {
      if (scales[i] > 0.0f && std::isnormal(scales[i])) continue;
      return corrupt(where() + ": tensor " + tensor + ": element " + std::to_string(i) +
                     " is no scale: expected a finite, positive, normal number");
    }
    return scales;
  };
  std::vector<KvScales> layers;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    KvScales scales;
    LIQUIDGEMM_ASSIGN_OR_RETURN(scales.k, read(k_scale_tensor(layer)));
    LIQUIDGEMM_ASSIGN_OR_RETURN(scales.v, read(v_scale_tensor(layer)));
    layers.push_back(std::move(scales));
  }
  return layers;
}

Result<MappedTensor> WeightLoader::map(const std::string& tensor, DType dtype, const Shape& shape) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, source_->tensors->require(tensor));
  if (info->dtype != dtype || info->shape != shape) {
    return corrupt(where() + ": tensor " + tensor + ": expected " + std::string(dtype_name(dtype)) +
                   " " + shape_string(shape) + ", found " + std::string(dtype_name(info->dtype)) +
                   " " + shape_string(info->shape));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto bytes, source_->tensors->bytes(tensor));
  return MappedTensor(*source_->tensors, tensor, bytes);
}

WeightScheme WeightLoader::wanted_for_linears() const {
  if (precision_ == Precision::kFp32 || precision_ == Precision::kFp16) {
    return WeightScheme::kFloat;
  }
  return precision_ == Precision::kW8A8 ? WeightScheme::kInt8 : WeightScheme::kLiquid4;
}

WeightScheme WeightLoader::wanted_for_tables() const {
  return precision_ == Precision::kFp32 || precision_ == Precision::kFp16 ? WeightScheme::kFloat
                                                                          : WeightScheme::kInt8;
}

Result<LayerQuantization> WeightLoader::stored_form(const std::string& module, std::int64_t n,
                                                    std::int64_t k, WeightScheme wanted) const {
  if (!source_->config.quantization) {
    if (wanted == WeightScheme::kLiquid4 && !liquid_quant_takes(n, k)) wanted = WeightScheme::kInt8;
    return LayerQuantization{wanted, group_size_};
  }
  const QuantizationConfig& quantization = *source_->config.quantization;
  const auto found = quantization.layers.find(module);
  if (found == quantization.layers.end()) {
    return corrupt(source_->path + "/config.json: field \"quantization_config.layers\" has no \"" +
                   module + "\"");
  }
  if (found->second.scheme == WeightScheme::kFloat && !as_float_) {
    return unsupported(source_->path + ": " + module + " is stored as float, which " +
                       std::string(precision_name(precision_)) +
                       " does not run: its layers are quantised");
  }
  return found->second;
}

Result<WeightView> WeightLoader::form(const std::string& module, std::int64_t n, std::int64_t k,
                                      WeightScheme wanted) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LayerQuantization stored, stored_form(module, n, k, wanted));
  WeightView view;
  view.name = module;
  view.n = n;
  view.k = k;
  view.group_size = stored.group_size;
  view.kind = WeightView::Kind::kFloat;
  if (as_float_) return view;
  if (stored.scheme == WeightScheme::kInt8) view.kind = WeightView::Kind::kInt8;
  if (stored.scheme == WeightScheme::kLiquid4) view.kind = WeightView::Kind::kLiquid4;
  if (stored.scheme == WeightScheme::kFp16) view.kind = WeightView::Kind::kFp16;
  return view;
}

Result<LoadedMatrix> WeightLoader::map_quantized(const std::string& module, std::int64_t n,
                                                 std::int64_t k, const LayerQuantization& form) {
  LoadedMatrix matrix;
  matrix.name = module;
  matrix.n = n;
  matrix.k = k;
  if (form.scheme == WeightScheme::kFp16) {
    matrix.kind = WeightView::Kind::kFp16;
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix.codes, map(module + ".weight", DType::kF16, {n, k}));
    return matrix;
  }
  if (form.scheme == WeightScheme::kInt8) {
    matrix.kind = WeightView::Kind::kInt8;
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix.codes, map(module + ".weight_int8", DType::kI8, {n, k}));
  } else {
    matrix.kind = WeightView::Kind::kLiquid4;
    matrix.group_size = form.group_size;
    const std::int64_t groups = (k + matrix.group_size - 1) / matrix.group_size;
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix.codes,
                                map(module + ".weight_packed", DType::kU8, {n, k / 2}));
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix.step, map(module + ".group_scale", DType::kU8, {n, groups}));
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix.offset,
                                map(module + ".group_offset", DType::kU8, {n, groups}));
  }
  // Copied: the file need not align it.
  LIQUIDGEMM_ASSIGN_OR_RETURN(const MappedTensor scale,
                              map(module + ".weight_scale", DType::kF32, {n}));
  matrix.channel_scale.resize(static_cast<std::size_t>(n));
  std::memcpy(matrix.channel_scale.data(), scale.bytes().data(), scale.bytes().size());
  return matrix;
}

Status WeightLoader::read_weights(WeightScheme scheme, LoadedMatrix& matrix) {
  const std::string tensor = matrix.name + ".weight";
  const std::int64_t n = matrix.n;
  const std::int64_t k = matrix.k;
  LIQUIDGEMM_RETURN_IF_ERROR(check_floats(tensor, n, k));
  LiquidRows& liquid = matrix.liquid;
  switch (scheme) {
    case WeightScheme::kFloat:
    case WeightScheme::kFp16: matrix.f32.resize(static_cast<std::size_t>(n * k)); break;
    case WeightScheme::kInt8:
      matrix.kind = WeightView::Kind::kInt8;
      matrix.int8.resize(static_cast<std::size_t>(n * k));
      matrix.channel_scale.resize(static_cast<std::size_t>(n));
      break;
    case WeightScheme::kLiquid4:
      matrix.kind = WeightView::Kind::kLiquid4;
      matrix.group_size = group_size_;
      liquid.rows = n;
      liquid.k = k;
      liquid.group_size = group_size_;
      liquid.packed.resize(static_cast<std::size_t>(n * k / 2));
      liquid.step.resize(static_cast<std::size_t>(n * liquid.groups()));
      liquid.offset.resize(static_cast<std::size_t>(n * liquid.groups()));
      matrix.channel_scale.resize(static_cast<std::size_t>(n));
      break;
  }
  const auto chunk = [&](std::int64_t first, std::int64_t count) -> Status {
    const std::string place = where() + ": tensor " + tensor;
    const std::string from = place + " (rows from " + std::to_string(first) + ")";
    std::vector<float> buffer;
    float* rows = matrix.f32.data() + first * k;
    if (scheme != WeightScheme::kFloat) {
      buffer.resize(static_cast<std::size_t>(count * k));
      rows = buffer.data();
    }
    LIQUIDGEMM_RETURN_IF_ERROR(source_->tensors->read_rows(tensor, first, count, rows));
    const std::span<const float> weights(rows, static_cast<std::size_t>(count * k));
    if (scheme == WeightScheme::kFloat) return check_finite(weights, first, k, place);
    if (scheme == WeightScheme::kInt8) {
      const auto part = quantize_rows_int8(weights, count, k);
      if (!part.ok()) return part.status().with_context(from);
      std::copy(part->values.begin(), part->values.end(), matrix.int8.begin() + first * k);
      std::copy(part->channel_scale.begin(), part->channel_scale.end(),
                matrix.channel_scale.begin() + first);
      return ok_status();
    }
    const auto part = quantize_rows(weights, count, k, group_size_, rule_);
    if (!part.ok()) return part.status().with_context(from);
    put_rows(*part, first, liquid);
    std::copy(part->channel_scale.begin(), part->channel_scale.end(),
              matrix.channel_scale.begin() + first);
    return ok_status();
  };
  LIQUIDGEMM_RETURN_IF_ERROR(for_row_chunks(*pool_, n, chunk));
  source_->tensors->release(tensor);
  return ok_status();
}

Status WeightLoader::dequantize(LoadedMatrix& matrix) {
  const WeightView view = matrix.view();
  const std::int64_t k = matrix.k;
  const std::string place = where() + ": " + matrix.name;
  std::vector<float> f32(static_cast<std::size_t>(matrix.n * k));
  const auto chunk = [&](std::int64_t first, std::int64_t count) -> Status {
    float* out = f32.data() + first * k;
    if (view.kind == WeightView::Kind::kInt8) {
      for (std::int64_t i = 0; i < count * k; ++i) {
        out[i] = view.channel_scale[first + i / k] * static_cast<float>(view.int8[first * k + i]);
      }
      return ok_status();
    }
    const LiquidRows rows = copy_rows(view, first, count);
    LIQUIDGEMM_RETURN_IF_ERROR(check_liquid_rows(rows.packed, rows.step, rows.offset,
                                                 rows.channel_scale, count, k, rows.group_size,
                                                 place, first));
    dequantize_rows(rows, std::span(out, static_cast<std::size_t>(count * k)));
    return ok_status();
  };
  if (view.kind == WeightView::Kind::kInt8) {
    LIQUIDGEMM_RETURN_IF_ERROR(check_int8_scales(matrix.channel_scale, place));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(for_row_chunks(*pool_, matrix.n, chunk));
  LoadedMatrix floats;
  floats.name = matrix.name;
  floats.n = matrix.n;
  floats.k = k;
  floats.f32 = std::move(f32);
  matrix = std::move(floats);
  return ok_status();
}

Result<LoadedMatrix> WeightLoader::matrix(const std::string& module, std::int64_t n, std::int64_t k,
                                          WeightScheme wanted) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LayerQuantization form, stored_form(module, n, k, wanted));
  LoadedMatrix matrix;
  // As float, FP16 weights are read like any float tensor.
  const bool as_stored = !as_float_ || form.scheme != WeightScheme::kFp16;
  if (source_->config.quantization && form.scheme != WeightScheme::kFloat && as_stored) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(matrix, map_quantized(module, n, k, form));
  } else {
    matrix.name = module;
    matrix.n = n;
    matrix.k = k;
    const bool floats = form.scheme == WeightScheme::kFp16;
    LIQUIDGEMM_RETURN_IF_ERROR(read_weights(floats ? WeightScheme::kFloat : form.scheme, matrix));
  }
  if (as_float_ && matrix.kind != WeightView::Kind::kFloat) {
    LIQUIDGEMM_RETURN_IF_ERROR(dequantize(matrix));
  }
  return matrix;
}

Result<std::vector<LoadedMatrix>> WeightLoader::linear_group(const LinearGroup& group) {
  std::vector<LoadedMatrix> parts;
  for (const LinearName& part : group.parts) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(LoadedMatrix loaded,
                                matrix(part.module, part.n, part.k, wanted_for_linears()));
    parts.push_back(std::move(loaded));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<std::vector<float>> bias, biases(group));
  for (std::size_t i = 0; i < parts.size(); ++i) parts[i].bias = std::move(bias[i]);
  return parts;
}

Result<std::vector<std::vector<float>>> WeightLoader::biases(const LinearGroup& group) {
  std::vector<std::vector<float>> biases;
  bool any = false;
  for (const LinearName& part : group.parts) {
    std::vector<float>& bias = biases.emplace_back();
    if (!part.bias) continue;
    LIQUIDGEMM_ASSIGN_OR_RETURN(bias, vector(part.module + ".bias", part.n));
    any = true;
  }
  if (any) {
    // A part without bias beside one with: adding 0 would change -0, but never a comparison or a
    // sum of the group's other outputs. No supported family mixes them.
    for (std::size_t i = 0; i < biases.size(); ++i) {
      biases[i].resize(static_cast<std::size_t>(group.parts[i].n), 0.0f);
    }
  }
  return biases;
}

Result<std::vector<WeightView>> WeightLoader::forms_of_group(const LinearGroup& group) const {
  std::vector<WeightView> forms;
  for (const LinearName& part : group.parts) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(WeightView view,
                                form(part.module, part.n, part.k, wanted_for_linears()));
    forms.push_back(std::move(view));
  }
  return forms;
}

Result<LoadedMatrix> WeightLoader::table(const std::string& module, std::int64_t n,
                                         std::int64_t k) {
  return matrix(module, n, k, wanted_for_tables());
}

Result<WeightView> WeightLoader::form_of_table(const std::string& module, std::int64_t n,
                                               std::int64_t k) const {
  return form(module, n, k, wanted_for_tables());
}

}  // namespace liquidgemm
