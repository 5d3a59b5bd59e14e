#include "model/transformer.h"

namespace liquidgemm {

void run_transformer(Backend& backend, const ModelGraph& graph, const StepInput& input) {
  backend.begin(input);
  backend.embed(RowBuffer::kResidual);
  for (std::size_t i = 0; i < graph.layers.size(); ++i) {
    const DecoderLayer& layer = graph.layers[i];

    LinearInput rows = backend.add_norm_quantize(i, /*post_attention=*/false, /*first=*/i == 0);
    backend.linear(i, layer.qkv, rows, RowBuffer::kQkv);
    backend.qk_norm_rope_cache(i);
    backend.attention(i, RowBuffer::kAttention);
    rows = backend.quantize(RowBuffer::kAttention);
    backend.linear(i, layer.output, rows, RowBuffer::kDelta);
    backend.all_reduce(RowBuffer::kDelta);

    rows = backend.add_norm_quantize(i, /*post_attention=*/true, /*first=*/false);
    rows = backend.linear_gated_quantize(i, rows);
    backend.linear(i, layer.down, rows, RowBuffer::kDelta);
    backend.all_reduce(RowBuffer::kDelta);
  }
  if (input.logits_rows.empty()) return;  // a prompt chunk that is not the last
  const LinearInput last = backend.final_norm_quantize();
  backend.lm_head(last);
  backend.sample();
  if (!input.scores.empty()) backend.score();
}

}  // namespace liquidgemm
