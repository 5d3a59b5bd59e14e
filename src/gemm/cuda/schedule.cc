#include "gemm/cuda/schedule.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "gemm/cuda/layout.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kMostStages = 32;
constexpr int kMostGroups = 4;
constexpr int kLargestCluster = 8;

struct Field {
  std::string_view name;
  int Schedule::*member;
};
constexpr std::array<Field, 9> kFields = {{{"tokens", &Schedule::tokens},
                                           {"blocks", &Schedule::blocks},
                                           {"groups", &Schedule::groups},
                                           {"depth", &Schedule::depth},
                                           {"stages", &Schedule::stages},
                                           {"split", &Schedule::split},
                                           {"multicast", &Schedule::multicast},
                                           {"stream", &Schedule::stream},
                                           {"workers", &Schedule::workers}}};

Status refuse(const Schedule& schedule, const std::string& why) {
  return invalid_argument("schedule " + format_schedule(schedule) + ": " + why);
}

int divide_up(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

}  // namespace

std::string format_schedule(const Schedule& schedule) {
  std::string text;
  for (const Field& field : kFields) {
    if (!text.empty()) text += ',';
    text += std::string(field.name) + '=' + std::to_string(schedule.*field.member);
  }
  return text;
}

Result<Schedule> parse_schedule(std::string_view text) {
  Schedule schedule;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const std::size_t equals = item.find('=');
    const std::string_view name = item.substr(0, equals);
    const auto* field = std::find_if(kFields.begin(), kFields.end(),
                                     [&](const Field& each) { return each.name == name; });
    const std::string_view digits = equals == std::string_view::npos ? "" : item.substr(equals + 1);
    int value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (field == kFields.end() || digits.empty() || error != std::errc() ||
        end != digits.data() + digits.size() || value < 0) {
      return invalid_argument("schedule: '" + std::string(item) +
                              "' is not understood, expected name=number with one of tokens, "
                              "blocks, groups, depth, stages, split, multicast, stream, workers");
    }
    schedule.*field->member = value;
  }
  return schedule;
}

int clusters_at_once(const CudaDevice& device, int cluster) {
  const int known = cluster < static_cast<int>(device.clusters.size())
                        ? device.clusters[static_cast<std::size_t>(cluster)]
                        : 0;
  return known > 0 ? known : std::max(1, device.multiprocessors / cluster);
}

TileSizes tile_sizes(const Schedule& schedule, int group_size) {
  return {schedule.tokens, schedule.blocks, schedule.groups, schedule.depth, group_size};
}

Result<WorkDivision> divide_work(const Schedule& schedule, const CudaGemmDesc& desc, std::int64_t m,
                                 const CudaDevice& device) {
  const Schedule& s = schedule;
  const auto in = [](int value, int low, int high) { return value >= low && value <= high; };
  if (!in(s.tokens, 8, 256) || !in(s.blocks, 1, 4) || !in(s.groups, 1, kMostGroups) ||
      !in(s.depth, 1, 4) || !in(s.stages, 0, kMostStages) || !in(s.split, 1, kLargestCluster) ||
      !in(s.multicast, 1, kLargestMulticast) || !in(s.stream, 0, 1) || !in(s.workers, 0, 1 << 20)) {
    return refuse(s, "a number is outside its range");
  }
  const bool exchanges = s.split > 1 || s.depth > 1;
  if (exchanges && (s.multicast > 1 || s.stream != 0)) {
    return refuse(s, "split and depth do not go with multicast or stream");
  }
  if (s.tokens % (8 * s.multicast) != 0) {
    return refuse(s, "the tokens do not divide into shares of 8 for multicast");
  }
  WorkDivision work;
  work.cluster = s.split * s.multicast;
  work.row_tiles = divide_up(row_blocks(desc.n), s.blocks * s.groups * s.multicast);
  work.token_tiles = divide_up(m, s.tokens);
  const std::int64_t tiles = std::int64_t{work.row_tiles} * work.token_tiles;
  const std::int64_t columns = column_blocks(desc.k);
  // Tiles, steps of the stream and the grid are counted in 32 bits on the device.
  if (tiles * std::max<std::int64_t>(work.cluster, columns) > 0x7FFFFFFF) {
    return refuse(s, "more tiles than a launch can count");
  }
  if (s.split > columns) return refuse(s, "more splits than column blocks");

  // Beside the ring: barriers (two a stage, one a row group, and the loader's), the scales of every
  // warp group, and where the epilogue stages a chunk of units (w4a8_pipeline.cuh).
  const TileSizes sizes = tile_sizes(s, desc.group_size);
  const std::size_t stage = sizes.stage_bytes();
  const std::size_t fixed = (2 * kMostStages + s.groups + 1) * 8 + sizes.staging_bytes() +
                            sizes.warp_groups() * sizes.scale_bytes();
  const std::size_t room = device.shared_bytes_per_block - fixed;
  const int fitting = static_cast<int>(room / stage);
  const int fewest = std::max(2 * s.depth, 3);
  // More stages than column blocks would only take time to set up.
  const int useful = std::max(fewest, divide_up(columns, s.split));
  // Each depth group has slots of its own. Otherwise it would wait at a slot's barrier for every
  // other of its phases alone, and take the one before the last for the last: when loads overtake
  // each other, as they do where memory is busy, it would go on before its data have come.
  work.stages =
      s.stages == 0 ? std::min({fitting, kMostStages, useful}) / s.depth * s.depth : s.stages;
  if (work.stages > fitting || work.stages < fewest || work.stages % s.depth != 0) {
    return refuse(s, "the ring takes " + std::to_string(fewest) + " to " +
                         std::to_string(std::min(fitting, kMostStages)) + " stages of " +
                         std::to_string(stage) + " bytes, a multiple of depth");
  }
  work.shared_bytes = work.stages * stage + fixed;

  const int units = sizes.units();
  if (exchanges) {
    // A unit that a block finishes arrives from every other block (w4a8_exchange.cuh).
    const int share = sizes.share_units();
    work.exchange_most = divide_up(share, s.split);
    for (int unit = 0; unit < units; ++unit) {
      work.exchange_bytes[unit % share % s.split] += (s.split - 1) * kUnitBytes;
    }
    const std::size_t bytes = s.split == 1 ? 0
                                           : static_cast<std::size_t>(s.groups) * s.depth *
                                                 work.exchange_most * s.split * kUnitBytes;
    const std::size_t within =
        static_cast<std::size_t>(sizes.warp_groups()) * share * (s.depth - 1) * kUnitBytes;
    // Outputs of depth groups are staged in the ring, behind what is exchanged there. Without depth
    // groups their place lies between the ring's tokens and its weights (w4a8_pipeline.cuh).
    const std::size_t staged =
        s.depth == 1 ? 0 : static_cast<std::size_t>(sizes.warp_groups()) * share * kUnitOutputBytes;
    const std::size_t tokens = static_cast<std::size_t>(work.stages) * sizes.x_bytes();
    const std::size_t weights = work.stages * stage - tokens;
    const std::size_t ring = s.depth > 1 ? tokens + weights : std::max(tokens, weights);
    std::size_t in_ring = within + staged;
    if (work.shared_bytes + bytes <= device.shared_bytes_per_block) {
      work.exchange_apart = true;
      work.exchange_offset = (work.shared_bytes + 15) / 16 * 16;
      work.shared_bytes = work.exchange_offset + bytes;
      work.staging_offset = within;
    } else {
      in_ring += bytes;
      work.exchange_offset =
          s.depth > 1 || bytes <= tokens ? within : tokens + sizes.staging_bytes();
      work.staging_offset = within + bytes;
    }
    if (in_ring > ring) {
      return refuse(s, "the exchange of sums takes " + std::to_string(in_ring) +
                           " bytes of shared memory, the ring has " + std::to_string(ring));
    }
    // One tile a cluster: the exchange reuses the ring.
    work.workers = static_cast<int>(tiles);
  } else {
    const int most = clusters_at_once(device, s.multicast);
    work.workers = s.workers == 0 ? most : s.workers;
    if (work.workers > most) return refuse(s, "the GPU does not run that many workers at once");
    if (s.stream == 0) {
      // As many as the number of waves needs: with more, some would only do one tile less.
      const std::int64_t waves = divide_up(tiles, work.workers);
      work.workers = divide_up(tiles, waves);
    } else {
      // The last, partly filled wave and the one before it are shared out evenly.
      work.workers = static_cast<int>(std::min<std::int64_t>(work.workers, tiles * columns));
      const std::int64_t waves = tiles / work.workers;
      if (tiles % work.workers != 0) {
        work.stream_tiles =
            static_cast<int>(tiles - std::max<std::int64_t>(waves - 1, 0) * work.workers);
      }
    }
  }
  work.grid = work.workers * work.cluster;
  if (work.stream_tiles > 0) {
    const std::size_t groups =
        static_cast<std::size_t>(work.workers) * s.multicast * static_cast<std::size_t>(s.groups);
    work.partial_bytes = groups * static_cast<std::size_t>(units) * kUnitBytes;
    // Of one size for all plans of a device, so that the sums of one never lie where another, with
    // the same workspace, looks for flags.
    const std::size_t flags = static_cast<std::size_t>(device.multiprocessors) * kMostGroups;
    work.flag_bytes = (flags * sizeof(unsigned) + 255) / 256 * 256;
  }
  return work;
}

}  // namespace liquidgemm::cuda
