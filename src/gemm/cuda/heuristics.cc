// Chooses a schedule: from a table of measured choices for the layers of well-known models, and for
// every other the one of least expected time among all that fit.
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

// The fastest schedule found on one H200 (132 multiprocessors), groups of 64, for up to `m` tokens:
// `liquid bench gemm --schedules` times any others.
struct TableRow {
  int n, k, m;
  Choice choice;
};
constexpr int kTableMultiprocessors = 132;
constexpr int kFilled = 76;  // per cent
constexpr TableRow kTable[] = {
    {12288, 4096, 8, {8, 1, 2, 2, 1, 1, 0}},      {12288, 4096, 16, {16, 1, 2, 2, 1, 1, 0}},
    {12288, 4096, 32, {32, 1, 2, 2, 1, 1, 0}},    {12288, 4096, 64, {64, 1, 3, 1, 2, 1, 0}},
    {12288, 4096, 128, {128, 1, 3, 1, 2, 1, 0}},  {12288, 4096, 192, {96, 1, 3, 1, 1, 1, 0}},
    {12288, 4096, 256, {128, 1, 3, 1, 1, 1, 0}},  {12288, 4096, 512, {128, 1, 3, 1, 1, 2, 0}},
    {12288, 4096, 1024, {128, 2, 2, 1, 1, 2, 0}}, {12288, 4096, 4096, {256, 1, 2, 1, 1, 2, 1}},
    {4096, 4096, 8, {8, 1, 1, 4, 2, 1, 0}},       {4096, 4096, 16, {16, 1, 1, 4, 2, 1, 0}},
    {4096, 4096, 32, {32, 1, 1, 4, 2, 1, 0}},     {4096, 4096, 64, {64, 1, 1, 2, 2, 1, 0}},
    {4096, 4096, 128, {128, 1, 1, 2, 2, 1, 0}},   {4096, 4096, 192, {96, 1, 1, 2, 1, 1, 0}},
    {4096, 4096, 256, {128, 1, 1, 2, 1, 1, 0}},   {4096, 4096, 512, {256, 1, 1, 2, 1, 1, 0}},
    {4096, 4096, 1024, {256, 1, 2, 1, 1, 1, 0}},  {4096, 4096, 4096, {256, 1, 2, 1, 1, 1, 0}},
    {22016, 4096, 8, {8, 1, 3, 1, 1, 1, 0}},      {22016, 4096, 16, {16, 1, 3, 1, 1, 1, 0}},
    {22016, 4096, 32, {32, 1, 3, 1, 1, 1, 0}},    {22016, 4096, 64, {64, 1, 3, 1, 1, 1, 0}},
    {22016, 4096, 128, {128, 1, 3, 1, 1, 1, 0}},  {22016, 4096, 192, {192, 1, 2, 1, 1, 2, 1}},
    {22016, 4096, 256, {256, 1, 2, 1, 1, 2, 1}},  {22016, 4096, 512, {128, 2, 2, 1, 1, 2, 0}},
    {22016, 4096, 1024, {256, 1, 2, 1, 1, 2, 1}}, {22016, 4096, 4096, {256, 1, 2, 1, 1, 2, 1}},
    {4096, 11008, 8, {8, 1, 1, 4, 2, 1, 0}},      {4096, 11008, 16, {16, 1, 1, 4, 2, 1, 0}},
    {4096, 11008, 32, {32, 1, 1, 4, 2, 1, 0}},    {4096, 11008, 64, {64, 1, 1, 2, 2, 1, 0}},
    {4096, 11008, 128, {128, 1, 1, 2, 2, 1, 0}},  {4096, 11008, 192, {192, 1, 1, 2, 2, 1, 0}},
    {4096, 11008, 256, {256, 1, 1, 2, 2, 1, 0}},  {4096, 11008, 512, {256, 1, 1, 2, 1, 1, 0}},
    {4096, 11008, 1024, {128, 2, 2, 1, 1, 2, 0}}, {4096, 11008, 4096, {256, 1, 2, 1, 1, 2, 0}},
    {6144, 4096, 8, {8, 1, 2, 2, 2, 1, 0}},       {6144, 4096, 16, {16, 1, 2, 2, 2, 1, 0}},
    {6144, 4096, 32, {32, 1, 2, 2, 2, 1, 0}},     {6144, 4096, 64, {64, 1, 1, 2, 1, 1, 0}},
    {6144, 4096, 128, {128, 1, 1, 2, 1, 1, 0}},   {6144, 4096, 192, {192, 1, 1, 2, 1, 1, 0}},
    {6144, 4096, 256, {256, 1, 1, 2, 1, 1, 0}},   {6144, 4096, 512, {128, 1, 3, 1, 1, 1, 0}},
    {6144, 4096, 1024, {128, 1, 3, 1, 1, 1, 0}},  {6144, 4096, 4096, {256, 1, 2, 1, 1, 1, 0}},
    {28672, 4096, 8, {8, 1, 4, 1, 1, 1, 0}},      {28672, 4096, 16, {16, 1, 4, 1, 1, 1, 0}},
    {28672, 4096, 32, {32, 1, 4, 1, 1, 1, 0}},    {28672, 4096, 64, {64, 2, 2, 1, 1, 1, 0}},
    {28672, 4096, 128, {128, 2, 2, 1, 1, 1, 0}},  {28672, 4096, 192, {192, 1, 2, 1, 1, 1, 0}},
    {28672, 4096, 256, {256, 1, 2, 1, 1, 1, 0}},  {28672, 4096, 512, {256, 1, 2, 1, 1, 2, 1}},
    {28672, 4096, 1024, {256, 1, 2, 1, 1, 2, 0}}, {28672, 4096, 4096, {256, 1, 2, 1, 1, 2, 1}},
    {4096, 14336, 8, {8, 1, 1, 4, 2, 1, 0}},      {4096, 14336, 16, {16, 1, 1, 4, 2, 1, 0}},
    {4096, 14336, 32, {32, 1, 1, 4, 2, 1, 0}},    {4096, 14336, 64, {64, 1, 1, 2, 2, 1, 0}},
    {4096, 14336, 128, {128, 1, 1, 2, 2, 1, 0}},  {4096, 14336, 192, {192, 1, 1, 2, 2, 1, 0}},
    {4096, 14336, 256, {256, 1, 1, 2, 2, 1, 0}},  {4096, 14336, 512, {256, 1, 1, 2, 1, 1, 0}},
    {4096, 14336, 1024, {256, 1, 2, 1, 1, 1, 0}}, {4096, 14336, 4096, {256, 1, 2, 1, 1, 1, 0}},
    {10240, 8192, 8, {8, 1, 2, 2, 1, 1, 0}},      {10240, 8192, 16, {16, 1, 2, 2, 1, 1, 0}},
    {10240, 8192, 32, {32, 1, 3, 1, 2, 1, 0}},    {10240, 8192, 64, {64, 1, 3, 1, 2, 1, 0}},
    {10240, 8192, 128, {128, 1, 3, 1, 2, 1, 0}},  {10240, 8192, 192, {192, 1, 2, 1, 1, 1, 1}},
    {10240, 8192, 256, {128, 1, 3, 1, 1, 1, 0}},  {10240, 8192, 512, {256, 1, 2, 1, 1, 2, 1}},
    {10240, 8192, 1024, {256, 1, 2, 1, 1, 2, 1}}, {10240, 8192, 4096, {256, 1, 2, 1, 1, 2, 1}},
    {8192, 8192, 8, {8, 1, 1, 4, 1, 1, 0}},       {8192, 8192, 16, {16, 1, 1, 4, 1, 1, 0}},
    {8192, 8192, 32, {32, 1, 1, 4, 1, 1, 0}},     {8192, 8192, 64, {64, 1, 1, 2, 1, 1, 0}},
    {8192, 8192, 128, {128, 1, 1, 2, 1, 1, 0}},   {8192, 8192, 192, {192, 1, 1, 2, 1, 1, 0}},
    {8192, 8192, 256, {256, 1, 1, 2, 1, 1, 0}},   {8192, 8192, 512, {256, 1, 2, 1, 1, 2, 0}},
    {8192, 8192, 1024, {256, 1, 2, 1, 1, 1, 0}},  {8192, 8192, 4096, {256, 1, 2, 1, 1, 2, 1}},
    {57344, 8192, 8, {8, 1, 3, 1, 1, 1, 1}},      {57344, 8192, 16, {16, 1, 3, 1, 1, 1, 1}},
    {57344, 8192, 32, {32, 1, 4, 1, 1, 1, 0}},    {57344, 8192, 64, {64, 2, 2, 1, 1, 1, 0}},
    {57344, 8192, 128, {128, 2, 2, 1, 1, 2, 1}},  {57344, 8192, 192, {192, 1, 2, 1, 1, 2, 1}},
    {57344, 8192, 256, {256, 1, 2, 1, 1, 2, 1}},  {57344, 8192, 512, {256, 1, 2, 1, 1, 2, 1}},
    {57344, 8192, 1024, {256, 1, 2, 1, 1, 2, 1}}, {57344, 8192, 4096, {256, 1, 2, 1, 1, 2, 1}},
    {8192, 28672, 8, {8, 1, 2, 2, 2, 1, 0}},      {8192, 28672, 16, {16, 1, 2, 2, 2, 1, 0}},
    {8192, 28672, 32, {32, 1, 2, 2, 2, 1, 0}},    {8192, 28672, 64, {64, 1, 2, 2, 2, 1, 0}},
    {8192, 28672, 128, {128, 1, 2, 1, 2, 1, 0}},  {8192, 28672, 192, {192, 1, 2, 1, 2, 1, 0}},
    {8192, 28672, 256, {256, 1, 2, 1, 2, 1, 0}},  {8192, 28672, 512, {256, 1, 2, 1, 1, 1, 0}},
    {8192, 28672, 1024, {128, 2, 2, 1, 1, 2, 0}}, {8192, 28672, 4096, {256, 1, 2, 1, 1, 2, 1}},
};

// The row for the next larger count serves as long as its tiles are well filled; the last row
// serves more tokens too.
const Choice* find_in_table(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device) {
  if (device.multiprocessors != kTableMultiprocessors) return nullptr;
  const Choice* found = nullptr;
  for (const TableRow& row : kTable) {
    if (row.n != desc.n || row.k != desc.k) continue;
    found = &row.choice;
    if (m > row.m) continue;
    const std::int64_t computed = (m + found->tokens - 1) / found->tokens * found->tokens;
    return m <= 64 || computed * kFilled <= m * 100 ? found : nullptr;
  }
  return found;
}

// ---- Expected ---------------------------------------------------------------------------------

struct TileShape {
  int tokens, blocks, groups, depth;
};
// The compiled tiles (w4a8_tokens*.cu).
constexpr TileShape kTiles[] = {
    {8, 1, 4, 1},   {8, 1, 3, 1},   {8, 1, 2, 2},   {8, 1, 1, 4},   {16, 1, 4, 1},  {16, 1, 3, 1},
    {16, 1, 2, 2},  {16, 1, 1, 4},  {32, 1, 4, 1},  {32, 1, 3, 1},  {32, 1, 2, 2},  {32, 1, 1, 4},
    {64, 2, 2, 1},  {64, 1, 3, 1},  {64, 1, 2, 2},  {64, 1, 1, 4},  {64, 1, 1, 2},  {96, 2, 2, 1},
    {96, 1, 3, 1},  {96, 1, 2, 1},  {96, 1, 1, 2},  {128, 2, 2, 1}, {128, 1, 3, 1}, {128, 1, 2, 1},
    {128, 1, 1, 2}, {192, 1, 2, 1}, {192, 1, 1, 2}, {256, 1, 2, 1}, {256, 1, 1, 2},
};

// Microseconds for a unit of work on one multiprocessor, fitted to 2,100 measurements of 16 layers
// on an H200: the model's choice is 1.5 % slower than the best one on average. Shared memory limits
// the main loop more often than arithmetic does: it takes what is loaded, and gives codes and, to
// every 64 rows anew, tokens. Only the proportions of these times matter here.
constexpr double kMultiply = 0.2252 / 4096e3;  // one multiply-add
constexpr double kUnpack = 0.04355;            // 64 x 128 codes
constexpr double kShared = 0.003581e-3;        // a byte into or out of shared memory
constexpr double kSerialBlock = 0.07733;       // 64 x 128 codes of one warp group alone,
constexpr double kSerialToken = 0.0007055;     // and for each token
constexpr double kContention = 0.1409;         // of the lesser of multiplying and shared memory
constexpr double kMemory = 0.2041e-6;          // a byte of weights, all multiprocessors
constexpr double kEnoughBlocks = 55.52;        // that keep the memory busy
constexpr double kOverlap = 0.1896;            // of the lesser of main loop and memory
constexpr double kLaunch = 3.439;              // launch, first bytes, drain
constexpr double kWave = 2.784;                // each wave of clusters after the first
constexpr double kStore = 0.005886;            // outputs of 64 rows x 8 tokens
constexpr double kCluster = 0.1572;            // exchange across a cluster,
constexpr double kAcross = 0.06165 / 1024;     // a byte of sums received
constexpr double kDepth = 0.08087;             // exchange within a block,
constexpr double kWithin = 0.00216 / 1024;     // a byte of sums received
constexpr double kMulticast = 0.04272;         // starting together
constexpr double kStream = 6.501;              // a cut tile,
constexpr double kPartial = 0.1731;            // its sums of 64 rows x 8 tokens through the L2

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
  const double loop = steps * (std::max({multiply, shared, serial}) +
                               kContention * std::min(multiply, shared) + tile_blocks * kUnpack);
  const double memory = static_cast<double>(packed_weight_bytes(desc)) * kMemory *
                        std::max(1.0, kEnoughBlocks / active);
  double rest = kLaunch + (waves - 1.0) * kWave + units * finished * kStore;
  if (s.split > 1) {
    rest += kCluster + s.groups * units * kUnitBytes * (s.split - 1) / s.split * kAcross;
  }
  if (s.depth > 1) rest += kDepth + s.groups * units * kUnitBytes * (s.depth - 1) * kWithin;
  if (s.multicast > 1) rest += kMulticast;
  if (work.stream_tiles > 0) rest += kStream + units * kPartial;
  return rest + std::max(loop, memory) + kOverlap * std::min(loop, memory);
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
    const std::int64_t narrowest = m <= 8 ? 8 : m < 64 ? m : m <= 256 ? (m + 1) / 2 : 128;
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
