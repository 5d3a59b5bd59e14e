// The backend of a Hopper GPU (model/cuda_backend.h): what it owns, and how a step is launched.
#pragma once

#include <map>
#include <memory>
#include <set>

#include "gemm/cuda/handles.h"
#include "model/cuda/cuda_float_linear.h"
#include "model/cuda/cuda_linear.h"
#include "model/cuda/sample_buffers.h"
#include "model/cuda/step_buffers.h"
#include "model/cuda_backend.h"
#include "ops/cuda/attention.h"

namespace liquidgemm {

class CudaBackend final : public Backend {
 public:
  CudaBackend(CudaDevice device, const CudaBackendOptions& options)
      : device_(std::move(device)), options_(options) {}
  ~CudaBackend() override;

  Status plan(const ModelGraph& graph, WeightLoader& weights, const BackendLimits& limits) override;

  std::span<const float> logits(std::int64_t row) const override;
  std::span<const SampledToken> sampled() const override { return sampled_; }
  std::span<const TokenScore> scores() const override { return scores_; }
  const BackendLimits& limits() const override { return limits_; }
  std::int64_t page_bytes() const override {
    return owned_graph_.config.layers * cuda::kv_page_bytes(shape_);
  }
  std::size_t weight_bytes() const override;
  std::vector<std::string> describe() const override;

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
  Status finish() override;
  void wait() override;
  bool mark(std::size_t index) override;
  double seconds_between(std::size_t first, std::size_t last) const override;

 protected:
  Status run(const StepInput& input) override;

 private:
  struct LayerWeights {
    std::unique_ptr<CudaLinear> qkv, output, gate_up, down;
    // In device memory; the norms over heads null where the family has none.
    const float* input_norm = nullptr;
    const float* post_attention_norm = nullptr;
    const float* q_norm = nullptr;
    const float* k_norm = nullptr;
    // Of a static INT8 cache, [kv_heads][head_dim]; otherwise null.
    const float* k_scale = nullptr;
    const float* v_scale = nullptr;
    const float* k_reciprocal = nullptr;
    const float* v_reciprocal = nullptr;
  };
  struct Buffers {
    float* residual = nullptr;   // [rows][hidden]
    void* delta = nullptr;       // [rows][hidden], float, with FP16 weights f16
    float* qkv = nullptr;        // [rows][q_width + 2 kv_width]
    float* attention = nullptr;  // [rows][q_width]
    void* gate_up = nullptr;     // [rows][SiLU(gate) * up] in float, or [rows][gates | ups] in f16
    void* q = nullptr;           // f16 or bf16 [rows][heads][width]
    // What linear layers read: quantised rows, or f16 ones.
    std::int8_t* x8 = nullptr;
    float* scale = nullptr;
    std::int32_t* sum = nullptr;
    // Of the rows that gate_up makes: [kCudaAmaxParts][stride] largest magnitudes, [stride] sums
    // (gathered_rows).
    std::uint32_t* gathered = nullptr;
    void* half = nullptr;            // with an FP16 head: its rows, in tiles
    float* last_residual = nullptr;  // [logits rows][hidden]
    void* last_delta = nullptr;
    float* logits = nullptr;  // [logits rows][head width]
  };

  // ---- plan (cuda_plan.cc)
  Status check_model(const WeightLoader& weights) const;
  // Before anything is loaded: what the model takes, and how many pages are left.
  Status fit(WeightLoader& weights);
  Status load_weights(WeightLoader& weights);
  Result<const float*> upload_vector(WeightLoader& weights, const std::string& name,
                                     std::int64_t width);
  Status upload_scales(const KvScales& scales, LayerWeights& layer);
  Status load_tables(WeightLoader& weights);
  Status load_half_tables(WeightLoader& weights);
  Result<std::unique_ptr<CudaLinear>> make_head(const LoadedMatrix& head, WeightLoader& weights);
  Result<std::unique_ptr<CudaLinear>> make_linear(std::span<const LoadedMatrix> parts, bool gated,
                                                  CudaFloat output, WeightLoader& weights);
  // Chooses the linear layers' kernels for the steps to come.
  Status tune();
  Status allocate();
  Buffers lay_out(void* base, std::size_t& used) const;
  StepBuffers::Sizes step_sizes() const;

  // ---- operations (cuda_operations.cc)
  bool half() const { return floats_ != nullptr; }
  // The most that a step of rows_ rows can decode.
  int step_sequences() const { return static_cast<int>(std::min(rows_, limits_.max_sequences)); }
  void* buffer(RowBuffer name) const;
  CudaRows device_rows(const LinearInput& input) const;
  // What was quantised into x8, scale and sum.
  LinearInput quantized_input(std::int64_t rows, std::int64_t k) const;
  // What is gathered of the gated rows while they are made and quantised, where they are few: of
  // more, the product takes longer for it than quantising saves (docs/gpu.md). The norm in front of
  // them clears it.
  static constexpr std::int64_t kMostGathered = 128;
  struct Gathered {
    CudaRowAmax amax;
    std::int32_t* sum = nullptr;
    std::int64_t words = 0;  // of all of it, from amax.parts on
  };
  Gathered gathered_rows() const;
  // Parts that do not share what memory exchanges at a time.
  static std::int64_t gathered_stride(std::int64_t rows) { return (rows + 31) / 32 * 32; }
  // All of a step's rows, x [rows, k] without gaps, as linear layers read them.
  LinearInput add_norm(const void* delta, float* residual, const float* norm, std::int64_t rows,
                       bool clears);
  void run_linear(CudaLinear& linear, const LinearInput& input, const CudaOutputRows& out);

  // ---- step (cuda_backend.cc)
  void launched(const Status& status);  // remembers the first failure
  void fill(const StepInput& input);
  void fill_attention(const StepInput& input);
  // Workspace for a launch with so many tokens; grows where a plan asks for more.
  Status reserve_workspace(CudaLinear& linear, std::int64_t m);
  Status reserve_workspace(std::int64_t rows, std::int64_t logits_rows);
  std::uint8_t* layer_pages(std::size_t layer) const;
  cuda::AttentionTensors tensors(std::size_t layer) const;
  const StepBuffers::Fields& device_fields() const { return step_.device(); }

  // ---- recorded decode steps (cuda_backend.cc)
  bool is_decode(const StepInput& input) const;
  // Rows that a recorded step has: a few more than asked for, so that few are recorded.
  std::int64_t bucket(std::int64_t rows) const;

  CudaDevice device_;
  CudaBackendOptions options_;
  ModelGraph owned_graph_;
  BackendLimits limits_;
  // Of one layer: the pages of a layer lie together, or the many that one attention reads would lie
  // so far apart that the GPU spends its time looking up addresses.
  cuda::KvPageShape shape_;
  float softmax_scale_ = 1.0f;
  cuda::Stream stream_;

  std::unique_ptr<CudaFloatLinears> floats_;  // null: the weights are quantised
  std::vector<LayerWeights> layers_;
  std::unique_ptr<CudaLinear> head_;
  bool fp16_head_ = false;  // beside quantised layers
  cuda::DeviceBuffer embedding_, embedding_scale_;
  const void* half_embedding_ = nullptr;     // with FP16 weights; the head's where they are tied
  std::vector<cuda::DeviceBuffer> vectors_;  // norms, scales of the KV cache
  const float* final_norm_ = nullptr;
  cuda::DeviceBuffer rope_cos_, rope_sin_;

  cuda::DeviceBuffer memory_;  // of buffers_
  Buffers buffers_;
  StepBuffers step_;
  SampleBuffers samples_;
  cuda::DeviceBuffer attention_workspace_;
  // The last is in use; a recorded graph may still know those before.
  std::vector<cuda::DeviceBuffer> workspaces_;
  std::set<std::int64_t> reserved_rows_, reserved_logits_rows_;  // that have workspace and plans
  cuda::DeviceBuffer pages_;

  // The step at hand.
  const StepInput* input_ = nullptr;
  Status failure_;
  std::int64_t rows_ = 0;                               // launched, padding included
  std::int64_t logits_rows_ = 0;                        // likewise
  std::size_t attended_layer_ = 0;                      // whose results the attention buffer holds
  std::int64_t units_ = 0;                              // of decode attention,
  std::vector<cuda::DecodeSequence> decode_sequences_;  // which these are of
  std::int64_t tiles_ = 0;                              // of prefill attention
  bool recording_ = false;
  std::map<std::pair<std::int64_t, bool>, cuda::GraphExec> graphs_;  // rows, plain greedy
  std::set<std::int64_t> warm_;  // buckets that have run without a graph

  std::vector<cuda::Event> marks_;  // for timing
  std::vector<SampledToken> sampled_;
  std::vector<TokenScore> scores_;
  // Of logits(), which several threads may call: a place for each row, its pages untouched before.
  std::unique_ptr<float[]> host_logits_;
};

}  // namespace liquidgemm
