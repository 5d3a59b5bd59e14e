#include "bench/cpu/probes.h"
#include "gemm/cpu/tile_registers_amx.h"

namespace liquidgemm::bench::cpu {
namespace {

using namespace liquidgemm::cpu;

// Four sums of 16 x 16 on registers, which cover the instruction's latency, and no loads.
void four_sums(std::int64_t iterations) {
  const TileScope zeros(kTileTokens);
  for (; iterations > 0; --iterations) {
    multiply_tiles<kSums0, kTokens0, kCodes0>();
    multiply_tiles<kSums1, kTokens0, kCodes1>();
    multiply_tiles<kSums2, kTokens1, kCodes0>();
    multiply_tiles<kSums3, kTokens1, kCodes1>();
  }
}

const OperationProbe kOperations[] = {{"tdpbsud, 4 sums", 4 * 16 * 16 * 64 * 2, four_sums}};

}  // namespace

const ProbeSet kAmxProbes = {nullptr, 0, kOperations, 1};

}  // namespace liquidgemm::bench::cpu
