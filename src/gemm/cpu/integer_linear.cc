// Linear layers with INT32 sums: 4-bit and INT8 weights.
#include <algorithm>
#include <cassert>
#include <limits>
#include <new>
#include <string>

#include "gemm/cpu/linear.h"
#include "gemm/cpu/packed_activations.h"
#include "gemm/packed.h"

namespace liquidgemm::cpu {
namespace {

// Packing less than this is not worth waking the other threads: of all tokens, when each packs a
// stretch of k, or some of the tokens, which most often lie in the cache of the core that made
// them.
constexpr std::int64_t kThreadedStretchBytes = 32768;
constexpr std::int64_t kThreadedTokenBytes = 8192;

// Threads divide the channels, and read all tokens, unless a layer has so few channels that tokens
// which other cores have packed come more slowly than they are multiplied. Then they divide the
// tokens, where each thread has enough to make up for decoding all weights, and these stay in its
// L2. AMX multiplies so fast that tokens come too slowly for more channels. A block has 512 tokens,
// so more than 32 threads always divide the channels.
constexpr std::int64_t kFewWeightBytes = std::int64_t{1} << 20;
constexpr std::int64_t kTokensOfThread = 16;
constexpr std::int64_t few_channels(const IntegerKernel& kernel) {
  return kernel.order == ActivationOrder::kLines ? 2048 : 1024;
}

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
    k_of_tokens_ =
        kernel.order == ActivationOrder::kLines ? round_up(k_, kLine) : weights_.k_padded;
    block_ = block_tokens(k_of_tokens_ * element_bytes(), kernel.max_tile);
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

  void followed_by(const CpuLinear& next) override { next_ = next.packed(); }

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
    // Where threads divide the tokens, each may have so few that it needs sums.
    const std::int64_t summed =
        kernel_.sums_up_to < kTokensOfThread ? std::min(block_, kernel_.sums_up_to) : block_;
    return static_cast<std::size_t>(sums_offset(block_) + summed * groups() * 2);
  }
  std::size_t worker_bytes() const {
    if (kernel_.scratch_bytes == nullptr) return 0;
    return static_cast<std::size_t>(kernel_.scratch_bytes(weights_.k_padded));
  }

 private:
  std::int64_t element_bytes() const {
    return kernel_.order == ActivationOrder::kWideWords ? 2 : 1;
  }
  // A kernel of lines may read one line past the tokens that it was given.
  std::int64_t read_past() const { return kernel_.order == ActivationOrder::kLines ? kLine : 0; }
  std::int64_t groups() const { return group_size_ > 0 ? (k_ + group_size_ - 1) / group_size_ : 0; }
  std::int64_t sums_offset(std::int64_t m) const {
    const std::int64_t parts = 1 + kMaxBlockTokens / kTokensOfThread;
    return round_up(m * k_of_tokens_ * element_bytes() + parts * read_past(), 64);
  }

  void execute(const QuantizedRows& x, const float* bias, std::int32_t* sums, float* out,
               std::int64_t ld_out, ThreadPool& pool) const {
    assert(x.k == k_);
    for (std::int64_t row = 0; row < x.m; row += block_) {
      IntegerJob job = {};
      job.sums = sums;
      job.out = out;
      job.ld_out = ld_out;
      job.bias = bias;
      const QuantizedRows block = take_tokens(x, row, std::min(row + block_, x.m), job);
      execute_block(block, job, pool);
    }
  }

  // Tokens begin .. end - 1 of x; the job's outputs, so far those of all of x, become theirs.
  QuantizedRows take_tokens(const QuantizedRows& x, std::int64_t begin, std::int64_t end,
                            IntegerJob& job) const {
    QuantizedRows part = x;
    part.m = end - begin;
    part.x8 += begin * x.ld;
    if (part.scale != nullptr) part.scale += begin;
    part.sum += begin;
    if (job.sums != nullptr) job.sums += begin * job.ld_out;
    if (job.out != nullptr) job.out += begin * job.ld_out;
    job.m = part.m;
    job.tiles = (part.m + kernel_.max_tile - 1) / kernel_.max_tile;
    job.row_scale = part.scale;
    job.row_sum = part.sum;
    return part;
  }

  void execute_block(const QuantizedRows& x, IntegerJob& job, ThreadPool& pool) const {
    job.panels = weights_.data.get();
    job.panel_bytes = weights_.panel_bytes;
    job.n = n_;
    job.k = weights_.k_padded;
    job.group_size = group_size_;
    job.channel_scale = weights_.channel_scale.as<float>();
    if (divides_tokens(x.m, pool.threads())) {
      execute_by_tokens(x, job, pool);
      return;
    }
    pack(x, job, pool);
    share(pool, weights_.panels, true, [&](std::int64_t begin, std::int64_t end, int worker) {
      IntegerJob mine = job;
      mine.next = next_panels(worker, pool.threads());
      kernel_.run(mine, begin, end, worker_memory());
    });
  }

  // Where a thread begins in the product after this one, if the threads divide its channels too.
  const std::uint8_t* next_panels(int worker, int threads) const {
    if (next_.panels == nullptr) return nullptr;
    return next_.panels +
           share_begin(next_.layout.panels, worker, threads) * next_.layout.panel_bytes;
  }

  bool divides_tokens(std::int64_t m, int threads) const {
    return threads > 1 && m >= kTokensOfThread * threads && n_ <= few_channels(kernel_) &&
           weights_.panels * weights_.panel_bytes <= kFewWeightBytes;
  }

  // Each thread packs its own tokens and multiplies them with all weights.
  void execute_by_tokens(const QuantizedRows& x, const IntegerJob& whole, ThreadPool& pool) const {
    const Packed packed = packed_memory(x.m);
    share(pool, x.m, true, [&](std::int64_t begin, std::int64_t end, int worker) {
      IntegerJob job = whole;
      const QuantizedRows rows = take_tokens(x, begin, end, job);
      // activation_bytes() relies on it.
      assert(!needs_sums(rows.m) || kernel_.sums_up_to >= kTokensOfThread);
      const Packed mine = {packed.x + begin * k_of_tokens_ * element_bytes() + worker * read_past(),
                           needs_sums(rows.m) ? packed.group_sums + begin * groups() : nullptr};
      job.x = mine.x;
      job.group_sums = mine.group_sums;
      pack_tiles(tiles_of(job), rows, 0, k_of_tokens_, mine);
      kernel_.run(job, 0, weights_.panels, worker_memory());
    });
  }

  ActivationTiles tiles_of(const IntegerJob& job) const {
    return {job.m, job.tiles, k_, k_of_tokens_};
  }
  bool needs_sums(std::int64_t m) const { return group_size_ > 0 && m <= kernel_.sums_up_to; }

  // Of all tokens of a block, one after another.
  struct Packed {
    std::int8_t* x;
    std::int16_t* group_sums;
  };
  Packed packed_memory(std::int64_t m) const {
    AlignedBuffer& buffer = activation_scratch();
    if (!buffer.reserve(activation_bytes())) throw std::bad_alloc();
    std::int8_t* x = buffer.as<std::int8_t>();
    return {x, reinterpret_cast<std::int16_t*>(x + sums_offset(m))};
  }
  void* worker_memory() const {
    AlignedBuffer& scratch = worker_scratch();
    if (!scratch.reserve(worker_bytes())) throw std::bad_alloc();
    return scratch.as<void>();
  }

  void pack_tiles(const ActivationTiles& tiles, const QuantizedRows& x, std::int64_t k_begin,
                  std::int64_t k_end, const Packed& packed) const {
    if (!stands_as_it_is(x)) {
      switch (kernel_.order) {
        case ActivationOrder::kQuads: pack_int8(tiles, x.x8, x.ld, k_begin, k_end, packed.x); break;
        case ActivationOrder::kWideWords:
          pack_int16(tiles, x.x8, x.ld, k_begin, k_end, reinterpret_cast<std::int16_t*>(packed.x));
          break;
        case ActivationOrder::kLines:
          pack_lines(tiles, x.x8, x.ld, k_begin, k_end, packed.x);
          break;
      }
    }
    if (needs_sums(x.m)) {
      pack_group_sums(tiles, x.x8, x.ld, group_size_, k_begin, k_end, packed.group_sums);
    }
  }
  // A single row that needs no padding is a tile.
  bool stands_as_it_is(const QuantizedRows& x) const {
    return x.m == 1 && kernel_.order != ActivationOrder::kWideWords && k_ == k_of_tokens_;
  }

  void pack(const QuantizedRows& x, IntegerJob& job, ThreadPool& pool) const {
    job.x = x.x8;
    if (stands_as_it_is(x) && !needs_sums(x.m)) return;
    const Packed packed = packed_memory(x.m);
    if (!stands_as_it_is(x)) job.x = packed.x;
    job.group_sums = packed.group_sums;

    const ActivationTiles tiles = tiles_of(job);
    const std::int64_t bytes = x.m * k_;
    if (x.m >= kQuad * pool.threads()) {
      share(pool, x.m, bytes >= kThreadedTokenBytes,
            [&](std::int64_t first, std::int64_t last, int) {
              ActivationTiles part = tiles;
              part.first = first;
              part.last = last;
              pack_tiles(part, x, 0, tiles.k_padded, packed);
            });
      return;
    }
    const std::int64_t steps = (tiles.k_padded + kPackStep - 1) / kPackStep;
    share(pool, steps, bytes >= kThreadedStretchBytes,
          [&](std::int64_t begin, std::int64_t end, int) {
            const std::int64_t k_end = std::min(end * kPackStep, tiles.k_padded);
            pack_tiles(tiles, x, begin * kPackStep, k_end, packed);
          });
  }

  PackedWeights weights_;
  PackedView next_;
  const IntegerKernel& kernel_;
  int group_size_ = 0;            // 0: INT8 weights
  std::int64_t k_of_tokens_ = 0;  // padded, as the packed activations lie
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
