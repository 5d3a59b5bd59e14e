// The FP16 layer on Hopper: weights stream through a ring in shared memory and are multiplied as
// the first operand, so that a tile of tokens may be as narrow as 8.
//
// A block of threads has some channels and some tokens. One warp copies what a step needs of both
// by the copy engine; the others multiply. A weight is read once from memory for as many tokens as
// a block takes; blocks of the same channels follow each other, so that the next tokens find it in
// the second-level cache.
#include <cuda_runtime.h>

#include <algorithm>
#include <limits>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/fp16_linear.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "gemm/cuda/ptx/matrix.h"
#include "gemm/cuda/ptx/mma.h"
#include "gemm/cuda/row_checks.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kRowBytes = kFp16StepK * 2;
constexpr int kTile = 16;                                     // channels, and k of one product
constexpr int kTileBytes = kTile * kTile * 2;                 // of weights
constexpr int kTilesOfStep = kFp16StepK / kTile;              // along k
constexpr int kChannelTileBytes = kTilesOfStep * kTileBytes;  // 16 channels of a step

struct Fp16Parameters {
  const std::uint8_t* packed = nullptr;
  const std::uint8_t* x = nullptr;
  float* y = nullptr;
  std::int64_t ld_y = 0;
  int n = 0;
  int m = 0;
  int steps = 0;
  int channel_blocks = 0;  // of packed weights
  int token_tiles = 0;
  int tile_tokens = 0;  // a multiple of 8, at most the kernel's
  std::uint64_t weight_policy = 0;
};

// What a block of threads computes, and how its warps share it.
template <int kChannels_, int kTokens_, int kWarpChannels_, int kWarpTokens_, int kStages_,
          int kBlocks_>
struct Fp16Shape {
  static constexpr int kChannels = kChannels_;
  static constexpr int kTokens = kTokens_;
  static constexpr int kWarpChannels = kWarpChannels_;
  static constexpr int kWarpTokens = kWarpTokens_;
  static constexpr int kStages = kStages_;
  static constexpr int kBlocks = kBlocks_;  // on one multiprocessor
  static constexpr int kTokenWarps = kTokens / kWarpTokens;
  static constexpr int kWarps = kChannels / kWarpChannels * kTokenWarps;  // that multiply
  static constexpr int kThreads = (kWarps + 1) * 32;
  static constexpr int kWeightBytes = kChannels * kRowBytes;  // of a stage
  static constexpr int kStageBytes = kWeightBytes + kTokens * kRowBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kChannels % kFp16BlockChannels == 0 && kWarpChannels % kTile == 0);
  static_assert(kWarpTokens == 8 || kWarpTokens % 16 == 0);
};

// Fills the ring, step by step.
template <typename Shape>
class Fp16Loader {
 public:
  __device__ Fp16Loader(const Fp16Parameters& p, int channel_tile, int first_token,
                        std::uint32_t ring, std::uint32_t full)
      : p_(p), ring_(ring), full_(full) {
    constexpr int kBlocks = Shape::kChannels / kFp16BlockChannels;
    const int first_block = channel_tile * kBlocks;
    blocks_ = min(kBlocks, p.channel_blocks - first_block);
    weights_ = p.packed + std::int64_t{first_block} * p.steps * kFp16BlockBytes;
    x_ = p.x + std::int64_t{first_token} * kRowBytes;
    x_bytes_ = min(p.tile_tokens, p.m - first_token) * kRowBytes;
  }

  __device__ void load_weights(int step, int stage) const {
    constexpr int kBytes = static_cast<int>(kFp16BlockBytes);
    const std::uint32_t barrier = full_ + 8 * stage;
    ptx::mbarrier_expect_bytes(barrier, static_cast<std::uint32_t>(blocks_ * kBytes + x_bytes_));
    for (int block = 0; block < blocks_; ++block) {
      const std::int64_t at = std::int64_t{block} * p_.steps + step;
      ptx::copy_bulk(ring_ + stage * Shape::kStageBytes + block * kBytes, weights_ + at * kBytes,
                     kBytes, barrier, p_.weight_policy);
    }
  }
  __device__ void load_rows(int step, int stage) const {
    ptx::copy_bulk(ring_ + stage * Shape::kStageBytes + Shape::kWeightBytes,
                   x_ + std::int64_t{step} * p_.m * kRowBytes, x_bytes_, full_ + 8 * stage,
                   ptx::kEvictLast);
  }

 private:
  const Fp16Parameters& p_;
  std::uint32_t ring_, full_;
  int blocks_;  // fewer than a tile has at the end of N
  const std::uint8_t* weights_;
  const std::uint8_t* x_;
  int x_bytes_;
};

template <typename Shape>
__device__ void copy_steps(const Fp16Loader<Shape>& loader, int steps, std::uint32_t empty) {
  const int first = min(steps, Shape::kStages);
  // No kernel of a step writes weights: they need not wait for the one before.
  for (int step = 0; step < first; ++step) loader.load_weights(step, step);
  ptx::wait_for_previous_kernel();
  for (int step = 0; step < first; ++step) loader.load_rows(step, step);
  int stage = 0;
  std::uint32_t parity = 0;
  for (int step = Shape::kStages; step < steps; ++step) {
    ptx::mbarrier_wait(empty + 8 * stage, parity);
    loader.load_weights(step, stage);
    loader.load_rows(step, stage);
    if (++stage == Shape::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// One warp's part: kWarpChannels x kWarpTokens sums.
template <typename Shape>
class Fp16Sums {
 public:
  static constexpr int kRows = Shape::kWarpChannels / kTile;
  static constexpr int kColumns = Shape::kWarpTokens / 8;

  // Shared addresses inside a stage: of this lane's 16 bytes of the first tile of weights, and of
  // the row of x whose address it gives.
  __device__ Fp16Sums(int warp, int lane) {
    channel_ = warp / Shape::kTokenWarps * Shape::kWarpChannels;
    token_ = warp % Shape::kTokenWarps * Shape::kWarpTokens;
    a_at_ = channel_ / kTile * kChannelTileBytes + lane * 16;
    // Matrices 0 and 1 are tokens 0 .. 7, first and second eight of k; 2 and 3 the same of tokens
    // 8 .. 15 or, with 8 tokens a warp, of the next 16 k.
    const int matrix = lane / 8;
    row_ = lane % 8;
    eight_ = kColumns == 1 ? matrix : matrix % 2;
    const int token = token_ + row_ + (kColumns == 1 ? 0 : matrix / 2 * 8);
    b_at_ = Shape::kWeightBytes + token * kRowBytes;
  }

  __device__ void add_step(std::uint32_t stage) {
    if constexpr (kColumns == 1) {
#pragma unroll
      for (int k = 0; k < kTilesOfStep; k += 2) {
        std::uint32_t b[4];
        load_rows(stage, 0, k, b);
        const std::uint32_t first[1][2] = {{b[0], b[1]}};
        const std::uint32_t second[1][2] = {{b[2], b[3]}};
        multiply(stage, k, first);
        multiply(stage, k + 1, second);
      }
    } else {
#pragma unroll
      for (int k = 0; k < kTilesOfStep; ++k) {
        std::uint32_t b[kColumns][2];
#pragma unroll
        for (int pair = 0; pair < kColumns / 2; ++pair) {
          std::uint32_t four[4];
          load_rows(stage, pair, k, four);
          b[2 * pair][0] = four[0];
          b[2 * pair][1] = four[1];
          b[2 * pair + 1][0] = four[2];
          b[2 * pair + 1][1] = four[3];
        }
        multiply(stage, k, b);
      }
    }
  }

  // A lane has channels g and g + 8 of a tile at tokens 2 t and 2 t + 1, so eight lanes write 32
  // bytes of a row.
  __device__ void store(const Fp16Parameters& p, int first_channel, int first_token,
                        int lane) const {
    const int tokens = min(p.tile_tokens, p.m - first_token);
    const int channel = first_channel + channel_ + lane / 4;
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        const int token = token_ + 8 * column + 2 * (lane % 4) + which;
        if (token >= tokens) continue;
        float* y = p.y + (first_token + token) * p.ld_y;
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
          const int n = channel + kTile * row;
          if (n < p.n) y[n] = sums_[row][column][which];
          if (n + 8 < p.n) y[n + 8] = sums_[row][column][2 + which];
        }
      }
    }
  }

 private:
  __device__ void load_rows(std::uint32_t stage, int pair, int k, std::uint32_t (&b)[4]) const {
    const int place = (2 * k + eight_) ^ row_;
    ptx::load_matrices(stage + b_at_ + pair * 16 * kRowBytes + place * 16, b);
  }

  __device__ void multiply(std::uint32_t stage, int k, const std::uint32_t (&b)[kColumns][2]) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      std::uint32_t a[4];
      ptx::load_fragment(stage + a_at_ + row * kChannelTileBytes + k * kTileBytes, a);
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
        ptx::mma_f16(sums_[row][column], a, b[column]);
      }
    }
  }

  int channel_, token_;  // the first, in the block's tile
  int a_at_, b_at_;
  int row_, eight_;
  float sums_[kRows][kColumns][4] = {};
};

template <typename Shape>
__global__ __launch_bounds__(Shape::kThreads, Shape::kBlocks) void fp16_kernel(
    const __grid_constant__ Fp16Parameters p) {
  extern __shared__ __align__(128) std::uint8_t shared_ring[];
  __shared__ __align__(8) std::uint64_t shared_full[Shape::kStages];
  __shared__ __align__(8) std::uint64_t shared_empty[Shape::kStages];
  ptx::launch_dependents();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int channel_tile = static_cast<int>(blockIdx.x) / p.token_tiles;
  const int first_token = static_cast<int>(blockIdx.x) % p.token_tiles * p.tile_tokens;
  const std::uint32_t ring = ptx::shared_address(shared_ring);
  const std::uint32_t full = ptx::shared_address(shared_full);
  const std::uint32_t empty = ptx::shared_address(shared_empty);
  if (warp == Shape::kWarps) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      ptx::mbarrier_init(full + 8 * stage, 1);
      ptx::mbarrier_init(empty + 8 * stage, Shape::kWarps);
    }
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (warp == Shape::kWarps) {
    copy_steps(Fp16Loader<Shape>(p, channel_tile, first_token, ring, full), p.steps, empty);
    return;
  }
  // The logits of the step before may still be read until then.
  ptx::wait_for_previous_kernel();
  Fp16Sums<Shape> sums(warp, lane);
  int stage = 0;
  std::uint32_t parity = 0;
  for (int step = 0; step < p.steps; ++step) {
    ptx::mbarrier_wait(full + 8 * stage, parity);
    sums.add_step(ring + stage * Shape::kStageBytes);
    __syncwarp();
    ptx::mbarrier_arrive(empty + 8 * stage, lane == 0);
    if (++stage == Shape::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  sums.store(p, channel_tile * Shape::kChannels, first_token, lane);
}

// One thread makes a lane's 16 bytes of one tile.
constexpr int kPackThreads = 256;

__global__ __launch_bounds__(kPackThreads) void pack_fp16_kernel(PackFp16Arguments arguments) {
  const std::int64_t steps = fp16_steps(arguments.k);
  const std::int64_t index = std::int64_t{blockIdx.x} * kPackThreads + threadIdx.x;
  const std::int64_t block = index * 16 / kFp16BlockBytes;  // [block of channels][step]
  if (block >= fp16_blocks(arguments.rows) * steps) return;
  const int inside = static_cast<int>(index % (kFp16BlockBytes / 16));
  const int lane = inside % 32;
  const int k_tile = inside / 32 % kTilesOfStep;
  const int channel_tile = inside / 32 / kTilesOfStep;
  const std::int64_t row = block / steps * kFp16BlockChannels + channel_tile * kTile + lane / 4;
  const std::int64_t column = block % steps * kFp16StepK + k_tile * kTile + 2 * (lane % 4);
  // Two neighbours; K is even.
  const auto pair = [&](std::int64_t r, std::int64_t k) -> std::uint32_t {
    if (r >= arguments.rows || k >= arguments.k) return 0;
    return static_cast<const std::uint32_t*>(arguments.weight)[(r * arguments.k + k) / 2];
  };
  auto* to = static_cast<uint4*>(arguments.packed) +
             arguments.first_row / kFp16BlockChannels * steps * (kFp16BlockBytes / 16);
  to[index] = make_uint4(pair(row, column), pair(row + 8, column), pair(row, column + 8),
                         pair(row + 8, column + 8));
}

template <typename Shape>
Status launch(Fp16Parameters p, CudaStream stream) {
  // Once; remembers a failure too.
  static const Status opted_in = cuda_status(
      cudaFuncSetAttribute(fp16_kernel<Shape>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           Shape::kSharedBytes),
      "cudaFuncSetAttribute(fp16_linear)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  const unsigned channel_tiles = blocks_for(p.n, Shape::kChannels);
  launch_early(fp16_kernel<Shape>, dim3(channel_tiles * static_cast<unsigned>(p.token_tiles)),
               Shape::kThreads, Shape::kSharedBytes, stream, p);
  return launch_status("fp16_linear");
}

// channels, tokens, channels and tokens of a warp, stages, blocks of a multiprocessor. The more
// tokens, the more channels: every block reads its tokens' rows anew, out of the second-level
// cache.
using Tokens8 = Fp16Shape<128, 8, 32, 8, 4, 3>;
using Tokens16 = Fp16Shape<128, 16, 32, 16, 4, 3>;
using Tokens32 = Fp16Shape<128, 32, 32, 32, 5, 2>;
using Tokens64 = Fp16Shape<256, 64, 32, 64, 5, 1>;
using Tokens96 = Fp16Shape<256, 96, 64, 48, 5, 1>;
using Tokens128 = Fp16Shape<256, 128, 64, 64, 4, 1>;
constexpr int kMostTokens = Tokens128::kTokens;

}  // namespace

Status pack_fp16_weights(const PackFp16Arguments& arguments, CudaStream stream) {
  const RowChecks check("pack_fp16_weights");
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("the number of rows", arguments.rows));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("K", arguments.k, 8));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the weights", arguments.weight, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the packed weights", arguments.packed, 16));
  if (arguments.first_row < 0 || arguments.first_row % kFp16BlockChannels != 0) {
    return check.refused("the first row is no multiple of 64");
  }
  const std::int64_t lanes = fp16_packed_bytes(arguments.rows, arguments.k) / 16;
  pack_fp16_kernel<<<blocks_for(lanes, kPackThreads), kPackThreads, 0, stream>>>(arguments);
  return launch_status("pack_fp16_weights");
}

Status fp16_linear(const Fp16LinearArguments& arguments, CudaStream stream) {
  const RowChecks check("fp16_linear");
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("M", arguments.m));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("N", arguments.n, 8));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("K", arguments.k, 8));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the weights", arguments.packed, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("x", arguments.x, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(
      check.matrix("y", arguments.y, arguments.ld_y, arguments.n, sizeof(float), 32));
  Fp16Parameters p;
  p.packed = static_cast<const std::uint8_t*>(arguments.packed);
  p.x = static_cast<const std::uint8_t*>(arguments.x);
  p.y = arguments.y;
  p.ld_y = arguments.ld_y;
  p.n = static_cast<int>(arguments.n);
  p.m = static_cast<int>(arguments.m);
  p.steps = static_cast<int>(fp16_steps(arguments.k));
  p.channel_blocks = static_cast<int>(fp16_blocks(arguments.n));
  // Tiles of nearly equal height.
  const std::int64_t tiles = (arguments.m + kMostTokens - 1) / kMostTokens;
  p.token_tiles = static_cast<int>(tiles);
  p.tile_tokens = static_cast<int>(((arguments.m + tiles - 1) / tiles + 7) / 8 * 8);
  p.weight_policy = tiles == 1 ? ptx::kEvictFirst : ptx::kEvictNormal;
  if (blocks_for(arguments.n, Tokens128::kChannels) * tiles >
      std::numeric_limits<std::int32_t>::max()) {
    return check.refused("M and N are too large for one launch");
  }
  if (p.tile_tokens <= Tokens8::kTokens) return launch<Tokens8>(p, stream);
  if (p.tile_tokens <= Tokens16::kTokens) return launch<Tokens16>(p, stream);
  if (p.tile_tokens <= Tokens32::kTokens) return launch<Tokens32>(p, stream);
  if (p.tile_tokens <= Tokens64::kTokens) return launch<Tokens64>(p, stream);
  if (p.tile_tokens <= Tokens96::kTokens) return launch<Tokens96>(p, stream);
  return launch<Tokens128>(p, stream);
}

}  // namespace liquidgemm::cuda
