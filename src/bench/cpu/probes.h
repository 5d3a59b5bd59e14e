// Loops that do nothing but read memory, or nothing but multiply and add: what a CPU reaches at
// best. As with the kernels, only plain structs and function pointers cross the border to the files
// that are compiled for one instruction set, and those include nothing else but intrinsics.
#pragma once

#include <cstdint>

namespace liquidgemm::bench::cpu {

struct ReadProbe {
  const char* name;
  // Reads `bytes` bytes, a multiple of kReadGrain, once. What it returns depends on all of them, so
  // that no compiler leaves a load out.
  std::uint64_t (*read)(const void* data, std::int64_t bytes);
};
inline constexpr std::int64_t kReadGrain = 4096;

struct OperationProbe {
  const char* name;
  std::int64_t operations;  // of one iteration; a multiplication and its addition are two
  void (*run)(std::int64_t iterations);
};

struct ProbeSet {
  const ReadProbe* reads;
  int read_count;
  const OperationProbe* operations;
  int operation_count;
};

extern const ProbeSet kScalarProbes;
#if defined(LIQUIDGEMM_X86_PROBES)
extern const ProbeSet kAvx2Probes;
extern const ProbeSet kAvx512Probes;
extern const ProbeSet kAmxProbes;  // operations; memory is read as with AVX-512
#endif

}  // namespace liquidgemm::bench::cpu
