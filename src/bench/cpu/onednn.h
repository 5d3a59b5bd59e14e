// oneDNN's product of unsigned and signed bytes, the rival of ours at many tokens.
//
// It runs in a process of its own, liquid-bench-onednn, which is built where oneDNN is found and
// lies beside `liquid`: its OpenMP threads would go on turning on the cores that ours are timed on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bench/goal_shapes.h"
#include "gemm/gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench::cpu {

struct OneDnnRequest {
  Shape shape;
  std::int64_t m = 0;
  Isa isa = Isa::kScalar;  // oneDNN's too; with AMX all that the machine has
  int threads = 1;
  int rounds = 7;
  double round_seconds = 10e-3;
};

struct OneDnnTime {
  std::string version;
  std::string implementation;  // as oneDNN names it
  double seconds = 0.0;        // the median of the rounds
  double spread = 0.0;         // (largest - smallest) / median
};

// From that many tokens on the product is bound by operations; below, 8-bit weights would make the
// rival twice as slow without saying anything about its kernel.
inline constexpr std::int64_t kOneDnnTokens = 64;
bool onednn_compares(std::int64_t m, Isa isa);

// The path of the program, or "" where there is none.
std::string onednn_program();

// Nothing without the program; an error where it is there and fails.
Result<std::optional<OneDnnTime>> measure_onednn(const OneDnnRequest& request);

}  // namespace liquidgemm::bench::cpu
