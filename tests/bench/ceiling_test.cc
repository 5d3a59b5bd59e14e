#include "bench/cpu/ceiling.h"

#include <gtest/gtest.h>

#include "bench/cpu/gemm_bench.h"
#include "bench/cpu/run_probes.h"

namespace liquidgemm::bench::cpu {
namespace {

TEST(Ceiling, IsTheBestRepetitionOfTheBestProbe) {
  Ceiling ceiling;
  ceiling.take("narrow", 1, 8e9);
  ceiling.take("wide", 2, 12e9);
  ceiling.take("wide", 2, 10e9);
  ceiling.take("wide", 1, 11e9);
  EXPECT_EQ(ceiling.rate(), 12e9);
  EXPECT_EQ(ceiling.source(), "wide, 2 threads");
  EXPECT_FALSE(ceiling.raised());
  ASSERT_EQ(ceiling.probes().size(), 3u) << "the same loop on other threads is another probe";
  EXPECT_EQ(ceiling.probes()[1].rate, 12e9) << "a slower repetition changes nothing";
}

TEST(Ceiling, IsNeverBelowAProduct) {
  Ceiling ceiling;
  ceiling.take("wide", 1, 10e9);
  ceiling.raise("slower product", 9e9);
  EXPECT_FALSE(ceiling.raised());
  EXPECT_EQ(ceiling.rate(), 10e9);
  ceiling.raise("faster product", 11e9);
  EXPECT_TRUE(ceiling.raised());
  EXPECT_EQ(ceiling.rate(), 11e9);
  EXPECT_EQ(ceiling.source(), "faster product");
  EXPECT_EQ(ceiling.probed_rate(), 10e9) << "what the probes said is still told";
  // A probe that is better than the product after all.
  ceiling.take("wide", 1, 12e9);
  EXPECT_FALSE(ceiling.raised());
  EXPECT_EQ(ceiling.source(), "wide, 1 thread");
}

TEST(Ceiling, EachCeilingIsRaisedToTheBestRowOfItsOwn) {
  CpuCeilings ceilings;
  ceilings.read.take("read", 1, 1e9);
  ceilings.operations.take("multiply", 1, 1e12);
  GemmRow one;  // 4e9 bytes and 2e9 operations a second
  one.shape = {"a", 1000, 1000};
  one.m = 1;
  one.seconds = 1e-3;
  one.weight_bytes = 4e6;
  GemmRow many = one;  // 2e9 bytes and 0.5e12 operations a second
  many.m = 500;
  many.seconds = 2e-3;
  raise_to_rows({many, one}, ceilings);
  EXPECT_TRUE(ceilings.read.raised());
  EXPECT_EQ(ceilings.read.rate(), one.bytes_per_second());
  EXPECT_EQ(ceilings.read.source(), "a, M 1");
  EXPECT_FALSE(ceilings.operations.raised());
  for (const GemmRow& row : {one, many}) {
    EXPECT_GE(row.seconds, floor_seconds(ceilings, row.weight_bytes, row.operations()));
  }
}

TEST(Ceiling, TheFloorIsTheLargerOfBytesAndOperations) {
  CpuCeilings ceilings;
  ceilings.read.take("read", 1, 10.0);
  ceilings.operations.take("multiply", 1, 100.0);
  EXPECT_DOUBLE_EQ(floor_seconds(ceilings, 50.0, 100.0), 5.0);
  EXPECT_DOUBLE_EQ(floor_seconds(ceilings, 50.0, 1000.0), 10.0);
}

TEST(Probes, EveryInstructionSetOfThisMachineHasBothRates) {
  ThreadPool pool(2);
  for (const Isa isa : kIsas) {
    if (!check_isa(isa).ok()) continue;
    CpuCeilings ceilings;
    ASSERT_TRUE(run_probes(isa, pool, ceilings).ok());
    // Far below what any core does, under a sanitizer too: something has been measured.
    EXPECT_GT(ceilings.read.rate(), 1e7) << isa_name(isa);
    EXPECT_GT(ceilings.operations.rate(), 1e7) << isa_name(isa);
    for (const Ceiling::Probe& probe : ceilings.operations.probes()) {
      // Far above what any core does: the loop would have been left out.
      EXPECT_LT(probe.rate, 1e14) << probe.name;
    }
  }
}

TEST(Probes, AreRepeatedWhereTheMomentCounts) {
  ThreadPool pool(2);
  CpuCeilings ceilings;
  Result<Probes> probes = Probes::make(best_isa(), pool);
  ASSERT_TRUE(probes.ok());
  probes->run(ceilings);
  const std::size_t known = ceilings.read.probes().size();
  for (int i = 0; i < 3; ++i) {
    const double rate = probes->read_now(ceilings);
    EXPECT_GT(rate, 1e7);
    EXPECT_LE(rate, ceilings.read.rate()) << "a repetition counts for the ceiling";
  }
  EXPECT_EQ(ceilings.read.probes().size(), known) << "of a probe that is known";
}

}  // namespace
}  // namespace liquidgemm::bench::cpu
