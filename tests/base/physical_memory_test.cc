#include "base/physical_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace liquidgemm {
namespace {

TEST(PhysicalMemory, IsWhatTheMachineHasAtMost) {
  const double machine =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  EXPECT_GT(physical_memory_bytes(), 0.0);
  EXPECT_LE(physical_memory_bytes(), machine);
}

TEST(PhysicalMemory, ReadsTheLimitOfAGroup) {
  EXPECT_EQ(memory_limit_bytes("536870912"), 536870912.0);
  EXPECT_EQ(memory_limit_bytes("9223372036854771712"), 9223372036854771712.0);
  for (const char* none : {"max", "", "-1", "12x", " 5", "99999999999999999999999"}) {
    EXPECT_LT(memory_limit_bytes(none), 0.0) << none;
  }
}

}  // namespace
}  // namespace liquidgemm
