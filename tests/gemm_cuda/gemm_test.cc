// The Hopper GEMM against the CPU, bit for bit: INT32 sums, FP16 and BF16 outputs, over shapes that
// fill no tile.
//
// LIQUIDGEMM_TEST_CASES      how many random cases (default 300)
// LIQUIDGEMM_TEST_SCHEDULES  schedule strings, separated by semicolons: every random case also runs
//                            each of them that takes the case, beside four of all schedules
#include <cstdlib>
#include <map>

#include "gemm_harness.h"

namespace liquidgemm::testing {
namespace {

class CudaGemm : public CudaTest {
 protected:
  Stream& stream() {
    if (!stream_) stream_ = std::make_unique<Stream>();
    return *stream_;
  }

  // Runs every schedule that takes the case; the default one must.
  ::testing::AssertionResult check(Random& random, const TestLayer& layer, CudaOutput output,
                                   bool bias, const Tokens& tokens) {
    const CudaGemmDesc desc = layer.desc(output, bias);
    const auto expected = layer.expected(desc, tokens, layer.sums(tokens));
    const DeviceTokens device_tokens(random, tokens);
    CudaGemmArguments arguments;
    layer.set(arguments, bias);
    device_tokens.set(arguments);
    arguments.programmatic_launch = random() % 2;
    const std::int64_t gap = pick(random, 0, 2);
    for (const std::string& schedule : schedules_) {
      Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, tokens.m, device_, schedule);
      if (!plan.ok()) {
        if (schedule.empty()) return is_ok(plan.status());
        continue;
      }
      ++runs_[schedule];
      const auto equal = run_equals(*plan, desc, tokens.m, arguments, expected, gap, stream());
      if (!equal) return equal;
    }
    return ::testing::AssertionSuccess();
  }

  // The plan's own choice is the empty string.
  std::vector<std::string> schedules_{""};
  std::map<std::string, int> runs_;

 private:
  std::unique_ptr<Stream> stream_;
};

// Every compiled tile with every way of dividing the work that it has.
std::vector<std::string> all_schedules(const CudaDevice& device) {
  const CudaGemmDesc desc{.n = 8192, .k = 4096, .group_size = 64};
  std::vector<std::string> all;
  for (const int tokens : {8, 16, 32, 64, 96, 128, 160, 192, 224, 256}) {
    for (const char* blocks : {"1", "2"}) {
      for (const char* groups : {"1", "2", "3", "4"}) {
        for (const char* depth : {"1", "2", "4"}) {
          const std::string tile = "tokens=" + std::to_string(tokens) + ",blocks=" + blocks +
                                   ",groups=" + groups + ",depth=" + depth;
          for (const char* division : {"", ",split=2", ",split=3", ",split=8", ",multicast=2",
                                       ",stream=1", ",stream=1,multicast=2"}) {
            if (CudaGemmPlan::make(desc, tokens, device, tile + division).ok()) {
              all.push_back(tile + division);
            }
          }
        }
      }
    }
  }
  return all;
}

std::vector<std::string> schedules_to_test() {
  std::vector<std::string> schedules{""};
  const char* list = std::getenv("LIQUIDGEMM_TEST_SCHEDULES");
  std::string rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const std::size_t end = rest.find(';');
    if (end != 0) schedules.push_back(rest.substr(0, end));
    rest = end == std::string::npos ? "" : rest.substr(end + 1);
  }
  return schedules;
}

int cases_to_test() {
  const char* cases = std::getenv("LIQUIDGEMM_TEST_CASES");
  return cases == nullptr ? 300 : std::atoi(cases);
}

// Sizes beside the edges of tiles, and any others.
std::int64_t random_m(Random& random) {
  constexpr std::int64_t kEdges[] = {1,   2,   7,   8,   9,   15,  16,  17,  31,  32,  33,
                                     47,  63,  64,  65,  95,  96,  97,  127, 128, 129, 159,
                                     160, 161, 191, 192, 193, 223, 224, 225, 255, 256, 257};
  if (random() % 3 == 0) return pick(random, 1, 300);
  return kEdges[random() % std::size(kEdges)];
}
std::int64_t random_n(Random& random, bool gated) {
  constexpr std::int64_t kEdges[] = {8, 56, 64, 72, 120, 128, 136, 192, 264, 520};
  std::int64_t n = 8 * pick(random, 1, 100);
  if (random() % 2) n = kEdges[random() % std::size(kEdges)];
  return gated ? (n + 15) / 16 * 16 : n;
}
std::int64_t random_k(Random& random) {
  constexpr std::int64_t kEdges[] = {32, 64, 96, 128, 160, 256, 480, 512, 544, 1024, 1056, 4128};
  if (random() % 2) return kEdges[random() % std::size(kEdges)];
  return 32 * pick(random, 1, 80);
}

// LiquidQuant weights with groups of 32, 64 or 128, or INT8 weights of any K.
Layer random_layer(Random& random, std::int64_t n, std::int64_t k, Extreme extreme) {
  const auto kind = pick(random, 0, 3);
  if (kind < 3) return random_liquid4(random, n, k, 32 << kind, extreme);
  return random_int8(random, n, std::max<std::int64_t>(k - pick(random, 0, 40), 1), extreme);
}

TEST_F(CudaGemm, RandomShapesAreExact) {
  const std::uint64_t seed = fresh_seed();
  Random random(seed);
  schedules_ = schedules_to_test();
  const std::vector<std::string> forced = schedules_;
  const std::vector<std::string> all = all_schedules(device_);
  ASSERT_GT(all.size(), 100u);
  const int cases = cases_to_test();
  for (int i = 0; i < cases; ++i) {
    // Beside the default and the forced ones a few of all, in turn.
    schedules_ = forced;
    for (int j = 0; j < 4; ++j) schedules_.push_back(all[(i * 4 + j) % all.size()]);
    const bool gated = random() % 4 == 0;
    const auto kind = random() % 10;
    const Extreme extreme = kind == 0   ? Extreme::kHighest
                            : kind == 1 ? Extreme::kLowest
                                        : Extreme::kNone;
    const TestLayer layer(random,
                          random_layer(random, random_n(random, gated), random_k(random), extreme),
                          gated, stream());
    const bool saturated = random() % 5 == 0;
    const Tokens tokens =
        random_tokens(random, random_m(random), layer.k(), saturated, random() % 5 == 0);
    const CudaOutput outputs[] = {CudaOutput::kInt32, CudaOutput::kFloat32, CudaOutput::kFloat16,
                                  CudaOutput::kBFloat16};
    const CudaOutput output = outputs[random() % 4];
    const bool bias = output != CudaOutput::kInt32 && random() % 2;
    ASSERT_TRUE(check(random, layer, output, bias, tokens)) << "seed " << seed << ", case " << i;
  }
  for (const std::string& schedule : forced) {
    EXPECT_GT(runs_[schedule], 0) << "no case ran the schedule " << schedule;
    if (!schedule.empty()) std::printf("%6d cases ran %s\n", runs_[schedule], schedule.c_str());
  }
}

// Every M up to a few tiles, on awkward layers.
TEST_F(CudaGemm, EveryBatchSize) {
  Random random(fresh_seed());
  const auto check_layer = [&](Layer weights, bool gated) {
    const TestLayer layer(random, std::move(weights), gated, stream());
    for (std::int64_t m = 1; m <= 300; m += m < 40 ? 1 : pick(random, 1, 9)) {
      const Tokens tokens = random_tokens(random, m, layer.k());
      ASSERT_TRUE(check(random, layer, CudaOutput::kInt32, false, tokens));
      ASSERT_TRUE(check(random, layer, CudaOutput::kFloat16, true, tokens));
      ASSERT_TRUE(check(random, layer, CudaOutput::kFloat32, true, tokens));
    }
  };
  check_layer(random_liquid4(random, 136, 672, 64), false);
  check_layer(random_liquid4(random, 144, 672, 64), true);
  check_layer(random_int8(random, 136, 675), false);
  check_layer(random_int8(random, 144, 675), true);
}

// What a model's gate_up layers are: gates of a usual size, and those for which SiLU is computed in
// another way.
TEST_F(CudaGemm, GatedFloatsByEverySchedule) {
  Random random(fresh_seed());
  const std::vector<std::string> all = all_schedules(device_);
  constexpr std::size_t kAtOnce = 8;
  for (std::size_t first = 0; first < all.size(); first += kAtOnce) {
    schedules_.assign(1, "");
    for (std::size_t i = first; i < std::min(first + kAtOnce, all.size()); ++i) {
      schedules_.push_back(all[i]);
    }
    // No schedule refuses these groups and so many columns.
    const int group_size = 64 << random() % 2;
    const std::int64_t k = 32 * pick(random, 112, 140);
    const TestLayer layer(random, random_liquid4(random, random_n(random, true), k, group_size),
                          true, stream());
    Tokens tokens = random_tokens(random, random_m(random), layer.k());
    ASSERT_TRUE(check(random, layer, CudaOutput::kFloat32, random() % 2, tokens));
    for (float& scale : tokens.scale) scale *= 0x1p-24f;
    ASSERT_TRUE(check(random, layer, CudaOutput::kFloat32, random() % 2, tokens));
  }
  for (const std::string& schedule : all) {
    EXPECT_EQ(runs_[schedule], 2) << "not every case ran the schedule " << schedule;
  }
}

// In little, what compute-sanitizer gets through in seconds: the plan's own choices and the
// schedules that LIQUIDGEMM_TEST_SCHEDULES names.
TEST_F(CudaGemm, SmallLayers) {
  Random random(fresh_seed());
  schedules_ = schedules_to_test();
  const TestLayer gated(random, random_liquid4(random, 144, 288, 32 << random() % 3), true,
                        stream());
  const TestLayer plain(random, random_liquid4(random, 136, 576, 64), false, stream());
  const TestLayer int8(random, random_int8(random, 136, 575), false, stream());
  for (const std::int64_t m : {1, 9, 32, 64, 130}) {
    for (const TestLayer* layer : {&gated, &plain, &int8}) {
      const Tokens tokens = random_tokens(random, m, layer->k());
      ASSERT_TRUE(check(random, *layer, CudaOutput::kFloat32, m % 2 == 1, tokens));
      ASSERT_TRUE(check(random, *layer, CudaOutput::kFloat16, m % 2 == 0, tokens));
    }
  }
  for (const auto& [schedule, runs] : runs_) {
    if (!schedule.empty()) std::printf("%6d cases ran %s\n", runs, schedule.c_str());
  }
}

// Layers of real size: many tiles for each multiprocessor, and long K.
TEST_F(CudaGemm, LargeLayers) {
  Random random(fresh_seed());
  struct Shape {
    std::int64_t n, k;
    bool gated;
  };
  for (const Shape& shape :
       {Shape{6144, 4096, false}, Shape{1032, 14336, false}, Shape{8208, 1056, true}}) {
    const TestLayer layer(random, random_layer(random, shape.n, shape.k, Extreme::kNone),
                          shape.gated, stream());
    for (const std::int64_t m : {std::int64_t{1}, std::int64_t{16}, pick(random, 33, 64),
                                 std::int64_t{128}, pick(random, 200, 600)}) {
      const Tokens tokens = random_tokens(random, m, layer.k(), random() % 2);
      ASSERT_TRUE(check(random, layer, CudaOutput::kInt32, false, tokens));
      ASSERT_TRUE(check(random, layer, CudaOutput::kBFloat16, false, tokens));
      ASSERT_TRUE(check(random, layer, CudaOutput::kFloat32, false, tokens));
    }
  }
}

// Depth groups that share a ring, while all multiprocessors wait for memory: loads overtake each
// other, and none may be taken for the one before.
TEST_F(CudaGemm, DepthGroupsWhileMemoryIsBusy) {
  Random random(fresh_seed());
  const TestLayer layer(random, random_int8(random, 65536, 4096), false, stream());
  const Tokens tokens = random_tokens(random, 16, layer.k());
  schedules_ = {"tokens=16,blocks=1,groups=2,depth=2", "tokens=16,blocks=1,groups=1,depth=4",
                "tokens=32,blocks=1,groups=2,depth=2", "tokens=32,blocks=1,groups=1,depth=4",
                "tokens=64,blocks=1,groups=2,depth=2", "tokens=64,blocks=1,groups=1,depth=2",
                "tokens=96,blocks=1,groups=1,depth=2"};
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(check(random, layer, CudaOutput::kInt32, false, tokens));
  }
}

// The longest K that is taken, with the largest sums there are: 255 * 127 * 66304 is just below
// 2^31, before the correction as after it.
TEST_F(CudaGemm, LongestSumsFitInt32) {
  Random random(fresh_seed());
  for (const Extreme extreme : {Extreme::kHighest, Extreme::kLowest, Extreme::kNone}) {
    const bool int8 = random() % 2;
    const TestLayer layer(random,
                          int8 ? random_int8(random, 72, numerics::kMaxK, extreme)
                               : random_liquid4(random, 72, 66304, 128, extreme),
                          false, stream());
    for (const std::int64_t m : {1, 17, 130}) {
      const Tokens tokens = random_tokens(random, m, layer.k(), true);
      ASSERT_TRUE(check(random, layer, CudaOutput::kInt32, false, tokens));
      ASSERT_TRUE(check(random, layer, CudaOutput::kFloat16, true, tokens));
    }
  }
}

// A token's outputs are the same alone, at any place in a batch, and in any company.
TEST_F(CudaGemm, RowsDoNotDependOnTheirBatch) {
  Random random(fresh_seed());
  for (const bool gated : {false, true}) {
    const TestLayer layer(random, random_liquid4(random, 272, 1120, 64), gated, stream());
    const Tokens tokens = random_tokens(random, 260, layer.k(), false, true);
    const DeviceTokens device_tokens(random, tokens);
    const CudaGemmDesc desc = layer.desc(CudaOutput::kFloat16, true);
    const auto all = layer.expected(desc, tokens, layer.sums(tokens));
    const std::int64_t columns = output_columns(desc);
    for (const std::int64_t m : {1, 2, 7, 16, 33, 64, 100, 129, 260}) {
      const std::int64_t first = pick(random, 0, tokens.m - m);
      const Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, m, device_);
      ASSERT_TRUE(is_ok(plan.status()));
      CudaGemmArguments arguments;
      layer.set(arguments, true);
      device_tokens.set(arguments, first);
      const std::vector<std::uint32_t> expected(all.begin() + first * columns,
                                                all.begin() + (first + m) * columns);
      ASSERT_TRUE(run_equals(*plan, desc, m, arguments, expected, 0, stream()));
    }
  }
}

TEST_F(CudaGemm, NanRowsStayAlone) {
  Random random(fresh_seed());
  const TestLayer layer(random, random_liquid4(random, 136, 320, 64), false, stream());
  Tokens tokens = random_tokens(random, 70, layer.k());
  const std::int64_t row = pick(random, 0, 69);
  for (std::int64_t i = 0; i < tokens.k; ++i) tokens.x8[row * tokens.ld + i] = 0;
  tokens.sum[row] = 0;
  tokens.scale[row] = std::numeric_limits<float>::quiet_NaN();
  for (const CudaOutput output :
       {CudaOutput::kFloat16, CudaOutput::kBFloat16, CudaOutput::kFloat32}) {
    const CudaGemmDesc desc = layer.desc(output, true);
    const auto expected = layer.expected(desc, tokens, layer.sums(tokens));
    const std::uint32_t nan = output_bits(output, std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t i = 0; i < tokens.m * layer.n(); ++i) {
      ASSERT_EQ(same_output(output, expected[i], nan), i / layer.n() == row);
    }
    ASSERT_TRUE(check(random, layer, output, true, tokens));
  }
}

}  // namespace
}  // namespace liquidgemm::testing
