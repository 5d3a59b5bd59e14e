// Which instruction sets this machine runs: what the CPU reports, and what the operating system
// saves on a context switch (a CPU flag alone is not enough: without the latter the first wide
// instruction is an illegal one).
#include <string>

#include "gemm/gemm.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace liquidgemm {
namespace {

struct MachineIsas {
  bool avx2 = false;
  bool avx512_vnni = false;
  bool amx_int8 = false;
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

// The tile registers are 8 KB that the system saves for a process only once it has asked for them.
// They are then those of all its threads.
bool tiles_granted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // its bit of XCR0
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
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
  constexpr std::uint64_t kTiles = bit(17) | bit(18);  // their shapes and their data
  const bool tiles = (edx & bit(24)) && (edx & bit(25)) && (states & kTiles) == kTiles;
  found.amx_int8 = found.avx512_vnni && tiles && tiles_granted();
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
    case Isa::kAmxInt8: return machine.amx_int8;
  }
  return false;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512Vnni: return "avx512-vnni";
    case Isa::kAmxInt8: return "amx-int8";
  }
  return "unknown";
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (Isa isa : kIsas) names.emplace_back(isa_name(isa));
  return names;
}

Result<Isa> parse_isa(std::string_view name) {
  for (Isa isa : kIsas) {
    if (name == isa_name(isa)) return isa;
  }
  return invalid_argument("unknown instruction set '" + std::string(name) +
                          "', expected scalar, avx2, avx512-vnni or amx-int8");
}

Isa best_isa() {
  Isa best = Isa::kScalar;
  for (Isa isa : kIsas) {
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
