#include "model/cpu_backend.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"
#include "gemm/numerics.h"
#include "gemm/quantize_rows.h"

namespace liquidgemm {

CpuBackend::CpuBackend(Isa isa, ThreadPool& pool, PackedWeightsCache* cache)
    : isa_(isa), pool_(&pool), cache_(cache), ops_(cpu_ops(isa)) {}

CpuBackend::~CpuBackend() = default;

std::unique_ptr<CpuLinear> CpuBackend::cached(std::span<const WeightView> forms) {
  return cache_ != nullptr ? cache_->next(forms, *pool_, &weight_memory_) : nullptr;
}

Result<CpuBackend::PackedGroup> CpuBackend::pack_group(const LinearGroup& group,
                                                       WeightLoader& weights) {
  PackedGroup packed;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<WeightView> forms, weights.forms_of_group(group));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto biases, weights.biases(group));
  // Read when the first of them is to be packed.
  std::vector<LoadedMatrix> matrices;
  // As one product where all parts are alike, else one a part.
  const std::size_t together = can_stack(forms) ? forms.size() : 1;
  for (std::size_t first = 0; first < forms.size(); first += together) {
    std::unique_ptr<CpuLinear> linear = cached(std::span(forms).subspan(first, together));
    if (linear == nullptr) {
      if (matrices.empty()) {
        LIQUIDGEMM_ASSIGN_OR_RETURN(matrices, weights.linear_group(group));
      }
      std::vector<WeightView> views;
      for (std::size_t i = first; i < first + together; ++i) views.push_back(matrices[i].view());
      auto made = make_linear(views, isa_, *pool_, &weight_memory_);
      if (!made.ok()) return made.status().with_context(weights.where());
      linear = std::move(*made);
    }
    packed.parts.push_back(std::move(linear));
    std::vector<float>& bias = packed.bias.emplace_back();
    for (std::size_t i = first; i < first + together; ++i) {
      bias.insert(bias.end(), biases[i].begin(), biases[i].end());
    }
  }
  return packed;
}

void CpuBackend::link_products() {
  std::vector<CpuLinear*> in_order;
  for (const LayerWeights& layer : layers_) {
    for (const PackedGroup* group : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
      for (const auto& part : group->parts) in_order.push_back(part.get());
    }
  }
  in_order.push_back(head_.get());
  for (std::size_t i = 0; i < in_order.size(); ++i) {
    in_order[i]->followed_by(*in_order[(i + 1) % in_order.size()]);
  }
}

Result<std::unique_ptr<CpuLinear>> CpuBackend::pack_table(const std::string& module,
                                                          WeightLoader& weights) {
  const std::int64_t n = owned_graph_.config.vocab_size;
  const std::int64_t k = owned_graph_.config.hidden_size;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const WeightView form, weights.form_of_table(module, n, k));
  if (auto linear = cached(std::span(&form, 1))) return linear;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedMatrix table, weights.table(module, n, k));
  const WeightView view = table.view();
  auto linear = make_linear(std::span(&view, 1), isa_, *pool_, &weight_memory_);
  if (!linear.ok()) return linear.status().with_context(weights.where());
  return linear;
}

Status CpuBackend::plan(const ModelGraph& graph, WeightLoader& weights,
                        const BackendLimits& limits) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_isa(isa_));
  owned_graph_ = graph;
  limits_ = limits;
  // The last norm writes its rows where the others do.
  limits_.max_logits_rows = std::min(limits_.max_logits_rows, limits_.max_rows);
  float_activations_ = weights.float_activations();
  if (weights.precision() == Precision::kFp16) {
    return unsupported("precision fp16 is for a GPU: use --device cuda, or fp32");
  }
  const ModelConfig& config = owned_graph_.config;
  if (limits_.kv_format == KvFormat::kInt4) {
    return unsupported("--kv-cache-dtype int4 is for a GPU: use f16, bf16, int8 or int8-static");
  }
  if (config.head_dim > kMaxHeadDim) {
    return unsupported("config.json: field \"head_dim\": " + std::to_string(config.head_dim) +
                       ", the CPU's attention takes at most " + std::to_string(kMaxHeadDim));
  }
  softmax_scale_ = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));

  std::vector<KvScales> kv_scales;
  if (limits_.kv_format == KvFormat::kInt8Static) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(kv_scales, weights.kv_scales());
  }

  layers_.clear();
  for (const DecoderLayer& layer : owned_graph_.layers) {
    LayerWeights made;
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.qkv, pack_group(layer.qkv, weights));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.output, pack_group(layer.output, weights));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.gate_up, pack_group(layer.gate_up, weights));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.down, pack_group(layer.down, weights));
    const std::int64_t hidden = config.hidden_size;
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.input_norm, weights.vector(layer.input_norm, hidden));
    LIQUIDGEMM_ASSIGN_OR_RETURN(made.post_attention_norm,
                                weights.vector(layer.post_attention_norm, hidden));
    if (!layer.q_norm.empty()) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(made.q_norm, weights.vector(layer.q_norm, config.head_dim));
      LIQUIDGEMM_ASSIGN_OR_RETURN(made.k_norm, weights.vector(layer.k_norm, config.head_dim));
    }
    if (!kv_scales.empty()) {
      made.kv_scales = std::move(kv_scales[layers_.size()]);
      made.kv_reciprocals = {reciprocals(made.kv_scales.k), reciprocals(made.kv_scales.v)};
    }
    layers_.push_back(std::move(made));
    LIQUIDGEMM_RETURN_IF_ERROR(
        weights.report(static_cast<std::int64_t>(layers_.size()), config.layers));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(final_norm_,
                              weights.vector(owned_graph_.final_norm, config.hidden_size));
  LIQUIDGEMM_ASSIGN_OR_RETURN(head_, pack_table(owned_graph_.lm_head, weights));
  if (owned_graph_.lm_head != owned_graph_.embedding) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(embedding_, pack_table(owned_graph_.embedding, weights));
  }
  link_products();
  rope_ = make_rope_table(config, limits_.max_position);

  lay_out();
  LIQUIDGEMM_RETURN_IF_ERROR(arena_.commit("the KV cache and the work buffers"));
  lay_out();
  places_.resize(static_cast<std::size_t>(limits_.max_rows));
  // Either as many as rows and heads, or few of them cut at each split.
  const auto splits =
      static_cast<std::size_t>(limits_.max_position / numerics::kAttentionSplit + 1);
  tasks_.reserve(std::max(static_cast<std::size_t>(limits_.max_rows * config.kv_heads),
                          cuts_.size() * splits));
  sampled_.reserve(static_cast<std::size_t>(limits_.max_logits_rows));
  scores_.reserve(static_cast<std::size_t>(limits_.max_logits_rows));
  sample_scratch_.resize(static_cast<std::size_t>(pool_->threads()));
  graph_ = &owned_graph_;
  return ok_status();
}

// Called twice: the first pass only counts (base/arena.h).
void CpuBackend::lay_out() {
  const ModelConfig& config = owned_graph_.config;
  const std::int64_t rows = limits_.max_rows;
  const std::int64_t q_width = owned_graph_.q_width();
  const std::int64_t widest = std::max({config.hidden_size, q_width, config.intermediate_size});
  residual_ = arena_.take<float>(rows * config.hidden_size);
  delta_ = arena_.take<float>(rows * config.hidden_size);
  qkv_ = arena_.take<float>(rows * (q_width + 2 * owned_graph_.kv_width()));
  attention_ = arena_.take<float>(rows * q_width);
  gate_up_ = arena_.take<float>(rows * 2 * config.intermediate_size);
  gated_ = arena_.take<float>(rows * config.intermediate_size);
  normed_ = arena_.take<float>(rows * config.hidden_size);
  logits_ = arena_.take<float>(limits_.max_logits_rows * config.vocab_size);
  x8_ = arena_.take<std::int8_t>(rows * widest);
  scale_ = arena_.take<float>(rows);
  sum_ = arena_.take<std::int32_t>(rows);

  const std::int64_t group = config.heads / config.kv_heads;
  const std::int64_t queries = attention_rows_together() * group;
  scratch_.resize(static_cast<std::size_t>(pool_->threads()));
  for (AttentionScratch& scratch : scratch_) {
    scratch.totals = arena_.take<float>(queries * config.head_dim);
    scratch.parts = arena_.take<float>(queries * config.head_dim);
    scratch.scores = arena_.take<float>(attention_scratch_floats(queries));
    scratch.total = arena_.take<AttentionPart>(queries);
    scratch.part = arena_.take<AttentionPart>(queries);
  }
  const std::int64_t splits =
      (limits_.max_position + numerics::kAttentionSplit - 1) / numerics::kAttentionSplit;
  // A worker that is done early takes what others have not begun, so four tasks each are enough.
  const std::size_t cuts =
      pool_->threads() > 1 ? static_cast<std::size_t>(4 * pool_->threads()) : 0;
  if (cuts_.size() != cuts) cuts_ = std::vector<CutAttention>(cuts);
  for (CutAttention& cut : cuts_) {
    cut.parts = arena_.take<AttentionPart>(splits * group);
    cut.outputs = arena_.take<float>(splits * group * config.head_dim);
  }
  pages_ = arena_.take<std::byte>(limits_.pages * page_bytes());
}

std::span<const float> CpuBackend::logits(std::int64_t row) const {
  const std::int64_t vocab = owned_graph_.config.vocab_size;
  return {logits_ + row * vocab, static_cast<std::size_t>(vocab)};
}

std::span<const SampledToken> CpuBackend::sampled() const { return sampled_; }

std::vector<const CpuLinear*> CpuBackend::packed_matrices() const {
  std::vector<const CpuLinear*> matrices;
  for (const LayerWeights& layer : layers_) {
    for (const PackedGroup* group : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
      for (const auto& part : group->parts) matrices.push_back(part.get());
    }
  }
  for (const auto* table : {&head_, &embedding_}) {
    if (*table) matrices.push_back(table->get());
  }
  return matrices;
}

std::size_t CpuBackend::weight_bytes() const {
  std::size_t bytes = 0;
  for (const CpuLinear* matrix : packed_matrices()) bytes += matrix->packed_bytes();
  return bytes;
}

std::vector<std::string> CpuBackend::describe() const {
  // Kind of layer and kernel -> number of layers, in the graph's order.
  std::vector<std::pair<std::string, int>> counts;
  const auto count = [&](const std::string& kind, const PackedGroup& group) {
    std::string line = kind + ": ";
    for (std::size_t i = 0; i < group.parts.size(); ++i) {
      line += (i > 0 ? " + " : "") + group.parts[i]->describe();
    }
    for (auto& [text, number] : counts) {
      if (text == line) {
        ++number;
        return;
      }
    }
    counts.emplace_back(line, 1);
  };
  for (const LayerWeights& layer : layers_) {
    count("qkv", layer.qkv);
    count("o", layer.output);
    count("gate_up", layer.gate_up);
    count("down", layer.down);
  }
  std::vector<std::string> lines;
  for (const auto& [text, number] : counts) {
    lines.push_back(text + " (" + std::to_string(number) + (number == 1 ? " layer)" : " layers)"));
  }
  if (head_) lines.push_back("lm_head: " + head_->describe());
  lines.push_back("attention: " + std::string(kv_format_name(limits_.kv_format)) + " KV, " +
                  std::string(isa_name(isa_)));
  return lines;
}

void CpuBackend::begin(const StepInput& input) {
  input_ = &input;
  rows_ = static_cast<std::int64_t>(input.tokens.size());
  tasks_.clear();
  sampled_.clear();
  scores_.clear();
  const std::int32_t together = attention_rows_together();
  for (std::size_t s = 0; s < input.sequences.size(); ++s) {
    const SequenceRows& sequence = input.sequences[s];
    const auto index = static_cast<std::int32_t>(s);
    for (std::int32_t i = 0; i < sequence.rows; ++i) {
      places_[static_cast<std::size_t>(sequence.first_row + i)] = {index, sequence.context + i};
    }
    for (std::int32_t first = 0; first < sequence.rows; first += together) {
      const std::int32_t rows = std::min(together, sequence.rows - first);
      for (std::int32_t head = 0; head < owned_graph_.config.kv_heads; ++head) {
        tasks_.push_back({index, sequence.first_row + first, rows, head});
      }
    }
  }
  cut_attention_tasks();
}

float* CpuBackend::buffer(RowBuffer name) const {
  switch (name) {
    case RowBuffer::kResidual: return residual_;
    case RowBuffer::kDelta: return delta_;
    case RowBuffer::kQkv: return qkv_;
    case RowBuffer::kAttention: return attention_;
  }
  return nullptr;
}

std::int64_t CpuBackend::width(RowBuffer name) const {
  switch (name) {
    case RowBuffer::kResidual:
    case RowBuffer::kDelta: return owned_graph_.config.hidden_size;
    case RowBuffer::kQkv: return owned_graph_.q_width() + 2 * owned_graph_.kv_width();
    case RowBuffer::kAttention: return owned_graph_.q_width();
  }
  return 0;
}

void CpuBackend::embed(RowBuffer out) {
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  const CpuLinear& table = embedding_ ? *embedding_ : *head_;
  float* to = buffer(out);
  pool_->parallel_for(rows_, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      table.weight_row(input_->tokens[static_cast<std::size_t>(row)], to + row * hidden);
    }
  });
}

template <typename Make>
LinearInput CpuBackend::make_input(float* rows, std::int64_t count, std::int64_t k, bool as_float,
                                   const Make& make) {
  LinearInput input;
  input.rows = count;
  pool_->parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      if (as_float) {
        make(row, rows + row * k);
        continue;
      }
      // One row of memory a worker: what was quantised is not needed again.
      float* to = rows + begin * k;
      make(row, to);
      quantize_activations(isa_, to, 1, k, k, x8_ + row * k, k, scale_ + row, sum_ + row);
    }
  });
  if (as_float) {
    input.f32 = rows;
  } else {
    input.quantized = {.m = count, .k = k, .x8 = x8_, .ld = k, .scale = scale_, .sum = sum_};
  }
  return input;
}

LinearInput CpuBackend::add_norm_quantize(std::size_t layer, bool post_attention, bool first) {
  const LayerWeights& weights = layers_[layer];
  const std::vector<float>& norm =
      post_attention ? weights.post_attention_norm : weights.input_norm;
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  const auto eps = static_cast<float>(owned_graph_.config.rms_norm_eps);
  const auto norm_row = [&](std::int64_t row, float* to) {
    float* residual = residual_ + row * hidden;
    if (!first) ops_.add(residual, delta_ + row * hidden, hidden);
    ops_.rms_norm(residual, norm.data(), to, hidden, eps);
  };
  return make_input(normed_, rows_, hidden, float_activations_, norm_row);
}

LinearInput CpuBackend::final_norm_quantize() {
  const std::int64_t hidden = owned_graph_.config.hidden_size;
  const auto eps = static_cast<float>(owned_graph_.config.rms_norm_eps);
  const auto count = static_cast<std::int64_t>(input_->logits_rows.size());
  const auto norm_row = [&](std::int64_t i, float* to) {
    const std::int64_t row = input_->logits_rows[static_cast<std::size_t>(i)];
    float* residual = residual_ + row * hidden;
    ops_.add(residual, delta_ + row * hidden, hidden);
    ops_.rms_norm(residual, final_norm_.data(), to, hidden, eps);
  };
  return make_input(normed_, count, hidden, head_->takes_float(), norm_row);
}

LinearInput CpuBackend::quantize(RowBuffer in) {
  const float* rows = buffer(in);
  const std::int64_t k = width(in);
  LinearInput input;
  input.rows = rows_;
  if (float_activations_) {
    input.f32 = rows;
    return input;
  }
  pool_->parallel_for(rows_, quantize_grain(k), [&](std::int64_t begin, std::int64_t end, int) {
    quantize_activations(isa_, rows + begin * k, end - begin, k, k, x8_ + begin * k, k,
                         scale_ + begin, sum_ + begin);
  });
  input.quantized = {.m = rows_, .k = k, .x8 = x8_, .ld = k, .scale = scale_, .sum = sum_};
  return input;
}

void CpuBackend::run_group(const PackedGroup& group, const LinearInput& input, float* out,
                           std::int64_t ld_out) {
  std::int64_t column = 0;
  for (std::size_t i = 0; i < group.parts.size(); ++i) {
    const CpuLinear& part = *group.parts[i];
    const float* bias = group.bias[i].empty() ? nullptr : group.bias[i].data();
    if (input.f32 != nullptr) {
      part.run_float(input.f32, input.rows, part.k(), bias, out + column, ld_out, *pool_);
    } else {
      part.run(input.quantized, bias, out + column, ld_out, *pool_);
    }
    column += part.n();
  }
}

void CpuBackend::linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
                        RowBuffer out) {
  const LayerWeights& weights = layers_[layer];
  const DecoderLayer& names = owned_graph_.layers[layer];
  const PackedGroup& packed = &group == &names.qkv      ? weights.qkv
                              : &group == &names.output ? weights.output
                                                        : weights.down;
  run_group(packed, input, buffer(out), width(out));
}

LinearInput CpuBackend::linear_gated_quantize(std::size_t layer, const LinearInput& input) {
  const std::int64_t inner = owned_graph_.config.intermediate_size;
  run_group(layers_[layer].gate_up, input, gate_up_, 2 * inner);
  const auto gate_row = [&](std::int64_t row, float* to) {
    const float* gate = gate_up_ + row * 2 * inner;
    ops_.silu_multiply(gate, gate + inner, to, inner);
  };
  return make_input(gated_, rows_, inner, float_activations_, gate_row);
}

void CpuBackend::lm_head(const LinearInput& input) {
  const std::int64_t vocab = owned_graph_.config.vocab_size;
  if (input.f32 != nullptr) {
    head_->run_float(input.f32, input.rows, head_->k(), nullptr, logits_, vocab, *pool_);
  } else {
    head_->run(input.quantized, nullptr, logits_, vocab, *pool_);
  }
}

void CpuBackend::sample() {
  sampled_.resize(input_->samples.size());
  pool_->parallel_for(static_cast<std::int64_t>(input_->samples.size()), 1,
                      [&](std::int64_t begin, std::int64_t end, int worker) {
                        for (std::int64_t i = begin; i < end; ++i) {
                          const SampleRow& row = input_->samples[static_cast<std::size_t>(i)];
                          sampled_[static_cast<std::size_t>(i)] = liquidgemm::sample(
                              logits(row.logits_row), row.params,
                              {.bias = row.bias, .mask = row.mask, .counts = row.counts},
                              row.position, sample_scratch_[static_cast<std::size_t>(worker)]);
                        }
                      });
}

void CpuBackend::score() {
  scores_.resize(input_->scores.size());
  pool_->parallel_for(
      static_cast<std::int64_t>(input_->scores.size()), 1,
      [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
          const ScoreRow& row = input_->scores[static_cast<std::size_t>(i)];
          const TokenId token =
              row.token >= 0 ? row.token : sampled_[static_cast<std::size_t>(row.sample)].token;
          if (token < 0) continue;
          score_token(logits(row.logits_row), token, row.top, scores_[static_cast<std::size_t>(i)]);
        }
      });
}

}  // namespace liquidgemm
