// Linear layers in float: FP16 weights, whose rows are rounded to FP16 too; unquantised weights, or
// 4-bit weights that were dequantised, for comparison. The summation order is the contract's
// (numerics.h), the same on every ISA.
#include <algorithm>
#include <cassert>
#include <limits>
#include <new>

#include "gemm/cpu/linear.h"
#include "gemm/cpu/packed_activations.h"
#include "gemm/numerics.h"

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kThreadedPackFloats = 8192;

class FloatLinear final : public CpuLinear {
 public:
  FloatLinear(const WeightView& weight, PackedWeights packed, const FloatKernel& kernel, Isa isa)
      : weights_(std::move(packed)), kernel_(kernel), kind_(weight.kind) {
    n_ = weight.n;
    k_ = weight.k;
    description_ = (fp16() ? "fp16 " : "float ") + std::string(isa_name(isa));
    block_ = block_tokens(k_ * std::int64_t{sizeof(float)}, kernel.max_tile);
  }

  bool takes_float() const override { return true; }
  std::size_t packed_bytes() const override { return weights_.bytes; }
  std::string describe() const override { return description_; }
  PackedView packed() const override {
    return {.kind = kind_,
            .n = n_,
            .k = k_,
            .group_size = 0,
            .layout = {weights_.panels, weights_.panel_bytes},
            .panels = weights_.data.get(),
            .channel_scale = {}};
  }

  void weight_row(std::int64_t row, float* out) const override {
    if (fp16()) {
      unpack_fp16_row(weights_, k_, kernel_.panel_rows, row, out);
    } else {
      unpack_float_row(weights_, k_, kernel_.panel_rows, row, out);
    }
  }

  // A bug in the caller: the results must not pass for sums.
  void accumulate(const QuantizedRows& x, std::int32_t* out, ThreadPool&) const override {
    assert(false && "a float layer has no INT32 sums");
    std::fill_n(out, x.m * n_, std::numeric_limits<std::int32_t>::min());
  }
  void run(const QuantizedRows& x, const float*, float* out, std::int64_t ld_out,
           ThreadPool&) const override {
    assert(false && "a float layer takes float rows");
    for (std::int64_t i = 0; i < x.m; ++i) {
      std::fill_n(out + i * ld_out, n_, std::numeric_limits<float>::quiet_NaN());
    }
  }

  void run_float(const float* x, std::int64_t m, std::int64_t ld_x, const float* bias, float* out,
                 std::int64_t ld_out, ThreadPool& pool) const override {
    for (std::int64_t row = 0; row < m; row += block_) {
      run_block(x + row * ld_x, std::min(block_, m - row), ld_x, bias, out + row * ld_out, ld_out,
                pool);
    }
  }

  std::size_t activation_bytes() const {
    return static_cast<std::size_t>(block_ * k_) * sizeof(float);
  }
  std::size_t worker_bytes() const {
    return static_cast<std::size_t>(block_ * kernel_.scratch_per_token) * sizeof(float);
  }

 private:
  bool fp16() const { return kind_ == WeightView::Kind::kFp16; }

  void run_block(const float* x, std::int64_t m, std::int64_t ld_x, const float* bias, float* out,
                 std::int64_t ld_out, ThreadPool& pool) const {
    FloatJob job = {};
    job.panels = weights_.data.get();
    job.n = n_;
    job.k = k_;
    job.block = numerics::kFloatBlock;
    job.m = m;
    job.tiles = (m + kernel_.max_tile - 1) / kernel_.max_tile;
    job.out = out;
    job.ld_out = ld_out;
    job.bias = bias;
    job.x = m == 1 && !fp16() ? x : pack(x, ld_x, job, pool);

    const std::size_t worker_bytes = this->worker_bytes();
    share(pool, weights_.panels, true, [&](std::int64_t begin, std::int64_t end, int) {
      AlignedBuffer& scratch = worker_scratch();
      if (!scratch.reserve(worker_bytes)) throw std::bad_alloc();
      kernel_.run(job, begin, end, scratch.as<float>());
    });
  }

  const float* pack(const float* x, std::int64_t ld_x, const FloatJob& job,
                    ThreadPool& pool) const {
    AlignedBuffer& buffer = activation_scratch();
    if (!buffer.reserve(activation_bytes())) throw std::bad_alloc();
    float* packed = buffer.as<float>();
    const ActivationTiles tiles{job.m, job.tiles, k_, k_};
    const std::int64_t steps = (k_ + kPackStep - 1) / kPackStep;
    share(pool, steps, job.m * k_ >= kThreadedPackFloats,
          [&](std::int64_t begin, std::int64_t end, int) {
            const std::int64_t k_begin = begin * kPackStep;
            const std::int64_t k_end = std::min(end * kPackStep, k_);
            pack_float(tiles, x, ld_x, k_begin, k_end, packed);
            if (fp16()) round_to_fp16(tiles, k_begin, k_end, packed);
          });
    return packed;
  }

  PackedWeights weights_;
  const FloatKernel& kernel_;
  WeightView::Kind kind_;
  std::int64_t block_ = 0;
  std::string description_;
};

}  // namespace

Result<std::unique_ptr<CpuLinear>> make_float_linear(const WeightView& weight, PackedWeights packed,
                                                     const FloatKernel& kernel, Isa isa,
                                                     ThreadPool& pool) {
  auto linear = std::make_unique<FloatLinear>(weight, std::move(packed), kernel, isa);
  if (!reserve_scratch(pool, linear->activation_bytes(), linear->worker_bytes())) {
    return resource_exhausted(weight.name + ": no memory for the scratch of its GEMM");
  }
  return std::unique_ptr<CpuLinear>(std::move(linear));
}

}  // namespace liquidgemm::cpu
