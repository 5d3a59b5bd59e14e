// Chooses a schedule: the one of least expected time among all that fit.
//
// The expected time is a model of four limits that overlap in the main loop, and of what does not
// overlap. Its constants are times per unit of work on one multiprocessor, fitted to measurements
// (docs/kernels.md); the number of multiprocessors comes from the device.
#include <algorithm>
#include <array>
#include <cmath>

#include "gemm/cuda/layout.h"
#include "gemm/cuda/schedule.h"

namespace liquidgemm::cuda {
namespace {

struct TileShape {
  int tokens, blocks, groups, depth;
};
// The compiled tiles (w4a8_tokens*.cu).
constexpr std::array<TileShape, 25> kTiles = {{
    {8, 1, 4, 1},   {8, 1, 3, 1},   {8, 1, 2, 2},   {8, 1, 1, 4},   {16, 1, 4, 1},
    {16, 1, 3, 1},  {16, 1, 2, 2},  {16, 1, 1, 4},  {32, 1, 4, 1},  {32, 1, 3, 1},
    {32, 1, 2, 2},  {32, 1, 1, 4},  {64, 1, 3, 1},  {96, 1, 3, 1},  {128, 1, 3, 1},
    {64, 2, 2, 1},  {64, 1, 2, 2},  {64, 1, 1, 4},  {96, 2, 2, 1},  {96, 1, 2, 1},
    {128, 2, 2, 1}, {128, 1, 2, 1}, {128, 1, 1, 2}, {192, 1, 2, 1}, {256, 1, 2, 1},
}};

// Microseconds.
constexpr double kLaunch = 2.2;           // launch, first bytes, drain
constexpr double kExchange = 0.9;         // split or depth: synchronisation of a cluster
constexpr double kExchangePerKb = 0.008;  // sums received by a block
constexpr double kStream = 2.0;           // partial sums through the L2
constexpr double kUnitStore = 0.006;      // epilogue of one unit of 64 x 8 outputs of a warp group
constexpr double kMultiply = 1.0 / (4096.0 * 1600.0);  // one multiply-add
constexpr double kUnpackBlock = 0.030;                 // 64 x 128 codes, shared by the warp groups
constexpr double kLoadByte = 1.0 / 62000.0;            // into one multiprocessor, from L2
constexpr double kMemoryByte = 1.0 / 4.45e6;           // of HBM, all multiprocessors together

double expected_time(const Schedule& s, const CudaGemmDesc& desc, const WorkDivision& work,
                     int multiprocessors) {
  const double columns = static_cast<double>(column_blocks(desc.k));
  const double tiles = static_cast<double>(work.row_tiles) * work.token_tiles;
  const int tile_blocks = s.blocks * s.groups;
  // One step is one column block of one tile.
  double steps = 0.0;
  double finished = 1.0;  // tiles a block stores
  if (s.split > 1 || s.depth > 1) {
    const double clusters_at_once = std::floor(static_cast<double>(multiprocessors) / work.cluster);
    const double waves = std::ceil(tiles / std::max(1.0, clusters_at_once));
    steps = waves * std::ceil(columns / s.split);
    finished = waves;
  } else if (work.stream_tiles > 0) {
    steps = tiles * columns / work.workers;
    finished = std::ceil(tiles / work.workers);
  } else {
    finished = std::ceil(tiles / work.workers);
    steps = finished * columns;
  }
  const double multiply = tile_blocks * 64.0 * s.tokens * 128.0 * kMultiply;
  const double unpack = tile_blocks * kUnpackBlock;
  const double load = (tile_blocks * static_cast<double>(block_bytes(desc.group_size)) +
                       s.tokens * 128.0 / s.multicast) *
                      kLoadByte;
  const double loop = steps * std::max({multiply, unpack, load});
  const double memory = static_cast<double>(packed_weight_bytes(desc)) * kMemoryByte;
  const double units = static_cast<double>(s.blocks) * s.tokens / 8;
  double rest = kLaunch + units * finished * kUnitStore / s.split / s.depth;
  if (s.split > 1 || s.depth > 1) {
    const double received =
        s.groups * units * s.depth * 2.0 * (s.split * s.depth - 1) / (s.split * s.depth);
    rest += kExchange + received * kExchangePerKb;
  }
  if (work.stream_tiles > 0) rest += kStream;
  // Loads and multiplications overlap, but not perfectly.
  return rest + std::max(loop, memory) + 0.1 * std::min(loop, memory);
}

}  // namespace

Schedule choose_schedule(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device) {
  Schedule best;
  double best_time = INFINITY;
  const auto consider = [&](const Schedule& schedule) {
    const auto work = divide_work(schedule, desc, m, device);
    if (!work.ok()) return;
    const double time = expected_time(schedule, desc, *work, device.multiprocessors);
    if (time < best_time) {
      best = schedule;
      best_time = time;
    }
  };
  for (const TileShape& tile : kTiles) {
    // A tile far wider than the tokens only wastes multiplications.
    if (tile.tokens >= 2 * m && tile.tokens > 8) continue;
    Schedule schedule;
    schedule.tokens = tile.tokens;
    schedule.blocks = tile.blocks;
    schedule.groups = tile.groups;
    schedule.depth = tile.depth;
    for (const int split : {1, 2, 3, 4, 5, 6, 8}) {
      schedule.split = split;
      consider(schedule);
    }
    schedule.split = 1;
    for (const int multicast : {1, 2}) {
      schedule.multicast = multicast;
      for (const int stream : {0, 1}) {
        schedule.stream = stream;
        consider(schedule);
      }
    }
  }
  return best;
}

}  // namespace liquidgemm::cuda
