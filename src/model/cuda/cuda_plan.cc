// Brings a model onto the GPU: whether it fits is said before anything is loaded.

#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "base/status_macros.h"
#include "gemm/cuda/fp16_linear.h"
#include "gemm/numerics.h"
#include "model/cuda/cuda_backend_impl.h"
#include "model/cuda/cuda_fp16_head.h"
#include "model/cuda/cuda_quantized_linear.h"
#include "model/cuda/pieces.h"
#include "model/rope.h"
#include "ops/cpu/ops.h"
#include "ops/cuda/attention_rows.h"
#include "ops/cuda/rows.h"

namespace liquidgemm {
namespace {

using cuda::DeviceBuffer;

// Kept free for the driver, graphs and whatever else runs on the GPU.
constexpr std::size_t kReserve = std::size_t{1} << 30;

std::string gigabytes(std::size_t bytes) {
  const auto tenths = static_cast<std::size_t>(std::llround(1e-8 * static_cast<double>(bytes)));
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GB";
}

// f32 is refused by check_model.
cuda::KvElement element_of(KvFormat format) {
  switch (format) {
    case KvFormat::kBf16: return cuda::KvElement::kBf16;
    case KvFormat::kInt8: return cuda::KvElement::kInt8;
    case KvFormat::kInt8Static: return cuda::KvElement::kInt8Static;
    case KvFormat::kInt4: return cuda::KvElement::kInt4;
    case KvFormat::kF16:
    case KvFormat::kF32: break;
  }
  return cuda::KvElement::kF16;
}

template <typename T>
Result<DeviceBuffer> upload(const std::vector<T>& values, const char* what) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                              DeviceBuffer::allocate(values.size() * sizeof(T), what));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpy(buffer.bytes(), values.data(), buffer.size(), cudaMemcpyHostToDevice));
  return buffer;
}

}  // namespace

Status CudaBackend::check_model(const WeightLoader& weights) const {
  const ModelConfig& config = owned_graph_.config;
  const auto refused = [](const char* field, std::int64_t value, const std::string& expected) {
    return unsupported(std::string("config.json: field \"") + field +
                       "\": " + std::to_string(value) + ", the GPU's backend takes " + expected +
                       " (--device cpu runs it)");
  };
  if (weights.float_activations() && weights.precision() != Precision::kFp16) {
    return unsupported("precision " + std::string(precision_name(weights.precision())) +
                       " runs on the CPU alone: use --device cpu, or w4a8, w8a8 or fp16");
  }
  if (limits_.kv_format == KvFormat::kF32) {
    return unsupported(
        "--kv-cache-dtype f32 is for the CPU: use f16, bf16, int8, int8-static or int4");
  }
  if (config.hidden_size % 8 != 0) {
    return refused("hidden_size", config.hidden_size, "multiples of 8");
  }
  if (config.head_dim % 8 != 0 || config.head_dim > cuda::kKvMaxWidth) {
    return refused("head_dim", config.head_dim, "multiples of 8 up to 128");
  }
  if (config.vocab_size > kMaxCudaVocabulary) {
    return refused("vocab_size", config.vocab_size,
                   "up to " + std::to_string(kMaxCudaVocabulary) + " tokens");
  }
  if (limits_.max_rows < 1 || limits_.max_sequences < 1) {
    return invalid_argument("a step needs at least one row and one sequence");
  }
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::can_norm_rope_cache(shape_, static_cast<int>(config.heads),
                                                       static_cast<int>(config.head_dim)));
  LIQUIDGEMM_RETURN_IF_ERROR(
      cuda::can_attend(shape_, static_cast<int>(config.heads), static_cast<int>(config.head_dim)));
  return cuda::can_finish_attention(static_cast<int>(config.heads),
                                    static_cast<int>(config.head_dim));
}

// Called twice: without memory it only counts.
CudaBackend::Buffers CudaBackend::lay_out(void* base, std::size_t& used) const {
  const ModelConfig& config = owned_graph_.config;
  Pieces pieces(base);
  const std::int64_t rows = limits_.max_rows;
  const std::int64_t last = limits_.max_logits_rows;
  const std::int64_t q_width = owned_graph_.q_width();
  const std::int64_t inner = (config.intermediate_size + 7) / 8 * 8;
  const std::int64_t widest = (std::max({config.hidden_size, q_width, inner}) + 15) / 16 * 16;
  std::uint16_t* q = nullptr;
  Buffers buffers;
  pieces.take(buffers.residual, rows * config.hidden_size);
  const auto take_either = [&](void*& field, std::int64_t count, std::int64_t element_bytes) {
    std::byte* bytes = nullptr;
    pieces.take(bytes, count * element_bytes);
    field = bytes;
  };
  const std::int64_t narrow_bytes = half() ? 2 : 4;
  take_either(buffers.delta, rows * config.hidden_size, narrow_bytes);
  pieces.take(buffers.qkv, rows * (q_width + 2 * owned_graph_.kv_width()));
  pieces.take(buffers.attention, rows * q_width);
  // As wide either way: two f16 of what is yet to be gated, or one float of what is.
  take_either(buffers.gate_up, rows * inner, 4);
  pieces.take(q, rows * config.heads * shape_.width);
  buffers.q = q;
  if (half()) {
    take_either(buffers.half, rows * widest, 2);
  } else {
    pieces.take(buffers.x8, rows * widest);
    pieces.take(buffers.scale, rows);
    pieces.take(buffers.sum, rows);
    pieces.take(buffers.gathered,
                (kCudaAmaxParts + 1) * gathered_stride(std::min(rows, kMostGathered)));
  }
  if (fp16_head_) take_either(buffers.half, cuda::fp16_tiles_bytes(last, config.hidden_size), 1);
  pieces.take(buffers.last_residual, last * config.hidden_size);
  take_either(buffers.last_delta, last * config.hidden_size, narrow_bytes);
  pieces.take(buffers.logits, last * ((config.vocab_size + 7) / 8 * 8));
  used = pieces.used();
  return buffers;
}

StepBuffers::Sizes CudaBackend::step_sizes() const {
  const std::int64_t splits = cuda::attention_splits(limits_.max_position);
  const std::int64_t tile = cuda::prefill_tile_tokens(
      static_cast<int>(owned_graph_.config.heads), static_cast<int>(owned_graph_.config.kv_heads));
  StepBuffers::Sizes sizes;
  sizes.rows = limits_.max_rows;
  sizes.logits_rows = limits_.max_logits_rows;
  sizes.slots = limits_.max_sequences;
  // Pages that sequences share can make for more splits than pages; those go to the other kernel.
  const std::int64_t pages = numerics::kAttentionSplit / kPageTokens;
  sizes.units =
      std::min(limits_.max_sequences * splits, limits_.pages / pages + limits_.max_sequences);
  sizes.tiles = limits_.max_rows / tile + limits_.max_sequences;
  sizes.table_pages = pages_for(limits_.max_position);
  return sizes;
}

Status CudaBackend::fit(WeightLoader& weights) {
  const ModelConfig& config = owned_graph_.config;
  std::size_t weight_bytes = 0;
  const auto bytes_of = half() ? CudaFloatLinears::bytes_of : CudaQuantizedLinear::bytes_of;
  for (const DecoderLayer& layer : owned_graph_.layers) {
    for (const LinearGroup* group : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<WeightView> forms,
                                  weights.forms_of_group(*group));
      weight_bytes += bytes_of(forms, group == &layer.gate_up);
    }
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const WeightView head,
      weights.form_of_table(owned_graph_.lm_head, config.vocab_size, config.hidden_size));
  fp16_head_ = head.kind == WeightView::Kind::kFp16;
  weight_bytes += fp16_head_ ? CudaFp16Head::bytes_of(head) : bytes_of(std::span(&head, 1), false);
  const bool tied = owned_graph_.lm_head == owned_graph_.embedding;
  const std::int64_t token_bytes = !half() ? config.hidden_size + 4
                                   : tied  ? 0
                                           : 2 * config.hidden_size;
  weight_bytes += static_cast<std::size_t>(config.vocab_size * token_bytes);

  std::size_t free = 0, total = 0;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free, &total));
  std::size_t budget = free > kReserve ? free - kReserve : 0;
  if (options_.memory_bytes > 0) budget = std::min(budget, options_.memory_bytes);

  const std::int64_t longest = pages_for(limits_.max_position);
  const bool as_many_as_fit = limits_.pages <= 0;
  const std::int64_t wanted = as_many_as_fit ? longest * limits_.max_sequences : limits_.pages;
  limits_.pages = wanted;
  std::size_t buffer_bytes = 0;
  static_cast<void>(lay_out(nullptr, buffer_bytes));
  const StepBuffers::Sizes sizes = step_sizes();
  buffer_bytes += StepBuffers::bytes_of(sizes) + SampleBuffers::bytes_of(limits_.max_logits_rows);
  buffer_bytes += cuda::decode_attention_workspace_bytes(shape_, static_cast<int>(config.heads),
                                                         static_cast<int>(sizes.units));
  buffer_bytes += static_cast<std::size_t>(limits_.max_position * config.head_dim) * sizeof(float);

  const auto page = static_cast<std::size_t>(page_bytes());
  const std::size_t fixed = weight_bytes + buffer_bytes;
  const auto fitting =
      budget > fixed ? static_cast<std::int64_t>((budget - fixed) / page) : std::int64_t{0};
  const std::int64_t least = as_many_as_fit ? longest : wanted;
  if (fitting < least) {
    const std::size_t needed = fixed + static_cast<std::size_t>(least) * page;
    return resource_exhausted(
        "the model does not fit on " + device_.name + ": it needs " + gigabytes(needed) +
        " (weights " + gigabytes(weight_bytes) + ", buffers " + gigabytes(buffer_bytes) +
        ", KV cache of " + std::to_string(least * kPageTokens) + " tokens in " +
        std::string(kv_format_name(limits_.kv_format)) + " " +
        gigabytes(static_cast<std::size_t>(least) * page) + "), there are " + gigabytes(budget) +
        (options_.memory_bytes > 0 && budget == options_.memory_bytes ? " (--gpu-memory)"
                                                                      : " free") +
        "; what helps: --kv-cache-dtype int8 or int4, a smaller --max-model-len, fewer sequences "
        "at once");
  }
  limits_.pages = std::min(wanted, fitting);
  return ok_status();
}

Status CudaBackend::upload_scales(const KvScales& scales, LayerWeights& layer) {
  const auto keep = [&](const std::vector<float>& values, const float*& to) -> Status {
    LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer buffer, upload(values, "scales of the KV cache"));
    vectors_.push_back(std::move(buffer));
    to = vectors_.back().as<const float>();
    return ok_status();
  };
  LIQUIDGEMM_RETURN_IF_ERROR(keep(scales.k, layer.k_scale));
  LIQUIDGEMM_RETURN_IF_ERROR(keep(scales.v, layer.v_scale));
  LIQUIDGEMM_RETURN_IF_ERROR(keep(reciprocals(scales.k), layer.k_reciprocal));
  return keep(reciprocals(scales.v), layer.v_reciprocal);
}

Result<const float*> CudaBackend::upload_vector(WeightLoader& weights, const std::string& name,
                                                std::int64_t width) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<float> values, weights.vector(name, width));
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer buffer, upload(values, "norm weights"));
  vectors_.push_back(std::move(buffer));
  return vectors_.back().as<const float>();
}

Result<std::unique_ptr<CudaLinear>> CudaBackend::make_linear(std::span<const LoadedMatrix> parts,
                                                             bool gated, CudaFloat output,
                                                             WeightLoader& weights) {
  if (!half()) {
    auto linear = CudaQuantizedLinear::make(parts, gated, device_, stream_.get());
    if (!linear.ok()) return linear.status().with_context(weights.where());
    return linear;
  }
  auto linear = floats_->make(parts, gated, output, weights.pool());
  if (!linear.ok()) return linear.status().with_context(weights.where());
  return std::unique_ptr<CudaLinear>(*std::move(linear));
}

Status CudaBackend::load_weights(WeightLoader& weights) {
  const ModelConfig& config = owned_graph_.config;
  const auto load = [&](const LinearGroup& group, bool gated,
                        CudaFloat output) -> Result<std::unique_ptr<CudaLinear>> {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<LoadedMatrix> parts, weights.linear_group(group));
    return make_linear(parts, gated, output, weights);
  };
  // What is added to the residual or gated is f16 where the weights are.
  const CudaFloat narrow = half() ? CudaFloat::kFloat16 : CudaFloat::kFloat32;
  for (const DecoderLayer& layer : owned_graph_.layers) {
    LayerWeights made;
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.qkv, load(layer.qkv, false, CudaFloat::kFloat32));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.output, load(layer.output, false, narrow));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.gate_up, load(layer.gate_up, true, narrow));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.down, load(layer.down, false, narrow));
    const std::int64_t hidden = config.hidden_size;
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.input_norm, upload_vector(weights, layer.input_norm, hidden));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.post_attention_norm,
                                upload_vector(weights, layer.post_attention_norm, hidden));
    if (!layer.q_norm.empty()) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(made.q_norm,
                                  upload_vector(weights, layer.q_norm, config.head_dim));
      LIQUIDGEMM_ASSIGN_OR_RETURN(made.k_norm,
                                  upload_vector(weights, layer.k_norm, config.head_dim));
    }
    layers_.push_back(std::move(made));
    LIQUIDGEMM_RETURN_IF_ERROR(
        weights.report(static_cast<std::int64_t>(layers_.size()), config.layers));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(final_norm_,
                              upload_vector(weights, owned_graph_.final_norm, config.hidden_size));
  return half() ? load_half_tables(weights) : load_tables(weights);
}

Status CudaBackend::load_half_tables(WeightLoader& weights) {
  const std::int64_t vocab = owned_graph_.config.vocab_size;
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedMatrix table,
                                weights.table(owned_graph_.lm_head, vocab, hidden));
    auto head = floats_->make(std::span(&table, 1), false, CudaFloat::kFloat32, weights.pool());
    if (!head.ok()) return head.status().with_context(weights.where());
    half_embedding_ = (*head)->weights();
    head_ = *std::move(head);
  }
  if (owned_graph_.lm_head == owned_graph_.embedding) return ok_status();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedMatrix table,
                              weights.table(owned_graph_.embedding, vocab, hidden));
  auto embedding = CudaFloatLinears::upload(table, weights.pool());
  if (!embedding.ok()) return embedding.status().with_context(weights.where());
  embedding_ = *std::move(embedding);
  half_embedding_ = embedding_.bytes();
  return ok_status();
}

Result<std::unique_ptr<CudaLinear>> CudaBackend::make_head(const LoadedMatrix& head,
                                                           WeightLoader& weights) {
  if (!fp16_head_) return make_linear(std::span(&head, 1), false, CudaFloat::kFloat32, weights);
  auto linear = CudaFp16Head::make(head.view(), weights.pool(), stream_.get());
  if (!linear.ok()) return linear.status().with_context(weights.where());
  return linear;
}

Status CudaBackend::load_tables(WeightLoader& weights) {
  const std::int64_t vocab = owned_graph_.config.vocab_size;
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  const auto keep_rows = [&](const LoadedMatrix& table) -> Status {
    const WeightView view = table.view();
    LIQUIDGEMM_RETURN_IF_ERROR(
        check_int8_scales({view.channel_scale, static_cast<std::size_t>(vocab)}, view.name));
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        embedding_,
        DeviceBuffer::allocate(static_cast<std::size_t>(vocab * hidden), "the embedding"));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
        cudaMemcpy(embedding_.bytes(), view.int8, embedding_.size(), cudaMemcpyHostToDevice));
    LIQUIDGEMM_ASSIGN_OR_RETURN(embedding_scale_, upload(table.channel_scale, "the embedding"));
    return ok_status();
  };
  {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedMatrix head,
                                weights.table(owned_graph_.lm_head, vocab, hidden));
    LIQUIDGEMM_ASSIGN_OR_RETURN(head_, make_head(head, weights));
    if (owned_graph_.lm_head == owned_graph_.embedding) return keep_rows(head);
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedMatrix table,
                              weights.table(owned_graph_.embedding, vocab, hidden));
  return keep_rows(table);
}

Status CudaBackend::allocate() {
  std::size_t bytes = 0;
  static_cast<void>(lay_out(nullptr, bytes));
  LIQUIDGEMM_ASSIGN_OR_RETURN(memory_, DeviceBuffer::allocate(bytes, "activation buffers"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(memory_.bytes(), 0, memory_.size()));
  buffers_ = lay_out(memory_.bytes(), bytes);
  host_logits_ = std::make_unique_for_overwrite<float[]>(
      static_cast<std::size_t>(limits_.max_logits_rows * owned_graph_.config.vocab_size));
  const StepBuffers::Sizes sizes = step_sizes();
  LIQUIDGEMM_RETURN_IF_ERROR(step_.allocate(sizes));
  decode_sequences_.reserve(static_cast<std::size_t>(limits_.max_sequences));
  LIQUIDGEMM_RETURN_IF_ERROR(
      samples_.allocate(limits_.max_logits_rows, owned_graph_.config.vocab_size));
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      attention_workspace_,
      DeviceBuffer::allocate(
          cuda::decode_attention_workspace_bytes(
              shape_, static_cast<int>(owned_graph_.config.heads), static_cast<int>(sizes.units)),
          "attention's workspace"));
  const auto pages = static_cast<std::size_t>(limits_.pages * page_bytes());
  LIQUIDGEMM_ASSIGN_OR_RETURN(pages_, DeviceBuffer::allocate(pages, "the KV cache"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(pages_.bytes(), 0, pages_.size()));

  const RopeTable rope = make_rope_table(owned_graph_.config, limits_.max_position);
  LIQUIDGEMM_ASSIGN_OR_RETURN(rope_cos_, upload(rope.cos, "rotary tables"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(rope_sin_, upload(rope.sin, "rotary tables"));
  // The stream does not wait for the default one, which did all this.
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize());
  return ok_status();
}

Status CudaBackend::tune() {
  // Decode steps have the rows of their buckets; the others some rows between these.
  std::set<std::int64_t> head_rows;
  for (std::int64_t rows = 1; rows <= limits_.max_logits_rows; ++rows) {
    head_rows.insert(bucket(rows));
  }
  std::set<std::int64_t> layer_rows = head_rows;
  for (std::int64_t rows = 16; rows < limits_.max_rows; rows *= 2) {
    layer_rows.insert(rows);
    layer_rows.insert(std::min(rows + rows / 2, limits_.max_rows));
  }
  layer_rows.insert(limits_.max_rows);
  const std::vector<std::int64_t> of_head(head_rows.begin(), head_rows.end());
  const std::vector<std::int64_t> of_layers(layer_rows.begin(), layer_rows.end());
  const CudaRows x = device_rows({.rows = limits_.max_rows, .quantized = {}});
  cudaStream_t stream = stream_.get();
  for (LayerWeights& layer : layers_) {
    LIQUIDGEMM_RETURN_IF_ERROR(layer.qkv->tune(of_layers, x, buffers_.qkv, stream));
    LIQUIDGEMM_RETURN_IF_ERROR(layer.output->tune(of_layers, x, buffers_.delta, stream));
    LIQUIDGEMM_RETURN_IF_ERROR(layer.gate_up->tune(of_layers, x, buffers_.gate_up, stream));
    LIQUIDGEMM_RETURN_IF_ERROR(layer.down->tune(of_layers, x, buffers_.delta, stream));
  }
  return head_->tune(of_head, x, buffers_.logits, stream);
}

Status CudaBackend::plan(const ModelGraph& graph, WeightLoader& weights,
                         const BackendLimits& limits) {
  owned_graph_ = graph;
  limits_ = limits;
  limits_.max_logits_rows = std::min(limits_.max_logits_rows, limits_.max_rows);
  const ModelConfig& config = owned_graph_.config;
  shape_ = {
      .element = element_of(limits.kv_format),
      .width = cuda::kv_width(static_cast<int>(std::min<std::int64_t>(config.head_dim, 1024))),
      .kv_heads = static_cast<int>(config.kv_heads),
      .layers = 1};
  softmax_scale_ = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaSetDevice(device_.index));
  LIQUIDGEMM_RETURN_IF_ERROR(check_model(weights));
  std::vector<KvScales> kv_scales;
  if (limits_.kv_format == KvFormat::kInt8Static) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(kv_scales, weights.kv_scales());
  }
  if (weights.precision() == Precision::kFp16) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(floats_, CudaFloatLinears::open());
  }
  LIQUIDGEMM_RETURN_IF_ERROR(fit(weights));
  LIQUIDGEMM_ASSIGN_OR_RETURN(stream_, cuda::make_stream());
  LIQUIDGEMM_RETURN_IF_ERROR(load_weights(weights));
  for (std::size_t layer = 0; layer < kv_scales.size(); ++layer) {
    LIQUIDGEMM_RETURN_IF_ERROR(upload_scales(kv_scales[layer], layers_[layer]));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(allocate());
  LIQUIDGEMM_RETURN_IF_ERROR(tune());
  graph_ = &owned_graph_;
  return ok_status();
}

std::size_t CudaBackend::weight_bytes() const {
  std::size_t bytes = head_->bytes() + embedding_.size() + embedding_scale_.size();
  for (const LayerWeights& layer : layers_) {
    bytes +=
        layer.qkv->bytes() + layer.output->bytes() + layer.gate_up->bytes() + layer.down->bytes();
  }
  return bytes;
}

std::vector<std::string> CudaBackend::describe() const {
  // Kind of layer and kernel -> number of layers, in the graph's order.
  std::vector<std::pair<std::string, int>> counts;
  const auto count = [&](const std::string& kind, const CudaLinear& linear) {
    const std::string line = kind + ": " + linear.describe();
    for (auto& [text, number] : counts) {
      if (text == line) {
        ++number;
        return;
      }
    }
    counts.emplace_back(line, 1);
  };
  for (const LayerWeights& layer : layers_) {
    count("qkv", *layer.qkv);
    count("o", *layer.output);
    count("gate_up", *layer.gate_up);
    count("down", *layer.down);
  }
  std::vector<std::string> lines;
  for (const auto& [text, number] : counts) {
    lines.push_back(text + " (" + std::to_string(number) + (number == 1 ? " layer)" : " layers)"));
  }
  lines.push_back("lm_head: " + head_->describe());
  if (half()) {
    lines.push_back("cuBLASLt: " + floats_->version() +
                    ", algorithms by time; logits depend on what runs beside a request");
  }
  lines.push_back("attention: " + std::string(kv_format_name(limits_.kv_format)) +
                  " KV, sm90 tensor cores");
  lines.push_back("device: " + device_.name);
  return lines;
}

}  // namespace liquidgemm
