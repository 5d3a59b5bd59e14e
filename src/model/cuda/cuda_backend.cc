// A step on the GPU: its numbers to the device, then the transformer's operations as launches on
// one stream.

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/status_macros.h"
#include "gemm/cuda/int8_weights.h"
#include "gemm/numerics.h"
#include "model/cuda/cuda_backend_impl.h"
#include "model/transformer.h"
#include "ops/cpu/ops.h"
#include "ops/cuda/rows.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kSplit = numerics::kAttentionSplit;

std::int64_t splits_of(std::int64_t length) { return (length + kSplit - 1) / kSplit; }

CudaRows device_rows(const LinearInput& input) {
  const QuantizedRows& rows = input.quantized;
  return {.m = input.rows,
          .x8 = const_cast<std::int8_t*>(rows.x8),
          .ld = rows.ld,
          .scale = const_cast<float*>(rows.scale),
          .sum = const_cast<std::int32_t*>(rows.sum)};
}

}  // namespace

CudaBackend::~CudaBackend() {
  if (stream_.get() != nullptr) static_cast<void>(cudaStreamSynchronize(stream_.get()));
}

void CudaBackend::launched(const Status& status) {
  if (failure_.ok() && !status.ok()) failure_ = status;
}

void CudaBackend::wait() {
  launched(cuda::cuda_status(cudaStreamSynchronize(stream_.get()), "a step"));
}

bool CudaBackend::mark(std::size_t index) {
  while (marks_.size() <= index) {
    launched(cuda::cuda_status(cudaSetDevice(device_.index), "cudaSetDevice"));
    auto event = cuda::make_event();
    launched(event.status());
    if (!event.ok()) return true;
    marks_.push_back(std::move(*event));
  }
  launched(cuda::cuda_status(cudaEventRecord(marks_[index].get(), stream_.get()), "a time mark"));
  return true;
}

double CudaBackend::seconds_between(std::size_t first, std::size_t last) const {
  float milliseconds = 0.0f;
  if (last >= marks_.size() ||
      cudaEventElapsedTime(&milliseconds, marks_[first].get(), marks_[last].get()) != cudaSuccess) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return 1e-3 * static_cast<double>(milliseconds);
}

// ---- The step's numbers
// --------------------------------------------------------------------------

void CudaBackend::fill(const StepInput& input) {
  const StepBuffers::Fields& to = step_.host();
  std::copy(input.tokens.begin(), input.tokens.end(), to.tokens);
  std::copy(input.logits_rows.begin(), input.logits_rows.end(), to.logits_rows);
  for (std::size_t s = 0; s < input.sequences.size(); ++s) {
    const SequenceRows& sequence = input.sequences[s];
    for (std::int32_t i = 0; i < sequence.rows; ++i) {
      const std::int32_t position = sequence.context + i;
      to.positions[sequence.first_row + i] = position;
      to.row_pages[sequence.first_row + i] =
          sequence.pages[static_cast<std::size_t>(position / kPageTokens)];
    }
    const std::int64_t length = std::int64_t{sequence.context} + sequence.rows;
    std::copy_n(sequence.pages.begin(), pages_for(length),
                to.block_tables + static_cast<std::int64_t>(s) * step_.sizes().table_pages);
    to.lengths[s] = static_cast<std::int32_t>(length);
    to.slot_rows[s] = sequence.first_row;
  }
  // Rows that fill a bucket up are stored nowhere.
  for (auto row = static_cast<std::int64_t>(input.tokens.size()); row < rows_; ++row) {
    to.tokens[row] = 0;
    to.positions[row] = 0;
    to.row_pages[row] = -1;
  }
  for (auto i = static_cast<std::int64_t>(input.logits_rows.size()); i < logits_rows_; ++i) {
    to.logits_rows[i] = static_cast<std::int32_t>(i);
  }
}

// Sequences with one row go to the decode kernel, those with more to the other one, whose bits are
// the same; so do sequences whose splits find no more room in the list.
void CudaBackend::fill_attention(const StepInput& input) {
  const StepBuffers::Fields& to = step_.host();
  const std::int32_t most = cuda::prefill_tile_tokens(
      static_cast<int>(owned_graph_.config.heads), static_cast<int>(owned_graph_.config.kv_heads));
  units_ = 0;
  tiles_ = 0;
  for (std::size_t s = 0; s < input.sequences.size(); ++s) {
    const SequenceRows& sequence = input.sequences[s];
    const auto slot = static_cast<std::int32_t>(s);
    const std::int64_t splits = splits_of(std::int64_t{sequence.context} + 1);
    if (sequence.rows == 1 && units_ + splits <= step_.sizes().units) {
      for (std::int32_t split = 0; split < splits; ++split) to.units[units_++] = {slot, split};
      continue;
    }
    for (std::int32_t first = 0; first < sequence.rows; first += most) {
      to.tiles[tiles_++] = {.slot = slot,
                            .first_row = sequence.first_row + first,
                            .rows = std::min(most, sequence.rows - first),
                            .first_position = sequence.context + first};
    }
  }
  *to.unit_count = static_cast<std::int32_t>(units_);
  // The longest first, so that none is left alone at the end.
  std::stable_sort(to.tiles, to.tiles + tiles_, [](const auto& a, const auto& b) {
    return a.first_position + a.rows > b.first_position + b.rows;
  });
}

void CudaBackend::begin(const StepInput& input) {
  if (recording_) return;
  input_ = &input;
  failure_ = ok_status();
  // Whichever thread runs the step.
  launched(cuda::cuda_status(cudaSetDevice(device_.index), "cudaSetDevice"));
  sampled_.clear();
  scores_.clear();
  rows_ = std::max(rows_, static_cast<std::int64_t>(input.tokens.size()));
  logits_rows_ = std::max(logits_rows_, static_cast<std::int64_t>(input.logits_rows.size()));
  launched(reserve_workspace(rows_, logits_rows_));
  // A step that failed may have left a copy behind that still reads the buffers.
  wait();
  fill(input);
  fill_attention(input);
  launched(step_.upload(static_cast<std::int64_t>(input.sequences.size()), stream_.get()));
  launched(samples_.upload(input, stream_.get()));
  if (samples_.moved()) graphs_.clear();
}

Status CudaBackend::finish() {
  rows_ = 0;
  logits_rows_ = 0;
  wait();
  LIQUIDGEMM_RETURN_IF_ERROR(failure_);
  samples_.take(*input_, sampled_, scores_);
  return ok_status();
}

std::span<const float> CudaBackend::logits(std::int64_t row) const {
  const auto vocab = static_cast<std::size_t>(owned_graph_.config.vocab_size);
  host_logits_.resize(vocab * static_cast<std::size_t>(limits_.max_logits_rows));
  float* to = host_logits_.data() + static_cast<std::size_t>(row) * vocab;
  const cudaError_t copied = cudaMemcpy(to, buffers_.logits + row * head_.width(),
                                        vocab * sizeof(float), cudaMemcpyDeviceToHost);
  if (copied != cudaSuccess) std::fill_n(to, vocab, std::numeric_limits<float>::quiet_NaN());
  return {to, vocab};
}

// ---- Operations
// ----------------------------------------------------------------------------------

float* CudaBackend::buffer(RowBuffer name) const {
  switch (name) {
    case RowBuffer::kResidual: return buffers_.residual;
    case RowBuffer::kDelta: return buffers_.delta;
    case RowBuffer::kQkv: return buffers_.qkv;
    case RowBuffer::kAttention: return buffers_.attention;
  }
  return nullptr;
}

std::int64_t CudaBackend::width(RowBuffer name) const {
  switch (name) {
    case RowBuffer::kResidual:
    case RowBuffer::kDelta: return owned_graph_.config.hidden_size;
    case RowBuffer::kQkv: return owned_graph_.q_width() + 2 * owned_graph_.kv_width();
    case RowBuffer::kAttention: return owned_graph_.q_width();
  }
  return 0;
}

void CudaBackend::embed(RowBuffer out) {
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  launched(cuda::embed_rows({.table = embedding_.as<std::int8_t>(),
                             .ld_table = hidden,
                             .scale = embedding_scale_.as<float>(),
                             .vocab = owned_graph_.config.vocab_size,
                             .tokens = device_fields().tokens,
                             .rows = rows_,
                             .hidden = hidden,
                             .out = buffer(out),
                             .ld_out = hidden},
                            stream_.get()));
}

LinearInput CudaBackend::quantized_input(std::int64_t rows, std::int64_t k, std::int64_t ld) const {
  return {.rows = rows,
          .quantized = {.m = rows,
                        .k = k,
                        .x8 = buffers_.x8,
                        .ld = ld,
                        .scale = buffers_.scale,
                        .sum = buffers_.sum}};
}

LinearInput CudaBackend::quantize_floats(const float* x, std::int64_t ld, std::int64_t k,
                                         std::int64_t rows) {
  const std::int64_t ld_x8 = (k + 15) / 16 * 16;
  launched(quantize_rows({.x = x,
                          .ld_x = ld,
                          .type = CudaFloat::kFloat32,
                          .m = rows,
                          .k = k,
                          .x8 = buffers_.x8,
                          .ld_x8 = ld_x8,
                          .scale = buffers_.scale,
                          .sum = buffers_.sum},
                         stream_.get()));
  return quantized_input(rows, k, ld_x8);
}

LinearInput CudaBackend::add_norm(const float* delta, float* residual, const float* norm,
                                  std::int64_t rows) {
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  const std::int64_t ld_x8 = (hidden + 15) / 16 * 16;
  CudaAddNormQuantizeArguments arguments;
  arguments.rows = {.x = delta,
                    .ld_x = hidden,
                    .type = CudaFloat::kFloat32,
                    .m = rows,
                    .k = hidden,
                    .x8 = buffers_.x8,
                    .ld_x8 = ld_x8,
                    .scale = buffers_.scale,
                    .sum = buffers_.sum};
  arguments.residual = residual;
  arguments.ld_residual = hidden;
  arguments.residual_type = CudaFloat::kFloat32;
  arguments.norm_weight = norm;
  arguments.epsilon = static_cast<float>(owned_graph_.config.rms_norm_eps);
  launched(add_norm_quantize_rows(arguments, stream_.get()));
  return quantized_input(rows, hidden, ld_x8);
}

LinearInput CudaBackend::add_norm_quantize(std::size_t layer, bool post_attention, bool first) {
  const LayerWeights& weights = layers_[layer];
  return add_norm(first ? nullptr : buffers_.delta, buffers_.residual,
                  post_attention ? weights.post_attention_norm : weights.input_norm, rows_);
}

LinearInput CudaBackend::quantize(RowBuffer in) {
  return quantize_floats(buffer(in), width(in), width(in), rows_);
}

void CudaBackend::run_linear(CudaLinear& linear, const LinearInput& input, float* out,
                             std::int64_t ld_out) {
  CudaRows rows = device_rows(input);
  if (linear.takes_doubled()) {
    launched(cuda::stack_int8_rows(
        {.x8 = rows.x8, .ld = rows.ld, .m = rows.m, .k = linear.k(), .out = buffers_.stacked},
        stream_.get()));
    rows.x8 = buffers_.stacked;
    rows.ld = linear.row_bytes();
  }
  void* workspace = workspaces_.empty() ? nullptr : workspaces_.back().bytes();
  launched(linear.run(rows, out, ld_out, workspace, stream_.get()));
}

void CudaBackend::linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
                         RowBuffer out) {
  LayerWeights& weights = layers_[layer];
  const DecoderLayer& names = owned_graph_.layers[layer];
  CudaLinear& linear = &group == &names.qkv      ? weights.qkv
                       : &group == &names.output ? weights.output
                                                 : weights.down;
  run_linear(linear, input, buffer(out), width(out));
}

LinearInput CudaBackend::linear_gated_quantize(std::size_t layer, const LinearInput& input) {
  CudaLinear& gate_up = layers_[layer].gate_up;
  run_linear(gate_up, input, buffers_.gate_up, gate_up.width());
  const std::int64_t inner = gate_up.width() / 2;
  const std::int64_t ld_x8 = (inner + 15) / 16 * 16;
  launched(cuda::silu_multiply_quantize({.gate_up = buffers_.gate_up,
                                         .ld = gate_up.width(),
                                         .rows = rows_,
                                         .width = inner,
                                         .x8 = buffers_.x8,
                                         .ld_x8 = ld_x8,
                                         .scale = buffers_.scale,
                                         .sum = buffers_.sum},
                                        stream_.get()));
  return quantized_input(rows_, inner, ld_x8);
}

void CudaBackend::qk_norm_rope_cache(std::size_t layer) {
  const ModelConfig& config = owned_graph_.config;
  const LayerWeights& weights = layers_[layer];
  launched(cuda::norm_rope_cache({.qkv = buffers_.qkv,
                                  .ld_qkv = width(RowBuffer::kQkv),
                                  .rows = rows_,
                                  .heads = static_cast<int>(config.heads),
                                  .head_dim = static_cast<int>(config.head_dim),
                                  .q_norm = weights.q_norm,
                                  .k_norm = weights.k_norm,
                                  .epsilon = static_cast<float>(config.rms_norm_eps),
                                  .cos = rope_cos_.as<float>(),
                                  .sin = rope_sin_.as<float>(),
                                  .positions = device_fields().positions,
                                  .pages_of_rows = device_fields().row_pages,
                                  .shape = shape_,
                                  .layer = 0,
                                  .pages = layer_pages(layer),
                                  .q = buffers_.q,
                                  .q_sum = buffers_.q_sum},
                                 stream_.get()));
}

std::uint8_t* CudaBackend::layer_pages(std::size_t layer) const {
  return pages_.as<std::uint8_t>() +
         static_cast<std::int64_t>(layer) * limits_.pages * cuda::kv_page_bytes(shape_);
}

cuda::AttentionTensors CudaBackend::tensors(std::size_t layer) const {
  const ModelConfig& config = owned_graph_.config;
  return {.shape = shape_,
          .layer = 0,
          .heads = static_cast<int>(config.heads),
          .head_dim = static_cast<int>(config.head_dim),
          .softmax_scale = softmax_scale_,
          .q = buffers_.q,
          .pages = layer_pages(layer),
          .block_tables = device_fields().block_tables,
          .ld_block_table = step_.sizes().table_pages,
          .out = buffers_.attention,
          .ld_out = owned_graph_.q_width()};
}

void CudaBackend::attention(std::size_t layer, RowBuffer) {
  if (units_ > 0) {
    launched(cuda::decode_attention(
        {.tensors = tensors(layer),
         .slots = static_cast<int>(limits_.max_sequences),
         .lengths = device_fields().lengths,
         .rows = device_fields().slot_rows,
         .units = device_fields().units,
         .unit_count = device_fields().unit_count,
         .max_units = static_cast<int>(step_.sizes().units),
         .workspace = attention_workspace_.bytes(),
         .multiprocessors = device_.multiprocessors,
         .sequences = static_cast<int>(std::min(rows_, limits_.max_sequences))},
        stream_.get()));
  }
  if (tiles_ > 0) {
    launched(cuda::prefill_attention({.tensors = tensors(layer),
                                      .tiles = device_fields().tiles,
                                      .tile_count = static_cast<int>(tiles_)},
                                     stream_.get()));
  }
}

LinearInput CudaBackend::final_norm_quantize() {
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  launched(cuda::gather_rows({.index = device_fields().logits_rows,
                              .rows = logits_rows_,
                              .width = hidden,
                              .first = {buffers_.residual, hidden, buffers_.last_residual, hidden},
                              .second = {buffers_.delta, hidden, buffers_.last_delta, hidden}},
                             stream_.get()));
  return add_norm(buffers_.last_delta, buffers_.last_residual, final_norm_, logits_rows_);
}

void CudaBackend::lm_head(const LinearInput& input) {
  run_linear(head_, input, buffers_.logits, head_.width());
}

void CudaBackend::sample() {
  launched(samples_.sample(buffers_.logits, head_.width(), logits_rows_, stream_.get()));
}

void CudaBackend::score() {
  // Not recorded: few steps ask for it, and each for something else.
  if (recording_) return;
  launched(samples_.score(buffers_.logits, head_.width(), logits_rows_, stream_.get()));
}

Status CudaBackend::reserve_workspace(CudaLinear& linear, std::int64_t m) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::size_t bytes, linear.workspace_bytes(m));
  if (!workspaces_.empty() && bytes <= workspaces_.back().size()) return ok_status();
  if (bytes == 0) return ok_status();
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      cuda::DeviceBuffer larger,
      cuda::DeviceBuffer::allocate(bytes + bytes / 4, "the linear layers' workspace"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(larger.bytes(), 0, larger.size()));
  // cudaMemset of another stream is not waited for by ours.
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize());
  workspaces_.push_back(std::move(larger));
  return ok_status();
}

Status CudaBackend::reserve_workspace(std::int64_t rows, std::int64_t logits_rows) {
  if (reserved_rows_.insert(rows).second) {
    for (LayerWeights& layer : layers_) {
      for (CudaLinear* linear : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
        LIQUIDGEMM_RETURN_IF_ERROR(reserve_workspace(*linear, rows));
      }
    }
  }
  if (logits_rows == 0 || !reserved_logits_rows_.insert(logits_rows).second) return ok_status();
  return reserve_workspace(head_, logits_rows);
}

// ---- Recorded steps
// ------------------------------------------------------------------------------

bool CudaBackend::is_decode(const StepInput& input) const {
  if (input.logits_rows.size() != input.tokens.size()) return false;
  std::int64_t units = 0;
  for (const SequenceRows& sequence : input.sequences) {
    if (sequence.rows != 1) return false;
    units += splits_of(std::int64_t{sequence.context} + 1);
  }
  return units <= step_.sizes().units;
}

std::int64_t CudaBackend::bucket(std::int64_t rows) const {
  const std::int64_t step = rows <= 4 ? 1 : rows <= 8 ? 4 : rows <= 64 ? 8 : rows <= 256 ? 16 : 64;
  return std::min({(rows + step - 1) / step * step, limits_.max_rows, limits_.max_logits_rows});
}

Status CudaBackend::run(const StepInput& input) {
  const auto rows = static_cast<std::int64_t>(input.tokens.size());
  if (!options_.graphs || !is_decode(input) || bucket(rows) < rows) return Backend::run(input);
  rows_ = bucket(rows);
  logits_rows_ = rows_;
  // What runs first loads its kernels; only then is it recorded.
  if (warm_.insert(rows_).second) return Backend::run(input);
  begin(input);
  const std::pair key(rows_, samples_.plain_greedy());
  auto found = graphs_.find(key);
  if (found == graphs_.end() && failure_.ok()) {
    recording_ = true;
    auto graph = cuda::capture(stream_.get(), [&] {
      run_transformer(*this, owned_graph_, input);
      return failure_;
    });
    recording_ = false;
    if (graph.ok()) {
      found = graphs_.emplace(key, std::move(*graph)).first;
    } else {
      launched(graph.status());
    }
  }
  if (failure_.ok()) {
    launched(cuda::cuda_status(cudaGraphLaunch(found->second.get(), stream_.get()),
                               "launch of a decode step"));
    if (!input.scores.empty()) score();
  }
  return finish();
}

namespace {

Result<CudaDevice> open_usable(int index) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(CudaDevice device, open_cuda_device(index));
  CudaGemmDesc smallest;
  smallest.n = 8;
  smallest.k = 32;
  LIQUIDGEMM_RETURN_IF_ERROR(can_implement(smallest, device));
  return device;
}

}  // namespace

Status cuda_usable(int device) { return open_usable(device).status(); }

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions& options) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(CudaDevice device, open_usable(options.device));
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(std::move(device), options));
}

}  // namespace liquidgemm
