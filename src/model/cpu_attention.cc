// The CPU backend's KV pages and the attention over them.
//
//   page             = layer 0 | layer 1 | ...
//   layer of a page  = KV head 0 | KV head 1 | ...
//   head of a layer  = K [64][head_dim] | V [64][head_dim] | K scale [64] | V scale [64]
//
// (scales only in int8 pages). A page therefore moves, is shared and is freed as one block.

#include <algorithm>
#include <array>

#include "gemm/numerics.h"
#include "model/cpu_backend.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kSplitPages = numerics::kAttentionSplit / kPageTokens;

}  // namespace

std::int64_t CpuBackend::head_page_bytes() const {
  const std::int64_t values = 2 * kPageTokens * owned_graph_.config.head_dim;
  if (limits_.kv_format == KvFormat::kF32) return values * 4;
  if (limits_.kv_format == KvFormat::kF16) return values * 2;
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
  } else {
    view.k_int8 = reinterpret_cast<const std::int8_t*>(head_page);
    view.v_int8 = view.k_int8 + values;
    view.k_scale = reinterpret_cast<const float*>(view.v_int8 + values);
    view.v_scale = view.k_scale + kPageTokens;
  }
  return view;
}

void CpuBackend::store_kv(std::byte* head_page, std::int64_t slot, const float* k, const float* v) {
  const std::int64_t head_dim = owned_graph_.config.head_dim;
  const std::int64_t k_at = slot * head_dim;
  const std::int64_t v_at = k_at + kPageTokens * head_dim;
  switch (limits_.kv_format) {
    case KvFormat::kF32: {
      auto* values = reinterpret_cast<float*>(head_page);
      std::copy_n(k, head_dim, values + k_at);
      std::copy_n(v, head_dim, values + v_at);
      return;
    }
    case KvFormat::kF16: {
      auto* values = reinterpret_cast<std::uint16_t*>(head_page);
      ops_.to_f16(k, values + k_at, head_dim);
      ops_.to_f16(v, values + v_at, head_dim);
      return;
    }
    case KvFormat::kInt8: {
      auto* values = reinterpret_cast<std::int8_t*>(head_page);
      auto* scales = reinterpret_cast<float*>(values + 2 * kPageTokens * head_dim);
      scales[slot] = ops_.to_int8(k, values + k_at, head_dim);
      scales[kPageTokens + slot] = ops_.to_int8(v, values + v_at, head_dim);
      return;
    }
  }
}

void CpuBackend::qk_norm_rope_cache(std::size_t layer) {
  const ModelConfig& config = owned_graph_.config;
  const LayerWeights& weights = layers_[layer];
  const std::int64_t head_dim = config.head_dim;
  const std::int64_t q_width = owned_graph_.q_width();
  const std::int64_t kv_width = owned_graph_.kv_width();
  const auto eps = static_cast<float>(config.rms_norm_eps);
  const auto rotate = [&](float* head, const std::vector<float>& norm, std::int64_t position) {
    if (!norm.empty()) ops_.rms_norm(head, norm.data(), head, head_dim, eps);
    ops_.rope(head, rope_.cos.data() + position * rope_.half,
              rope_.sin.data() + position * rope_.half, head_dim);
  };
  pool_->parallel_for(rows_, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const RowPlace place = places_[static_cast<std::size_t>(row)];
      const SequenceRows& sequence = input_->sequences[static_cast<std::size_t>(place.sequence)];
      float* q = qkv_ + row * (q_width + 2 * kv_width);
      float* k = q + q_width;
      const float* v = k + kv_width;
      for (std::int64_t head = 0; head < config.heads; ++head) {
        rotate(q + head * head_dim, weights.q_norm, place.position);
      }
      const std::int32_t page =
          sequence.pages[static_cast<std::size_t>(place.position / kPageTokens)];
      for (std::int64_t head = 0; head < config.kv_heads; ++head) {
        rotate(k + head * head_dim, weights.k_norm, place.position);
        store_kv(head_page(page, layer, head), place.position % kPageTokens, k + head * head_dim,
                 v + head * head_dim);
      }
    }
  });
}

void CpuBackend::attention(std::size_t layer, RowBuffer out) {
  float* to = buffer(out);
  const int threads = pool_->threads();
  const auto count = static_cast<std::int64_t>(tasks_.size());
  // Dealt round robin: later rows of a prompt see more context, so ranges would be uneven.
  const auto work = [&](int worker) {
    for (std::int64_t i = worker; i < count; i += threads) {
      run_attention_task(tasks_[static_cast<std::size_t>(i)], layer, to,
                         scratch_[static_cast<std::size_t>(worker)]);
    }
  };
  if (count == 1) {
    work(0);
  } else {
    pool_->run(work);
  }
}

void CpuBackend::run_attention_task(const AttentionTask& task, std::size_t layer, float* out,
                                    const AttentionScratch& scratch) {
  const ModelConfig& config = owned_graph_.config;
  const std::int64_t head_dim = config.head_dim;
  const std::int64_t group = config.heads / config.kv_heads;
  const std::int64_t row_stride = owned_graph_.q_width() + 2 * owned_graph_.kv_width();
  const SequenceRows& sequence = input_->sequences[static_cast<std::size_t>(task.sequence)];
  const std::int64_t first_position = places_[static_cast<std::size_t>(task.first_row)].position;
  const std::int64_t last_position = first_position + task.rows - 1;

  // Query (row, head in group) lies at q + row * row_stride + head * head_dim.
  const float* q = qkv_ + task.first_row * row_stride + task.kv_head * group * head_dim;
  for (std::int64_t query = 0; query < task.rows * group; ++query) {
    scratch.total[query].out = scratch.totals + query * head_dim;
    scratch.part[query].out = scratch.parts + query * head_dim;
  }

  for (std::int64_t split = 0; split * numerics::kAttentionSplit <= last_position; ++split) {
    const std::int64_t start = split * numerics::kAttentionSplit;
    const std::int64_t visible =
        std::min<std::int64_t>(last_position + 1 - start, numerics::kAttentionSplit);
    std::array<KvPageView, kSplitPages> pages;
    for (std::int64_t i = 0; i * kPageTokens < visible; ++i) {
      const std::int32_t page = sequence.pages[static_cast<std::size_t>(split * kSplitPages + i)];
      pages[static_cast<std::size_t>(i)] = page_view(head_page(page, layer, task.kv_head));
    }
    // Rows before the split see none of it, the others up to their own position.
    const std::int64_t skipped = std::max<std::int64_t>(start - first_position, 0);
    AttentionPart* into = (split == 0 ? scratch.total : scratch.part) + skipped * group;
    ops_.attention_rows(q + skipped * row_stride, task.rows - skipped, row_stride, group,
                        first_position + skipped + 1 - start, pages.data(), visible, head_dim,
                        softmax_scale_, into, scratch.scores);
    if (split == 0) continue;
    for (std::int64_t query = skipped * group; query < task.rows * group; ++query) {
      ops_.attention_combine(&scratch.total[query], &scratch.part[query], head_dim);
    }
  }

  for (std::int64_t row = 0; row < task.rows; ++row) {
    float* to =
        out + (task.first_row + row) * owned_graph_.q_width() + task.kv_head * group * head_dim;
    for (std::int64_t head = 0; head < group; ++head) {
      ops_.attention_finish(&scratch.total[row * group + head], to + head * head_dim, head_dim);
    }
  }
}

}  // namespace liquidgemm
