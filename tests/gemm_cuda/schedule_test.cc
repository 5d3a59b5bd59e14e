// Schedules are plain arithmetic: these tests need no GPU.
#include "gemm/cuda/schedule.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "gemm/cuda/w4a8_parameters.h"
#include "gemm/random_layers.h"

namespace liquidgemm::cuda {
namespace {

using testing::fresh_seed;
using testing::pick;
using testing::Random;

CudaDevice hopper(int multiprocessors) {
  CudaDevice device;
  device.compute_major = 9;
  device.multiprocessors = multiprocessors;
  device.shared_bytes_per_block = 232'448;
  device.driver_version = 13'000;
  return device;
}

CudaGemmDesc layer(std::int64_t n, std::int64_t k, int group_size = 64) {
  CudaGemmDesc desc;
  desc.n = n;
  desc.k = k;
  desc.group_size = group_size;
  return desc;
}

TEST(Schedule, ComesBackFromItsText) {
  Schedule schedule;
  schedule.tokens = 64;
  schedule.blocks = 2;
  schedule.groups = 3;
  schedule.split = 4;
  schedule.workers = 99;
  const auto parsed = parse_schedule(format_schedule(schedule));
  ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
  EXPECT_EQ(*parsed, schedule);
  const auto short_form = parse_schedule("tokens=8");
  ASSERT_TRUE(short_form.ok());
  EXPECT_EQ(short_form->tokens, 8);
  EXPECT_EQ(short_form->split, 1);
}

TEST(Schedule, SaysWhatItDoesNotUnderstand) {
  for (const std::string text : {"tiles=8", "tokens", "tokens=", "tokens=8x", "tokens=-8", "8",
                                 "tokens=8,,split=2", "tokens=99999999999999999999"}) {
    const auto parsed = parse_schedule(text);
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument) << text;
  }
}

// Every layer gets a schedule that fits it, with every group size and on GPUs of any size.
TEST(Schedule, EveryLayerGetsOneThatFits) {
  Random random(fresh_seed());
  const CudaGemmDesc known[] = {layer(4096, 4096),  layer(28672, 4096), layer(57344, 8192),
                                layer(8192, 28672), layer(4608, 3584),  layer(37888, 3584),
                                layer(8, 32),       layer(8, 66'304),   layer(200'000, 32)};
  for (int i = 0; i < 3000; ++i) {
    CudaGemmDesc desc = i % 3 == 0 ? known[random() % std::size(known)]
                                   : layer(8 * pick(random, 1, 8000), 32 * pick(random, 1, 1000));
    const auto kind = random() % 4;
    desc.group_size = kind == 3 ? kInt8Weights : 32 << kind;
    desc.output = random() % 2 ? CudaOutput::kFloat32 : CudaOutput::kFloat16;
    const std::int64_t m = random() % 2 ? pick(random, 1, 600) : pick(random, 1, 20'000);
    const CudaDevice device =
        hopper(static_cast<int>(pick(random, 0, 1) ? 132 : pick(random, 1, 148)));
    const Schedule schedule = choose_schedule(desc, m, device);
    const auto work = divide_work(schedule, desc, m, device);
    ASSERT_TRUE(work.ok()) << desc.n << " x " << desc.k << ", m " << m << ": "
                           << work.status().to_string();
    EXPECT_LE(work->shared_bytes, device.shared_bytes_per_block);
    EXPECT_EQ(work->stages % schedule.depth, 0) << "a slot of the ring has one reader";
    EXPECT_GE(work->grid, 1);
    EXPECT_EQ(work->grid % work->cluster, 0);
    // All rows and tokens are covered.
    const std::int64_t tile_rows = std::int64_t{64} * schedule.blocks * schedule.groups;
    EXPECT_GE(tile_rows * work->row_tiles * schedule.multicast, desc.n);
    EXPECT_GE(std::int64_t{schedule.tokens} * work->token_tiles, m);
  }
}

// Depth groups of which none has slots of its own could take one load for another.
TEST(Schedule, DepthGroupsDivideTheRing) {
  const CudaGemmDesc desc = layer(4096, 4096);
  for (const int stages : {4, 5, 6, 7, 8, 9, 10}) {
    Schedule schedule;
    schedule.tokens = 64;
    schedule.depth = 2;
    schedule.stages = stages;
    EXPECT_EQ(divide_work(schedule, desc, 64, hopper(132)).ok(), stages % 2 == 0) << stages;
  }
}

// How kernels find a tile's place: every number up to the largest, by divisors of any size.
TEST(Schedule, DividesExactly) {
  Random random(fresh_seed());
  constexpr std::int64_t kMost = 0x7FFFFFFF;
  for (int i = 0; i < 20'000; ++i) {
    const auto d = static_cast<int>(i < 3000 ? i + 1 : pick(random, 1, kMost >> random() % 31));
    const Divisor divisor(d);
    const std::int64_t multiple = kMost / d * d - d * (random() % 2) * (kMost / d > 1);
    for (const std::int64_t n : {std::int64_t{0}, std::int64_t{d} - 1, std::int64_t{d},
                                 multiple - 1, multiple, kMost, pick(random, 0, kMost)}) {
      ASSERT_EQ(divisor.divide(static_cast<int>(n)), n / d) << n << " / " << d;
    }
  }
}

// A finisher spins until the others have left their sums: they must all be running.
TEST(Schedule, StreamsNeverHaveMoreBlocksThanRunAtOnce) {
  for (const int multiprocessors : {1, 2, 66, 114, 132}) {
    const CudaDevice device = hopper(multiprocessors);
    for (const char* text : {"tokens=64,blocks=2,groups=2,stream=1",
                             "tokens=64,blocks=2,groups=2,stream=1,multicast=2"}) {
      const Schedule schedule = *parse_schedule(text);
      for (std::int64_t n = 256; n < 60'000; n += 1234 * 8) {
        const auto work = divide_work(schedule, layer(n, 4096), 64, device);
        if (!work.ok()) continue;
        EXPECT_LE(work->grid, std::max(multiprocessors, schedule.multicast));
        EXPECT_EQ(work->stream_tiles > 0, work->partial_bytes > 0);
      }
    }
  }
}

}  // namespace
}  // namespace liquidgemm::cuda
