// How a W4A8 launch is laid out: the kernel's tile and warp groups, and the division of the work.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gemm/cuda/tile_sizes.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm::cuda {

// As text: "tokens=64,blocks=2,groups=2,depth=1,stages=8,split=1,multicast=1,stream=0,workers=132".
// The first four name a kernel; the others may be left out.
struct Schedule {
  int tokens = 0;     // of a tile
  int blocks = 1;     // 64-row blocks of a consumer warp group
  int groups = 1;     // consumer warp groups beside each other along the rows
  int depth = 1;      // consumer warp groups that take turns along K
  int stages = 0;     // of the ring; 0: as many as fit
  int split = 1;      // blocks of a cluster that share a tile along K
  int multicast = 1;  // blocks of a cluster that share the activations of neighbouring row tiles
  int stream = 0;     // 1: tiles that do not fill a wave are cut evenly among all blocks
  int workers = 0;    // blocks (clusters with multicast) at once; 0: as many as the GPU runs

  bool operator==(const Schedule&) const = default;
};

std::string format_schedule(const Schedule& schedule);
Result<Schedule> parse_schedule(std::string_view text);

// The sizes that follow from a schedule for one problem; all of it plain arithmetic.
struct WorkDivision {
  int row_tiles = 0;  // of all blocks of a cluster together
  int token_tiles = 0;
  int workers = 0;
  int stream_tiles = 0;
  int grid = 0;
  int cluster = 1;
  int stages = 0;
  std::size_t shared_bytes = 0;
  // The exchange of sums: beside the ring where both fit, else in it. Depth groups stage their
  // outputs in the ring.
  std::size_t exchange_offset = 0;
  std::size_t staging_offset = 0;
  bool exchange_apart = false;
  int exchange_most = 0;
  std::size_t exchange_bytes[8] = {};  // that each block of a cluster receives for a row group
  std::size_t partial_bytes = 0;
  std::size_t flag_bytes = 0;
};
// Fails, with the reason, where the schedule does not fit the problem or the device.
Result<WorkDivision> divide_work(const Schedule& schedule, const CudaGemmDesc& desc, std::int64_t m,
                                 const CudaDevice& device);

TileSizes tile_sizes(const Schedule& schedule, int group_size);

// Clusters of so many blocks that run at once.
int clusters_at_once(const CudaDevice& device, int cluster);

// The expected fastest schedule: a table of measured choices, and a cost model elsewhere
// (heuristics.cc).
Schedule choose_schedule(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device);

}  // namespace liquidgemm::cuda
