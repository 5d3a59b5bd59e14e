#include <immintrin.h>

#include "bench/cpu/probes.h"

namespace liquidgemm::bench::cpu {
namespace {

// Four sums of 16 x 16 on registers, which cover the instruction's latency, and no loads.
void four_sums(std::int64_t iterations) {
  // What the configuring instruction reads: palette 1, then bytes a row and rows of each tile.
  struct {
    std::uint8_t palette = 1;
    std::uint8_t other[15] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shapes;
  static_assert(sizeof shapes == 64);
  __asm__ volatile(
      "ldtilecfg %[shapes]\n"
      ".irp r,0,1,2,3,4,5,6,7\n tilezero %%tmm\\r\n .endr\n"
      "1:\n"
      "tdpbsud %%tmm6, %%tmm4, %%tmm0\n"
      "tdpbsud %%tmm7, %%tmm4, %%tmm1\n"
      "tdpbsud %%tmm6, %%tmm5, %%tmm2\n"
      "tdpbsud %%tmm7, %%tmm5, %%tmm3\n"
      "dec %[count]\n jnz 1b\n"
      "tilerelease\n"
      : [count] "+r"(iterations)
      : [shapes] "m"(shapes)
      : "cc");
}

const OperationProbe kOperations[] = {{"tdpbsud, 4 sums", 4 * 16 * 16 * 64 * 2, four_sums}};

}  // namespace

const ProbeSet kAmxProbes = {nullptr, 0, kOperations, 1};

}  // namespace liquidgemm::bench::cpu
