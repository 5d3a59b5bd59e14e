// The CPU backend's KV pages and the attention over them.
//
//   page             = layer 0 | layer 1 | ...
//   layer of a page  = KV head 0 | KV head 1 | ...
//   head of a layer  = K [head_dim][64] | V [64][head_dim] | K scale [64] | V scale [64]
//
// (scales only in int8 pages; with static scales, q takes in those of the keys before attention and
// the result those of the values after it; ops.h says why keys lie dimension by dimension). A page
// therefore moves, is shared and is freed as one block.

#include <algorithm>
#include <array>
#include <atomic>

#include "gemm/numerics.h"
#include "model/cpu_backend.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kSplitPages = numerics::kAttentionSplit / kPageTokens;
// Rows that are rotated before their keys and values go to the cache.
constexpr std::int64_t kRopeRows = 16;

}  // namespace

std::int64_t CpuBackend::head_page_bytes() const {
  const std::int64_t values = 2 * kPageTokens * owned_graph_.config.head_dim;
  if (limits_.kv_format == KvFormat::kF32) return values * 4;
  if (limits_.kv_format == KvFormat::kF16 || limits_.kv_format == KvFormat::kBf16) {
    return values * 2;
  }
  if (limits_.kv_format == KvFormat::kInt8Static) return values;
  return values + 2 * kPageTokens * static_cast<std::int64_t>(sizeof(float));
}

std::int64_t CpuBackend::page_bytes() const {
  const ModelConfig& config = owned_graph_.config;
  return config.layers * config.kv_heads * head_page_bytes();
}

std::byte* CpuBackend::head_page(std::int32_t page, std::size_t layer, std::int64_t kv_head) const {
  const auto index = static_cast<std::int64_t>(layer) * owned_graph_.config.kv_heads + kv_head;
  return pages_ + page * page_bytes() + index * head_page_bytes();
}

KvPageView CpuBackend::page_view(const std::byte* head_page) const {
  const std::int64_t values = kPageTokens * owned_graph_.config.head_dim;
  KvPageView view;
  if (limits_.kv_format == KvFormat::kF32) {
    view.k_f32 = reinterpret_cast<const float*>(head_page);
    view.v_f32 = view.k_f32 + values;
  } else if (limits_.kv_format == KvFormat::kF16) {
    view.k_f16 = reinterpret_cast<const std::uint16_t*>(head_page);
    view.v_f16 = view.k_f16 + values;
  } else if (limits_.kv_format == KvFormat::kBf16) {
    view.k_bf16 = reinterpret_cast<const Bf16*>(head_page);
    view.v_bf16 = view.k_bf16 + values;
  } else {
    view.k_int8 = reinterpret_cast<const std::int8_t*>(head_page);
    view.v_int8 = view.k_int8 + values;
    if (limits_.kv_format == KvFormat::kInt8Static) return view;
    view.k_scale = reinterpret_cast<const float*>(view.v_int8 + values);
    view.v_scale = view.k_scale + kPageTokens;
  }
  return view;
}

void CpuBackend::store_kv(std::byte* head_page, std::int64_t slot, const LayerWeights& weights,
                          std::int64_t kv_head, const float* k, const float* v) {
  const std::int64_t head_dim = owned_graph_.config.head_dim;
  const std::int64_t v_at = (kPageTokens + slot) * head_dim;
  // A key's dimensions lie a page's tokens apart.
  const auto scatter = [&](const auto* from, auto* values) {
    for (std::int64_t d = 0; d < head_dim; ++d) values[d * kPageTokens + slot] = from[d];
  };
  switch (limits_.kv_format) {
    case KvFormat::kF32: {
      auto* values = reinterpret_cast<float*>(head_page);
      scatter(k, values);
      std::copy_n(v, head_dim, values + v_at);
      return;
    }
    case KvFormat::kF16: {
      auto* values = reinterpret_cast<std::uint16_t*>(head_page);
      std::array<std::uint16_t, kMaxHeadDim> key;
      ops_.to_f16(k, key.data(), head_dim);
      scatter(key.data(), values);
      ops_.to_f16(v, values + v_at, head_dim);
      return;
    }
    case KvFormat::kBf16: {
      auto* values = reinterpret_cast<Bf16*>(head_page);
      std::array<Bf16, kMaxHeadDim> key;
      ops_.to_bf16(k, key.data(), head_dim);
      scatter(key.data(), values);
      ops_.to_bf16(v, values + v_at, head_dim);
      return;
    }
    case KvFormat::kInt8: {
      auto* values = reinterpret_cast<std::int8_t*>(head_page);
      auto* scales = reinterpret_cast<float*>(values + 2 * kPageTokens * head_dim);
      std::array<std::int8_t, kMaxHeadDim> key;
      scales[slot] = ops_.to_int8(k, key.data(), head_dim);
      scatter(key.data(), values);
      scales[kPageTokens + slot] = ops_.to_int8(v, values + v_at, head_dim);
      return;
    }
    case KvFormat::kInt8Static: {
      auto* values = reinterpret_cast<std::int8_t*>(head_page);
      const std::int64_t channel = kv_head * head_dim;
      std::array<std::int8_t, kMaxHeadDim> key;
      ops_.to_int8_static(k, weights.kv_reciprocals.k.data() + channel, key.data(), head_dim);
      scatter(key.data(), values);
      ops_.to_int8_static(v, weights.kv_reciprocals.v.data() + channel, values + v_at, head_dim);
      return;
    }
    case KvFormat::kInt4: return;  // refused by plan
  }
}

void CpuBackend::qk_norm_rope_cache(std::size_t layer) {
  const ModelConfig& config = owned_graph_.config;
  const LayerWeights& weights = layers_[layer];
  const std::int64_t head_dim = config.head_dim;
  const std::int64_t group = config.heads / config.kv_heads;
  const std::int64_t q_width = owned_graph_.q_width();
  const std::int64_t kv_width = owned_graph_.kv_width();
  const auto eps = static_cast<float>(config.rms_norm_eps);
  const auto rotate = [&](float* head, const std::vector<float>& norm, std::int64_t position) {
    if (!norm.empty()) ops_.rms_norm(head, norm.data(), head, head_dim, eps);
    ops_.rope(head, rope_.cos.data() + position * rope_.half,
              rope_.sin.data() + position * rope_.half, head_dim);
  };
  pool_->parallel_for(rows_, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t first = begin; first < end; first += kRopeRows) {
      const std::int64_t last = std::min(first + kRopeRows, end);
      for (std::int64_t row = first; row < last; ++row) {
        float* head = qkv_ + row * (q_width + 2 * kv_width);
        const std::int64_t position = places_[static_cast<std::size_t>(row)].position;
        for (std::int64_t i = 0; i < config.heads; ++i, head += head_dim) {
          rotate(head, weights.q_norm, position);
          if (weights.kv_scales.k.empty()) continue;
          const float* scale = weights.kv_scales.k.data() + i / group * head_dim;
          for (std::int64_t d = 0; d < head_dim; ++d) head[d] = head[d] * scale[d];
        }
        for (std::int64_t i = 0; i < config.kv_heads; ++i, head += head_dim) {
          rotate(head, weights.k_norm, position);
        }
      }
      // Head by head: the keys of a few tokens lie side by side, in as many lines as dimensions.
      for (std::int64_t head = 0; head < config.kv_heads; ++head) {
        for (std::int64_t row = first; row < last; ++row) {
          const RowPlace place = places_[static_cast<std::size_t>(row)];
          const SequenceRows& sequence =
              input_->sequences[static_cast<std::size_t>(place.sequence)];
          const std::int32_t page =
              sequence.pages[static_cast<std::size_t>(place.position / kPageTokens)];
          const float* k = qkv_ + row * (q_width + 2 * kv_width) + q_width + head * head_dim;
          store_kv(head_page(page, layer, head), place.position % kPageTokens, weights, head, k,
                   k + kv_width);
        }
      }
    }
  });
}

// 32 to 64 queries, as a whole number of fours where the group allows it (ops.h).
std::int32_t CpuBackend::attention_rows_together() const {
  const std::int64_t group = owned_graph_.config.heads / owned_graph_.config.kv_heads;
  const std::int64_t rows = 64 / group;
  return static_cast<std::int32_t>(rows >= 4 ? rows / 4 * 4 : std::max<std::int64_t>(rows, 1));
}

void CpuBackend::cut_attention_tasks() {
  const std::size_t heads = tasks_.size();
  // cuts_ holds one for each of few tasks, and none for a single worker.
  if (heads >= cuts_.size()) return;
  const std::int64_t group = owned_graph_.config.heads / owned_graph_.config.kv_heads;
  for (std::size_t i = 0; i < heads; ++i) {
    const std::int32_t position = places_[static_cast<std::size_t>(tasks_[i].first_row)].position;
    const std::int32_t splits = position / numerics::kAttentionSplit + 1;
    if (tasks_[i].rows > 1 || splits == 1) continue;
    CutAttention& cut = cuts_[i];
    cut.splits = splits;
    cut.left.store(splits, std::memory_order_relaxed);
    for (std::int64_t part = 0; part < splits * group; ++part) {
      cut.parts[part].out = cut.outputs + part * owned_graph_.config.head_dim;
    }
    tasks_[i].cut = static_cast<std::int32_t>(i);
    for (std::int32_t split = 1; split < splits; ++split) {
      tasks_.push_back(tasks_[i]);
      tasks_.back().split = split;
    }
  }
}

void CpuBackend::attention(std::size_t layer, RowBuffer out) {
  float* to = buffer(out);
  std::atomic<std::int64_t> left = static_cast<std::int64_t>(tasks_.size());
  // Each worker takes the next task when it is free, from the last on: later rows of a prompt see
  // more context, so the long tasks come first.
  const auto work = [&](int worker) {
    const AttentionScratch& scratch = scratch_[static_cast<std::size_t>(worker)];
    for (std::int64_t i = --left; i >= 0; i = --left) {
      const AttentionTask& task = tasks_[static_cast<std::size_t>(i)];
      // What this worker takes next if all are equally fast.
      const std::int64_t next = i - pool_->threads();
      KvPageView then;
      if (next >= 0) {
        const AttentionTask& next_task = tasks_[static_cast<std::size_t>(next)];
        then = page_of(next_task, next_task.split * kSplitPages, layer);
      }
      if (task.cut < 0) {
        run_attention_task(task, layer, then, to, scratch);
      } else {
        run_cut_task(task, layer, then, to, scratch);
      }
    }
  };
  if (tasks_.size() == 1) {
    work(0);
  } else {
    pool_->run(work);
  }
}

KvPageView CpuBackend::page_of(const AttentionTask& task, std::int64_t index,
                               std::size_t layer) const {
  const SequenceRows& sequence = input_->sequences[static_cast<std::size_t>(task.sequence)];
  const std::int32_t page = sequence.pages[static_cast<std::size_t>(index)];
  return page_view(head_page(page, layer, task.kv_head));
}

std::int64_t CpuBackend::run_split(const AttentionTask& task, std::int64_t split, std::size_t layer,
                                   const KvPageView& then, AttentionPart* parts,
                                   float* scores) const {
  const ModelConfig& config = owned_graph_.config;
  const std::int64_t group = config.heads / config.kv_heads;
  const std::int64_t row_stride = owned_graph_.q_width() + 2 * owned_graph_.kv_width();
  const std::int64_t first_position = places_[static_cast<std::size_t>(task.first_row)].position;
  const std::int64_t start = split * numerics::kAttentionSplit;
  const std::int64_t visible =
      std::min<std::int64_t>(first_position + task.rows - start, numerics::kAttentionSplit);
  std::array<KvPageView, kSplitPages> pages;
  for (std::int64_t i = 0; i * kPageTokens < visible; ++i) {
    pages[static_cast<std::size_t>(i)] = page_of(task, split * kSplitPages + i, layer);
  }
  // Rows before the split see none of it, the others up to their own position.
  const std::int64_t skipped = std::max<std::int64_t>(start - first_position, 0);
  // Query (row, head in group) lies at q + row * row_stride + head * head_dim.
  const float* q =
      qkv_ + (task.first_row + skipped) * row_stride + task.kv_head * group * config.head_dim;
  ops_.attention_rows(q, task.rows - skipped, row_stride, group,
                      first_position + skipped + 1 - start, pages.data(), visible, config.head_dim,
                      softmax_scale_, then, parts + skipped * group, scores);
  return skipped;
}

void CpuBackend::finish_row(std::int64_t row, std::int64_t kv_head, std::size_t layer,
                            const AttentionPart* totals, float* out) const {
  const ModelConfig& config = owned_graph_.config;
  const std::int64_t group = config.heads / config.kv_heads;
  float* to = out + row * owned_graph_.q_width() + kv_head * group * config.head_dim;
  const std::vector<float>& v_scales = layers_[layer].kv_scales.v;
  for (std::int64_t head = 0; head < group; ++head, to += config.head_dim) {
    ops_.attention_finish(&totals[head], to, config.head_dim);
    if (v_scales.empty()) continue;
    const float* scale = v_scales.data() + kv_head * config.head_dim;
    for (std::int64_t d = 0; d < config.head_dim; ++d) to[d] = to[d] * scale[d];
  }
}

void CpuBackend::run_attention_task(const AttentionTask& task, std::size_t layer,
                                    const KvPageView& then, float* out,
                                    const AttentionScratch& scratch) const {
  const ModelConfig& config = owned_graph_.config;
  const std::int64_t head_dim = config.head_dim;
  const std::int64_t group = config.heads / config.kv_heads;
  const std::int64_t last_position =
      places_[static_cast<std::size_t>(task.first_row)].position + task.rows - 1;
  for (std::int64_t query = 0; query < task.rows * group; ++query) {
    scratch.total[query].out = scratch.totals + query * head_dim;
    scratch.part[query].out = scratch.parts + query * head_dim;
  }
  const std::int64_t splits = last_position / numerics::kAttentionSplit + 1;
  const auto after = [&](std::int64_t split) {
    return split + 1 < splits ? page_of(task, (split + 1) * kSplitPages, layer) : then;
  };
  run_split(task, 0, layer, after(0), scratch.total, scratch.scores);
  for (std::int64_t split = 1; split < splits; ++split) {
    const std::int64_t skipped =
        run_split(task, split, layer, after(split), scratch.part, scratch.scores);
    for (std::int64_t query = skipped * group; query < task.rows * group; ++query) {
      ops_.attention_combine(&scratch.total[query], &scratch.part[query], head_dim);
    }
  }
  for (std::int64_t row = 0; row < task.rows; ++row) {
    finish_row(task.first_row + row, task.kv_head, layer, scratch.total + row * group, out);
  }
}

void CpuBackend::run_cut_task(const AttentionTask& task, std::size_t layer, const KvPageView& then,
                              float* out, const AttentionScratch& scratch) {
  CutAttention& cut = cuts_[static_cast<std::size_t>(task.cut)];
  const std::int64_t group = owned_graph_.config.heads / owned_graph_.config.kv_heads;
  run_split(task, task.split, layer, then, cut.parts + task.split * group, scratch.scores);
  if (cut.left.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  for (std::int64_t part = group; part < cut.splits * group; ++part) {
    ops_.attention_combine(&cut.parts[part % group], &cut.parts[part],
                           owned_graph_.config.head_dim);
  }
  finish_row(task.first_row, task.kv_head, layer, cut.parts, out);
  cut.left.store(cut.splits, std::memory_order_relaxed);  // for the next layer
}

}  // namespace liquidgemm
