// Which instruction sets this machine runs: what the CPU reports, and what the operating system
// saves on a context switch (a CPU flag alone is not enough: without the latter the first wide
// instruction is an illegal one).
#include <string>

#include "gemm/gemm.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace liquidgemm {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni};

struct MachineIsas {
  bool avx2 = false;
  bool avx512_vnni = false;
};

#if defined(__x86_64__)

constexpr unsigned bit(unsigned position) { return 1u << position; }

// XCR0: the register states that the operating system has turned on.
std::uint64_t enabled_states() {
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

MachineIsas detect() {
  MachineIsas found;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return found;
  const bool fma = ecx & bit(12);
  const bool osxsave = ecx & bit(27);
  const bool avx = ecx & bit(28);
  if (!osxsave || !avx) return found;

  const std::uint64_t states = enabled_states();
  constexpr std::uint64_t kYmm = bit(1) | bit(2);                  // SSE and AVX halves
  constexpr std::uint64_t kZmm = kYmm | bit(5) | bit(6) | bit(7);  // masks, both zmm parts
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return found;
  found.avx2 = fma && (ebx & bit(5)) && (states & kYmm) == kYmm;

  const bool avx512_base = (ebx & bit(16)) && (ebx & bit(17)) && (ebx & bit(30)) && (ebx & bit(31));
  const bool vnni = ecx & bit(11);
  found.avx512_vnni = found.avx2 && avx512_base && vnni && (states & kZmm) == kZmm;
  return found;
}

#else

MachineIsas detect() { return {}; }

#endif

bool machine_runs(Isa isa) {
  static const MachineIsas machine = detect();
  switch (isa) {
    case Isa::kScalar: return true;
    case Isa::kAvx2: return machine.avx2;
    case Isa::kAvx512Vnni: return machine.avx512_vnni;
  }
  return false;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512Vnni: return "avx512-vnni";
  }
  return "unknown";
}

Result<Isa> parse_isa(std::string_view name) {
  for (Isa isa : kAll) {
    if (name == isa_name(isa)) return isa;
  }
  return invalid_argument("unknown instruction set '" + std::string(name) +
                          "', expected scalar, avx2 or avx512-vnni");
}

Isa best_isa() {
  Isa best = Isa::kScalar;
  for (Isa isa : kAll) {
    if (machine_runs(isa)) best = isa;
  }
  return best;
}

Status check_isa(Isa isa) {
  if (machine_runs(isa)) return ok_status();
  return unsupported("this machine does not run " + std::string(isa_name(isa)) +
                     " (or its operating system does not enable it); the best it runs is " +
                     std::string(isa_name(best_isa())));
}

}  // namespace liquidgemm
