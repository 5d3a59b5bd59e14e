// Chooses a schedule: the one of least expected time among all that fit, but for the layers of some
// well-known models where measurements know better.
#include <algorithm>
#include <array>
#include <cmath>

#include "gemm/cuda/layout.h"
#include "gemm/cuda/schedule.h"

namespace liquidgemm::cuda {
namespace {

// The kernel and the division of the work; stages and workers follow.
struct Choice {
  int tokens, blocks, groups, depth, split, multicast, stream;
};

Schedule to_schedule(const Choice& choice) {
  Schedule schedule;
  schedule.tokens = choice.tokens;
  schedule.blocks = choice.blocks;
  schedule.groups = choice.groups;
  schedule.depth = choice.depth;
  schedule.split = choice.split;
  schedule.multicast = choice.multicast;
  schedule.stream = choice.stream;
  return schedule;
}

// ---- Measured ---------------------------------------------------------------------------------

// Where the fastest schedule measured on one H200 (132 multiprocessors, groups of 64) is more than
// a hundredth faster than the one that is expected to be; for `first` to `last` tokens.
// scripts/tune_gemm.py measures these rows, CudaScheduleTiming of gemm_cuda_test those of floats.
struct TableRow {
  int n, k, first, last;
  Choice choice;
  bool floats = false;  // for outputs of four bytes alone, which take longer to write
};
constexpr int kTableMultiprocessors = 132;
constexpr TableRow kTable[] = {
    {22016, 4096, 193, 256, {128, 1, 3, 1, 1, 1, 0}, true},
    {5120, 13824, 97, 128, {128, 1, 3, 1, 4, 1, 0}, true},
    {22016, 4096, 1, 8, {8, 1, 3, 1, 1, 1, 0}},
    {22016, 4096, 9, 16, {16, 1, 3, 1, 1, 1, 0}},
    {22016, 4096, 17, 32, {32, 1, 3, 1, 1, 1, 0}},
    {22016, 4096, 257, 512, {128, 2, 2, 1, 1, 1, 0}},
    {22016, 4096, 513, 1024, {128, 1, 3, 1, 1, 1, 0}},
    {4096, 11008, 257, 512, {128, 1, 2, 1, 1, 1, 0}},
    {4096, 11008, 513, 1024, {256, 1, 2, 1, 1, 1, 0}},
    {28672, 4096, 257, 512, {256, 1, 2, 1, 1, 2, 1}},
    {4096, 14336, 257, 512, {128, 1, 2, 1, 1, 1, 0}},
    {4096, 14336, 513, 1024, {256, 1, 2, 1, 1, 1, 0}},
    {8192, 8192, 257, 512, {256, 1, 2, 1, 1, 1, 0}},
    {57344, 8192, 1, 8, {8, 1, 3, 1, 1, 1, 1}},
    {57344, 8192, 9, 16, {16, 1, 4, 1, 1, 1, 1}},
    {57344, 8192, 17, 32, {32, 1, 3, 1, 1, 1, 1}},
    {57344, 8192, 33, 64, {64, 2, 2, 1, 1, 1, 0}},
    {57344, 8192, 65, 128, {128, 2, 2, 1, 1, 2, 1}},
    {8192, 28672, 9, 16, {16, 1, 2, 2, 2, 1, 0}},
    {8192, 28672, 17, 32, {32, 1, 2, 2, 2, 1, 0}},
    {8192, 28672, 257, 512, {256, 1, 2, 1, 1, 1, 0}},
    {8192, 28672, 1025, 4096, {128, 2, 2, 1, 1, 2, 1}},
};

// Above 64 tokens a row serves only counts that fill 76 % of its tiles.
constexpr int kFilled = 76;

const Choice* find_in_table(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device) {
  if (device.multiprocessors != kTableMultiprocessors) return nullptr;
  if (desc.group_size == kInt8Weights) return nullptr;
  for (const TableRow& row : kTable) {
    if (row.n != desc.n || row.k != desc.k || m < row.first || m > row.last) continue;
    if (row.floats && desc.output != CudaOutput::kFloat32) continue;
    const int tokens = row.choice.tokens;
    const std::int64_t computed = (m + tokens - 1) / tokens * tokens;
    return m <= 64 || computed * kFilled <= m * 100 ? &row.choice : nullptr;
  }
  return nullptr;
}

// ---- Expected ---------------------------------------------------------------------------------

struct TileShape {
  int tokens, blocks, groups, depth;
};
// The compiled tiles (w4a8_tokens*.cu).
constexpr TileShape kTiles[] = {
    {8, 1, 4, 1},   {8, 1, 3, 1},   {8, 1, 2, 2},   {8, 1, 1, 4},   {16, 1, 4, 1},  {16, 1, 3, 1},
    {16, 1, 2, 2},  {16, 1, 1, 4},  {32, 1, 4, 1},  {32, 1, 3, 1},  {32, 1, 2, 2},  {32, 1, 1, 4},
    {64, 2, 2, 1},  {64, 1, 3, 1},  {64, 1, 2, 2},  {64, 1, 1, 2},  {96, 1, 3, 1},  {96, 1, 2, 1},
    {96, 1, 1, 2},  {128, 2, 2, 1}, {128, 1, 3, 1}, {128, 1, 2, 1}, {128, 1, 1, 2}, {160, 1, 3, 1},
    {160, 1, 2, 1}, {160, 1, 1, 2}, {160, 1, 1, 1}, {192, 1, 2, 1}, {192, 1, 1, 2}, {192, 1, 1, 1},
    {224, 1, 2, 1}, {224, 1, 1, 1}, {256, 1, 2, 1}, {256, 1, 1, 1},
};

// Microseconds for a unit of work on one multiprocessor, fitted to 2,900 measurements of 16 layers
// on an H200: the model's choice is 0.7 % slower than the best one on average. Shared memory takes
// what is loaded, and gives codes and, to every 64 rows anew, tokens. Only the proportions of these
// times matter here.
constexpr double kMultiply = 0.4419 / 4096e3;  // one multiply-add
constexpr double kUnpack = 0.037;              // 64 x 128 codes
constexpr double kShared = 0.003362e-3;        // a byte into or out of shared memory
constexpr double kContention = 0.0475;         // of the lesser of multiplying and shared memory
constexpr double kSerialBlock = 0.06185;       // 64 x 128 codes of one warp group alone,
constexpr double kSerialToken = 0.0006924;     // and for each token
constexpr double kStage = 0.1382;              // the least that any stage takes
constexpr double kCrossing = 0.006049e-6;      // a byte from the L2 into any multiprocessor
constexpr double kMemory = 0.2527e-6;          // a byte of weights, all multiprocessors
constexpr double kEnoughBlocks = 76.54;        // that keep the memory busy
constexpr double kLaunch = 2.92;               // launch, first bytes, drain
constexpr double kWave = 2.51;                 // each wave of clusters after the first
constexpr double kStore = 0.03136;             // outputs of 64 rows x 8 tokens
constexpr double kCluster = 0.3577;            // exchange across a cluster,
constexpr double kAcross = 0.06756 / 1024;     // a byte of sums received
constexpr double kMulticast = 0.7107;          // starting together
constexpr double kStream = 3.26;               // a cut tile,
constexpr double kPartial = 0.1985;            // its sums of 64 rows x 8 tokens through the L2

double expected_time(const Schedule& s, const CudaGemmDesc& desc, const WorkDivision& work,
                     const CudaDevice& device) {
  const double columns = static_cast<double>(column_blocks(desc.k));
  const double tiles = static_cast<double>(work.row_tiles) * work.token_tiles;
  const int tile_blocks = s.blocks * s.groups;
  const double units = s.blocks * s.tokens / 8.0;  // of a warp group
  const bool exchanges = s.split > 1 || s.depth > 1;
  // A step is one column block of one tile.
  double steps = 0.0, finished = 0.0, active = 0.0, waves = 1.0;
  if (exchanges) {
    waves = std::ceil(tiles / clusters_at_once(device, work.cluster));
    steps = waves * std::ceil(columns / s.split);
    finished = waves / (s.split * s.depth);
    active = std::min<double>(device.multiprocessors, tiles * work.cluster);
  } else {
    finished = std::ceil(tiles / work.workers);
    steps = work.stream_tiles > 0 ? tiles * columns / work.workers : finished * columns;
    active = static_cast<double>(work.workers) * s.multicast;
  }
  const double multiply = tile_blocks * 64.0 * s.tokens * kBlockColumns * kMultiply;
  const double weight_bytes = tile_blocks * static_cast<double>(block_bytes(desc.group_size));
  const double token_bytes = s.tokens * static_cast<double>(kBlockColumns);
  const double shared = (2.0 * weight_bytes + (1.0 + tile_blocks) * token_bytes) * kShared;
  const double serial = s.blocks * (kSerialBlock + kSerialToken * s.tokens) / s.depth;
  const double unpack = desc.group_size == kInt8Weights ? 0.0 : tile_blocks * kUnpack;
  const double step =
      std::max({multiply, shared, serial}) + kContention * std::min(multiply, shared) + unpack;
  const double crossing =
      tiles * s.multicast * columns * (weight_bytes + token_bytes / s.multicast) * kCrossing;
  const double loop = steps * std::max(step, kStage) + crossing;
  const double memory = static_cast<double>(packed_weight_bytes(desc)) * kMemory *
                        std::max(1.0, kEnoughBlocks / active);
  double rest = kLaunch + (waves - 1.0) * kWave + units * finished * kStore;
  if (s.split > 1) {
    rest += kCluster + s.groups * units * kUnitBytes * (s.split - 1) / s.split * kAcross;
  }
  if (s.multicast > 1) rest += kMulticast;
  if (work.stream_tiles > 0) rest += kStream + units * kPartial;
  return rest + std::max(loop, memory);
}

Schedule expect_fastest(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device) {
  Schedule best;
  double best_time = INFINITY;
  const auto consider = [&](const Schedule& schedule) {
    const auto work = divide_work(schedule, desc, m, device);
    if (!work.ok()) return;
    const double time = expected_time(schedule, desc, *work, device);
    if (time < best_time) {
      best = schedule;
      best_time = time;
    }
  };
  for (const TileShape& tile : kTiles) {
    // Of the kind that the model was fitted to: a tile far wider than the tokens only wastes
    // multiplications, a narrow one loads its rows anew for every few tokens.
    const std::int64_t narrowest = m <= 8   ? 8
                                   : m < 64 ? m
                                            : std::min<std::int64_t>((m + 1) / 2, 96);
    const std::int64_t widest = m <= 8 ? 8 : m <= 256 ? 2 * m - 1 : 256;
    if (tile.tokens < narrowest || tile.tokens > widest) continue;
    const auto choice = [&](int split, int multicast, int stream) {
      return to_schedule(
          {tile.tokens, tile.blocks, tile.groups, tile.depth, split, multicast, stream});
    };
    for (const int split : {1, 2, 3, 4, 5, 6, 8}) consider(choice(split, 1, 0));
    consider(choice(1, 1, 1));
    if (tile.tokens < 64) continue;
    consider(choice(1, 2, 0));
    consider(choice(1, 2, 1));
  }
  return best;
}

}  // namespace

Schedule choose_schedule(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device) {
  if (const Choice* choice = find_in_table(desc, m, device)) {
    const Schedule schedule = to_schedule(*choice);
    if (divide_work(schedule, desc, m, device).ok()) return schedule;
  }
  return expect_fastest(desc, m, device);
}

}  // namespace liquidgemm::cuda
