// What the CPU benchmark measures is right, and it notices when it is not.
#include "bench/cpu/product.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fresh_seed.h"

namespace liquidgemm::bench::cpu {
namespace {

using testing::fresh_seed;

TEST(CpuProduct, EveryInstructionSetAndKindPassesTheCheck) {
  ThreadPool pool(2);
  const std::uint64_t seed = fresh_seed();
  for (const Isa isa : kIsas) {
    if (!check_isa(isa).ok()) continue;
    for (const WeightKind kind : {WeightKind::kLiquid4, WeightKind::kInt8}) {
      auto layer = Layer::make({"odd", 259, 1056}, kind, 64, isa, seed, 3, pool);
      ASSERT_TRUE(layer.ok()) << layer.status().message();
      for (const std::int64_t m : {1, 2, 5}) {
        Product product(*layer, m, isa, seed, pool);
        product.quantize();
        product.multiply();
        std::int64_t checked = 0;
        const Status status = product.check(checked);
        EXPECT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(checked, std::min(m, Product::kCheckedTokens));
      }
    }
  }
}

TEST(CpuProduct, AWrongOutputIsFoundAndNamed) {
  ThreadPool pool(1);
  auto layer = Layer::make({"layer", 96, 512}, WeightKind::kLiquid4, 32, best_isa(), 1, 2, pool);
  ASSERT_TRUE(layer.ok()) << layer.status().message();
  Product product(*layer, 7, best_isa(), 2, pool);
  product.quantize();
  product.multiply();
  product.outputs()[5 * 96 + 95] += 1.0f;
  std::int64_t checked = 0;
  const Status status = product.check(checked);
  ASSERT_FALSE(status.ok());
  for (const char* said : {"layer", "M 7", "token 5", "channel 95"}) {
    EXPECT_NE(status.message().find(said), std::string::npos) << status.message();
  }
}

TEST(CpuProduct, CopiesOutgrowTheCaches) {
  EXPECT_EQ(weight_copies(1e9), 2) << "the next product takes another copy";
  const double bytes = weight_bytes({"s", 1536, 576}, WeightKind::kLiquid4, 64);
  EXPECT_EQ(bytes, 1536 * (288 + 2 * 9 + 4));
  EXPECT_GE(static_cast<double>(weight_copies(bytes)) * bytes, 268435456.0);
  EXPECT_EQ(weight_bytes({"s", 1536, 576}, WeightKind::kInt8, 64), 1536 * (576 + 4));
  EXPECT_EQ(weight_copies(20.0), Layer::kMostCopies);
}

}  // namespace
}  // namespace liquidgemm::bench::cpu
