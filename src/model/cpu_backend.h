// The CPU backend: the embedded default.
#pragma once

#include <atomic>
#include <memory>

#include "base/arena.h"
#include "base/huge_page_memory.h"
#include "base/thread_pool.h"
#include "model/backend.h"
#include "model/packed_weights_cache.h"
#include "model/rope.h"
#include "model/weights.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {

class CpuBackend final : public Backend {
 public:
  // What is passed outlives the backend. The ISA must be one this machine has (check_isa). With a
  // cache, plan takes from it what it has, and afterwards packed_matrices() is what it is to keep.
  CpuBackend(Isa isa, ThreadPool& pool, PackedWeightsCache* cache = nullptr);
  ~CpuBackend() override;

  Status plan(const ModelGraph& graph, WeightLoader& weights, const BackendLimits& limits) override;

  std::span<const float> logits(std::int64_t row) const override;
  std::span<const SampledToken> sampled() const override;
  std::span<const TokenScore> scores() const override { return scores_; }
  const BackendLimits& limits() const override { return limits_; }
  std::int64_t page_bytes() const override;
  std::size_t weight_bytes() const override;
  std::vector<std::string> describe() const override;

  // What the last steps have stored of one layer and head in a page.
  KvPageView stored(std::int32_t page, std::size_t layer, std::int64_t kv_head) const {
    return page_view(head_page(page, layer, kv_head));
  }

  // Every packed matrix, in the order in which plan made them.
  std::vector<const CpuLinear*> packed_matrices() const;

  void begin(const StepInput& input) override;
  void embed(RowBuffer out) override;
  LinearInput add_norm_quantize(std::size_t layer, bool post_attention, bool first) override;
  void linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
              RowBuffer out) override;
  LinearInput linear_gated_quantize(std::size_t layer, const LinearInput& input) override;
  void qk_norm_rope_cache(std::size_t layer) override;
  void attention(std::size_t layer, RowBuffer out) override;
  LinearInput quantize(RowBuffer in) override;
  LinearInput final_norm_quantize() override;
  void lm_head(const LinearInput& input) override;
  void sample() override;
  void score() override;

 private:
  // The packed matrices of a group: one, or one a part where the parts differ in scheme.
  struct PackedGroup {
    std::vector<std::unique_ptr<CpuLinear>> parts;
    std::vector<std::vector<float>> bias;  // empty vectors: none
  };
  struct LayerWeights {
    PackedGroup qkv, output, gate_up, down;
    std::vector<float> input_norm, post_attention_norm, q_norm, k_norm;
    // Of a static INT8 cache, otherwise empty.
    KvScales kv_scales, kv_reciprocals;
  };
  // One row's sequence and position, looked up once a step.
  struct RowPlace {
    std::int32_t sequence = 0;
    std::int32_t position = 0;
  };
  // A tile of rows of one sequence against one KV head: all of the context, or one split of it.
  struct AttentionTask {
    std::int32_t sequence = 0;
    std::int32_t first_row = 0;
    std::int32_t rows = 0;
    std::int32_t kv_head = 0;
    std::int32_t cut = -1;  // which CutAttention, or -1: all of the context
    std::int32_t split = 0;
  };
  // One row against one KV head whose splits are tasks of their own. The worker that finishes the
  // last of them combines all, in ascending order, so who that is changes no bit.
  struct CutAttention {
    AttentionPart* parts = nullptr;  // [splits][group]
    float* outputs = nullptr;        // what the parts point to
    std::int32_t splits = 0;
    std::atomic<std::int32_t> left = 0;
  };
  // One worker's memory for attention.
  struct AttentionScratch {
    float* totals = nullptr;
    float* parts = nullptr;
    float* scores = nullptr;
    AttentionPart* total = nullptr;
    AttentionPart* part = nullptr;
  };

  // From the cache; null: it is to be packed.
  std::unique_ptr<CpuLinear> cached(std::span<const WeightView> forms);
  Result<PackedGroup> pack_group(const LinearGroup& group, WeightLoader& weights);
  Result<std::unique_ptr<CpuLinear>> pack_table(const std::string& module, WeightLoader& weights);
  // Tells each product which one comes after it in a step.
  void link_products();
  void lay_out();
  std::int64_t head_page_bytes() const;
  // Where the keys and values of one layer and head of one page lie.
  std::byte* head_page(std::int32_t page, std::size_t layer, std::int64_t kv_head) const;
  KvPageView page_view(const std::byte* head_page) const;
  void store_kv(std::byte* head_page, std::int64_t slot, const LayerWeights& weights,
                std::int64_t kv_head, const float* k, const float* v);
  float* buffer(RowBuffer name) const;
  std::int64_t width(RowBuffer name) const;
  // Makes `count` rows of width k in `rows` and quantises each at once, while it is in the cache,
  // or keeps them `as_float`. make(row, to) writes one row.
  template <typename Make>
  LinearInput make_input(float* rows, std::int64_t count, std::int64_t k, bool as_float,
                         const Make& make);
  void run_group(const PackedGroup& group, const LinearInput& input, float* out,
                 std::int64_t ld_out);
  // Rows that attention handles together, so that they share the reads of K and V.
  std::int32_t attention_rows_together() const;
  // Cuts the context of the tasks at hand where they are too few for all workers.
  void cut_attention_tasks();
  // Rows row .. row + rows - 1 against one split of the context, of which the last of them sees at
  // least one token. Rows before the split are left out: returns how many.
  // `then`: the page that is most likely read next.
  std::int64_t run_split(const AttentionTask& task, std::int64_t split, std::size_t layer,
                         const KvPageView& then, AttentionPart* parts, float* scores) const;
  // Page `index` of the task's sequence.
  KvPageView page_of(const AttentionTask& task, std::int64_t index, std::size_t layer) const;
  // `then` as in run_split, after all of the task.
  void run_attention_task(const AttentionTask& task, std::size_t layer, const KvPageView& then,
                          float* out, const AttentionScratch& scratch) const;
  void run_cut_task(const AttentionTask& task, std::size_t layer, const KvPageView& then,
                    float* out, const AttentionScratch& scratch);
  void finish_row(std::int64_t row, std::int64_t kv_head, std::size_t layer,
                  const AttentionPart* totals, float* out) const;

  Isa isa_;
  ThreadPool* pool_;
  PackedWeightsCache* cache_;  // null: none
  const CpuOps& ops_;
  ModelGraph owned_graph_;
  BackendLimits limits_;
  bool float_activations_ = false;

  HugePageMemory weight_memory_;
  std::vector<LayerWeights> layers_;
  std::vector<float> final_norm_;
  std::unique_ptr<CpuLinear> head_;
  std::unique_ptr<CpuLinear> embedding_;  // null: tied, the head's rows are the embeddings
  RopeTable rope_;
  float softmax_scale_ = 1.0f;

  Arena arena_;
  std::byte* pages_ = nullptr;
  float* residual_ = nullptr;
  float* delta_ = nullptr;
  float* qkv_ = nullptr;
  float* attention_ = nullptr;
  float* gate_up_ = nullptr;
  float* gated_ = nullptr;
  float* normed_ = nullptr;
  float* logits_ = nullptr;
  std::int8_t* x8_ = nullptr;
  float* scale_ = nullptr;
  std::int32_t* sum_ = nullptr;
  std::vector<AttentionScratch> scratch_;

  const StepInput* input_ = nullptr;
  std::int64_t rows_ = 0;
  std::vector<RowPlace> places_;
  std::vector<AttentionTask> tasks_;
  std::vector<CutAttention> cuts_;
  std::vector<SampledToken> sampled_;
  std::vector<TokenScore> scores_;
  std::vector<std::vector<float>> sample_scratch_;  // one a worker
};

}  // namespace liquidgemm
