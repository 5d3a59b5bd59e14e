// The transformer's operations on the GPU, as launches on one stream.

#include "gemm/numerics.h"
#include "model/cuda/cuda_backend_impl.h"
#include "ops/cuda/attention_rows.h"
#include "ops/cuda/half_rows.h"
#include "ops/cuda/rows.h"

namespace liquidgemm {

void* CudaBackend::buffer(RowBuffer name) const {
  switch (name) {
    case RowBuffer::kResidual: return buffers_.residual;
    case RowBuffer::kDelta: return buffers_.delta;
    case RowBuffer::kQkv: return buffers_.qkv;
    case RowBuffer::kAttention: return buffers_.attention;
  }
  return nullptr;
}

void CudaBackend::embed(RowBuffer) {
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  const std::int64_t vocab = owned_graph_.config.vocab_size;
  if (half()) {
    launched(cuda::embed_half_rows({.table = half_embedding_,
                                    .vocab = vocab,
                                    .tokens = device_fields().tokens,
                                    .m = rows_,
                                    .hidden = hidden,
                                    .out = buffers_.residual},
                                   stream_.get()));
    return;
  }
  launched(cuda::embed_rows({.table = embedding_.as<std::int8_t>(),
                             .ld_table = hidden,
                             .scale = embedding_scale_.as<float>(),
                             .vocab = vocab,
                             .tokens = device_fields().tokens,
                             .rows = rows_,
                             .hidden = hidden,
                             .out = buffers_.residual,
                             .ld_out = hidden},
                            stream_.get()));
}

// ---- The rows that linear layers read ---------------------------------------------------------

// All rows lie in one place, where the next linear layers look for them: f16 ones in buffers_.half,
// which needs no more words.
CudaRows CudaBackend::device_rows(const LinearInput& input) const {
  const QuantizedRows& rows = input.quantized;
  return {.m = input.rows,
          .x8 = const_cast<std::int8_t*>(rows.x8),
          .ld = rows.ld,
          .scale = const_cast<float*>(rows.scale),
          .sum = const_cast<std::int32_t*>(rows.sum),
          .f16 = buffers_.half};
}

LinearInput CudaBackend::quantized_input(std::int64_t rows, std::int64_t k) const {
  return {.rows = rows,
          .quantized = {.m = rows,
                        .k = k,
                        .x8 = buffers_.x8,
                        .ld = (k + 15) / 16 * 16,
                        .scale = buffers_.scale,
                        .sum = buffers_.sum}};
}

CudaBackend::Gathered CudaBackend::gathered_rows() const {
  if (rows_ > kMostGathered) return {.amax = {}, .sum = buffers_.sum};
  const std::int64_t stride = gathered_stride(rows_);
  const std::int64_t parts = kCudaAmaxParts * stride;
  return {.amax = {.parts = buffers_.gathered, .stride = stride},
          .sum = reinterpret_cast<std::int32_t*>(buffers_.gathered + parts),
          .words = parts + stride};
}

LinearInput CudaBackend::add_norm(const void* delta, float* residual, const float* norm,
                                  std::int64_t rows, bool clears) {
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  const auto epsilon = static_cast<float>(owned_graph_.config.rms_norm_eps);
  if (half()) {
    launched(cuda::add_norm_half_rows({.x = delta,
                                       .residual = residual,
                                       .m = rows,
                                       .k = hidden,
                                       .norm_weight = norm,
                                       .epsilon = epsilon,
                                       .out = buffers_.half},
                                      stream_.get()));
    return {.rows = rows, .quantized = {}};
  }
  const LinearInput input = quantized_input(rows, hidden);
  CudaAddNormQuantizeArguments arguments;
  arguments.rows = {.x = delta,
                    .ld_x = hidden,
                    .type = CudaFloat::kFloat32,
                    .m = rows,
                    .k = hidden,
                    .x8 = buffers_.x8,
                    .ld_x8 = input.quantized.ld,
                    .scale = buffers_.scale,
                    .sum = buffers_.sum};
  arguments.residual = residual;
  arguments.ld_residual = hidden;
  arguments.residual_type = CudaFloat::kFloat32;
  arguments.norm_weight = norm;
  arguments.epsilon = epsilon;
  if (clears) {
    const Gathered gathered = gathered_rows();
    arguments.cleared = gathered.amax.parts;
    arguments.cleared_words = gathered.words;
  }
  launched(add_norm_quantize_rows(arguments, stream_.get()));
  return input;
}

LinearInput CudaBackend::add_norm_quantize(std::size_t layer, bool post_attention, bool first) {
  const LayerWeights& weights = layers_[layer];
  return add_norm(first ? nullptr : buffers_.delta, buffers_.residual,
                  post_attention ? weights.post_attention_norm : weights.input_norm, rows_,
                  /*clears=*/post_attention);
}

LinearInput CudaBackend::quantize(RowBuffer) {
  const cuda::AttentionRows rows{.tensors = tensors(attended_layer_),
                                 .rows = rows_,
                                 .splits = device_fields().row_splits,
                                 .workspace = attention_workspace_.bytes()};
  if (half()) {
    launched(cuda::halve_attention(rows, buffers_.half, stream_.get()));
    return {.rows = rows_, .quantized = {}};
  }
  const LinearInput input = quantized_input(rows_, owned_graph_.q_width());
  launched(cuda::quantize_attention(rows,
                                    {.x8 = buffers_.x8,
                                     .ld_x8 = input.quantized.ld,
                                     .scale = buffers_.scale,
                                     .sum = buffers_.sum},
                                    stream_.get()));
  return input;
}

// ---- Linear layers ----------------------------------------------------------------------------

void CudaBackend::run_linear(CudaLinear& linear, const LinearInput& input,
                             const CudaOutputRows& out) {
  void* workspace = workspaces_.empty() ? nullptr : workspaces_.back().bytes();
  launched(linear.run(device_rows(input), out, workspace, stream_.get()));
}

void CudaBackend::linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
                         RowBuffer out) {
  LayerWeights& weights = layers_[layer];
  const DecoderLayer& names = owned_graph_.layers[layer];
  CudaLinear& linear = &group == &names.qkv      ? *weights.qkv
                       : &group == &names.output ? *weights.output
                                                 : *weights.down;
  run_linear(linear, input, {buffer(out)});
}

LinearInput CudaBackend::linear_gated_quantize(std::size_t layer, const LinearInput& input) {
  CudaLinear& gate_up = *layers_[layer].gate_up;
  if (half()) {
    run_linear(gate_up, input, {buffers_.gate_up});
    const std::int64_t inner = gate_up.width() / 2;
    launched(cuda::silu_multiply_half_rows(
        {.gate_up = buffers_.gate_up, .m = rows_, .k = inner, .out = buffers_.half},
        stream_.get()));
    return {.rows = rows_, .quantized = {}};
  }
  const Gathered gathered = gathered_rows();
  run_linear(gate_up, input, {buffers_.gate_up, gathered.amax});
  const std::int64_t inner = gate_up.width();
  LinearInput quantized = quantized_input(rows_, inner);
  quantized.quantized.sum = gathered.sum;
  launched(quantize_rows({.x = buffers_.gate_up,
                          .ld_x = inner,
                          .type = CudaFloat::kFloat32,
                          .m = rows_,
                          .k = inner,
                          .x8 = buffers_.x8,
                          .ld_x8 = quantized.quantized.ld,
                          .scale = buffers_.scale,
                          .sum = gathered.sum,
                          .amax = gathered.amax},
                         stream_.get()));
  return quantized;
}

// ---- Attention and the head -------------------------------------------------------------------

void CudaBackend::qk_norm_rope_cache(std::size_t layer) {
  const ModelConfig& config = owned_graph_.config;
  const LayerWeights& weights = layers_[layer];
  launched(cuda::norm_rope_cache({.qkv = buffers_.qkv,
                                  .ld_qkv = layers_[layer].qkv->width(),
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
                                  .k_scale = weights.k_scale,
                                  .k_reciprocal = weights.k_reciprocal,
                                  .v_reciprocal = weights.v_reciprocal,
                                  .q = buffers_.q},
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
          .v_scale = layers_[layer].v_scale,
          .block_tables = device_fields().block_tables,
          .ld_block_table = step_.sizes().table_pages,
          .out = buffers_.attention,
          .ld_out = owned_graph_.q_width()};
}

void CudaBackend::attention(std::size_t layer, RowBuffer) {
  attended_layer_ = layer;
  if (units_ > 0) {
    launched(cuda::decode_attention({.tensors = tensors(layer),
                                     .lengths = device_fields().lengths,
                                     .rows = device_fields().slot_rows,
                                     .units = device_fields().units,
                                     .unit_count = device_fields().unit_count,
                                     .units_taken = device_fields().units_taken,
                                     .max_units = static_cast<int>(step_.sizes().units),
                                     .workspace = attention_workspace_.bytes(),
                                     .multiprocessors = device_.multiprocessors,
                                     .sequences = step_sequences()},
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
  const auto gather = [&](std::int64_t width, const cuda::GatherMatrix& first,
                          const cuda::GatherMatrix& second) {
    launched(cuda::gather_rows({.index = device_fields().logits_rows,
                                .rows = logits_rows_,
                                .width = width,
                                .first = first,
                                .second = second},
                               stream_.get()));
  };
  const auto matrix = [](const void* from, void* to, std::int64_t width) {
    return cuda::GatherMatrix{static_cast<const float*>(from), width, static_cast<float*>(to),
                              width};
  };
  const cuda::GatherMatrix residual = matrix(buffers_.residual, buffers_.last_residual, hidden);
  if (half()) {
    // Two f16 of delta are moved as one float.
    gather(hidden, residual, {});
    gather(hidden / 2, matrix(buffers_.delta, buffers_.last_delta, hidden / 2), {});
  } else {
    gather(hidden, residual, matrix(buffers_.delta, buffers_.last_delta, hidden));
  }
  if (fp16_head_) {
    launched(
        cuda::add_norm_half_tiles({.x = static_cast<const float*>(buffers_.last_delta),
                                   .residual = buffers_.last_residual,
                                   .m = logits_rows_,
                                   .k = hidden,
                                   .norm_weight = final_norm_,
                                   .epsilon = static_cast<float>(owned_graph_.config.rms_norm_eps),
                                   .out = buffers_.half},
                                  stream_.get()));
    return {.rows = logits_rows_, .quantized = {}};
  }
  return add_norm(buffers_.last_delta, buffers_.last_residual, final_norm_, logits_rows_,
                  /*clears=*/false);
}

void CudaBackend::lm_head(const LinearInput& input) {
  run_linear(*head_, input, {buffers_.logits});
}

void CudaBackend::sample() {
  launched(samples_.sample(buffers_.logits, head_->width(), logits_rows_, stream_.get()));
}

void CudaBackend::score() {
  // Not recorded: few steps ask for it, and each for something else.
  if (recording_) return;
  launched(samples_.score(buffers_.logits, head_->width(), logits_rows_, stream_.get()));
}

}  // namespace liquidgemm
