// Linear layers with INT32 sums: 4-bit and INT8 weights.
#include <algorithm>
#include <cassert>
#include <limits>
#include <new>
#include <string>

#include "gemm/cpu/linear.h"
#include "gemm/cpu/packed_activations.h"

namespace liquidgemm::cpu {
namespace {

// Packing less than this is not worth waking the other threads.
constexpr std::int64_t kThreadedPackBytes = 32768;

class IntegerLinear final : public CpuLinear {
 public:
  IntegerLinear(const WeightView& weight, PackedWeights packed, const IntegerKernel& kernel,
                Isa isa)
      : weights_(std::move(packed)), kernel_(kernel) {
    n_ = weight.n;
    k_ = weight.k;
    if (weight.kind == WeightView::Kind::kLiquid4) group_size_ = weight.group_size;
    description_ = group_size_ > 0 ? "liquid4 g" + std::to_string(group_size_) + " " : "int8 ";
    description_ += isa_name(isa);
    block_ = block_tokens(weights_.k_padded * element_bytes(), kernel.max_tile);
  }

  bool takes_float() const override { return false; }
  std::size_t packed_bytes() const override {
    return weights_.bytes + weights_.channel_scale.size();
  }
  std::string describe() const override { return description_; }
  PackedView packed() const override {
    return {.kind = group_size_ > 0 ? WeightView::Kind::kLiquid4 : WeightView::Kind::kInt8,
            .n = n_,
            .k = k_,
            .group_size = group_size_,
            .layout = {weights_.panels, weights_.panel_bytes},
            .panels = weights_.data.get(),
            .channel_scale = {weights_.channel_scale.as<float>(), static_cast<std::size_t>(n_)}};
  }

  void weight_row(std::int64_t row, float* out) const override {
    if (group_size_ > 0) {
      unpack_liquid_row(weights_, k_, group_size_, row, out);
    } else {
      unpack_int8_row(weights_, k_, row, out);
    }
  }

  void accumulate(const QuantizedRows& x, std::int32_t* out, ThreadPool& pool) const override {
    execute(x, nullptr, out, nullptr, n_, pool);
  }
  void run(const QuantizedRows& x, const float* bias, float* out, std::int64_t ld_out,
           ThreadPool& pool) const override {
    execute(x, bias, nullptr, out, ld_out, pool);
  }
  void run_float(const float*, std::int64_t m, std::int64_t, const float*, float* out,
                 std::int64_t ld_out, ThreadPool&) const override {
    assert(false && "an integer layer takes quantised rows");
    // A bug in the caller must not pass for a result.
    for (std::int64_t i = 0; i < m; ++i) {
      std::fill_n(out + i * ld_out, n_, std::numeric_limits<float>::quiet_NaN());
    }
  }

  // Scratch for one block: the packed activations, then the group sums.
  std::size_t activation_bytes() const {
    const std::int64_t summed = std::min(block_, kernel_.sums_up_to);
    return static_cast<std::size_t>(sums_offset(block_) + summed * groups() * 2);
  }
  std::size_t worker_bytes() const {
    return static_cast<std::size_t>(weights_.k_padded * kernel_.scratch_per_k);
  }

 private:
  std::int64_t element_bytes() const { return kernel_.wide_activations ? 2 : 1; }
  std::int64_t groups() const { return group_size_ > 0 ? (k_ + group_size_ - 1) / group_size_ : 0; }
  std::int64_t sums_offset(std::int64_t m) const {
    return round_up(m * weights_.k_padded * element_bytes(), 64);
  }

  void execute(const QuantizedRows& x, const float* bias, std::int32_t* sums, float* out,
               std::int64_t ld_out, ThreadPool& pool) const {
    assert(x.k == k_);
    for (std::int64_t row = 0; row < x.m; row += block_) {
      QuantizedRows part = x;
      part.m = std::min(block_, x.m - row);
      part.x8 += row * x.ld;
      part.scale = x.scale ? x.scale + row : nullptr;
      part.sum += row;
      IntegerJob job = {};
      job.sums = sums ? sums + row * ld_out : nullptr;
      job.out = out ? out + row * ld_out : nullptr;
      job.ld_out = ld_out;
      job.bias = bias;
      execute_block(part, job, pool);
    }
  }

  void execute_block(const QuantizedRows& x, IntegerJob& job, ThreadPool& pool) const {
    job.panels = weights_.data.get();
    job.panel_bytes = weights_.panel_bytes;
    job.n = n_;
    job.k = weights_.k_padded;
    job.group_size = group_size_;
    job.channel_scale = weights_.channel_scale.as<float>();
    job.m = x.m;
    job.tiles = (x.m + kernel_.max_tile - 1) / kernel_.max_tile;
    job.row_scale = x.scale;
    job.row_sum = x.sum;
    pack(x, job, pool);

    const std::size_t worker_bytes = this->worker_bytes();
    share(pool, weights_.panels, true, [&](std::int64_t begin, std::int64_t end) {
      AlignedBuffer& scratch = worker_scratch();
      if (!scratch.reserve(worker_bytes)) throw std::bad_alloc();
      kernel_.run(job, begin, end, scratch.as<void>());
    });
  }

  void pack(const QuantizedRows& x, IntegerJob& job, ThreadPool& pool) const {
    const bool sums = group_size_ > 0 && job.m <= kernel_.sums_up_to;
    // A single row that needs no padding is a tile as it stands.
    const bool as_is = x.m == 1 && !kernel_.wide_activations && k_ == weights_.k_padded;
    job.x = x.x8;
    if (as_is && !sums) return;

    AlignedBuffer& buffer = activation_scratch();
    if (!buffer.reserve(activation_bytes())) throw std::bad_alloc();
    std::int8_t* packed = buffer.as<std::int8_t>();
    auto* group_sums = reinterpret_cast<std::int16_t*>(packed + sums_offset(x.m));
    if (!as_is) job.x = packed;
    if (sums) job.group_sums = group_sums;

    const ActivationTiles tiles{x.m, job.tiles, k_, weights_.k_padded};
    const auto pack_part = [&](const ActivationTiles& part, std::int64_t begin, std::int64_t end) {
      if (!as_is && kernel_.wide_activations) {
        pack_int16(part, x.x8, x.ld, begin, end, reinterpret_cast<std::int16_t*>(packed));
      } else if (!as_is) {
        pack_int8(part, x.x8, x.ld, begin, end, packed);
      }
      if (sums) pack_group_sums(part, x.x8, x.ld, group_size_, begin, end, group_sums);
    };
    const bool threaded = x.m * k_ >= kThreadedPackBytes;
    if (tiles.tiles >= 2 * pool.threads()) {
      // Whole rows: most often they lie in the cache of the core that made them.
      share(pool, tiles.tiles, threaded, [&](std::int64_t first, std::int64_t last) {
        ActivationTiles part = tiles;
        part.first = first;
        part.last = last;
        pack_part(part, 0, tiles.k_padded);
      });
      return;
    }
    const std::int64_t steps = (tiles.k_padded + kPackStep - 1) / kPackStep;
    share(pool, steps, threaded, [&](std::int64_t begin, std::int64_t end) {
      pack_part(tiles, begin * kPackStep, std::min(end * kPackStep, tiles.k_padded));
    });
  }

  PackedWeights weights_;
  const IntegerKernel& kernel_;
  int group_size_ = 0;  // 0: INT8 weights
  std::int64_t block_ = 0;
  std::string description_;
};

}  // namespace

Result<std::unique_ptr<CpuLinear>> make_integer_linear(const WeightView& weight,
                                                       PackedWeights packed,
                                                       const IntegerKernel& kernel, Isa isa,
                                                       ThreadPool& pool) {
  auto linear = std::make_unique<IntegerLinear>(weight, std::move(packed), kernel, isa);
  if (!reserve_scratch(pool, linear->activation_bytes(), linear->worker_bytes())) {
    return resource_exhausted(weight.name + ": no memory for the scratch of its GEMM");
  }
  return std::unique_ptr<CpuLinear>(std::move(linear));
}

}  // namespace liquidgemm::cpu
