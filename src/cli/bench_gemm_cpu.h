// `liquid bench gemm --device cpu`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/goal_shapes.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cli {

struct CpuGemmRequest {
  std::vector<bench::Shape> shapes;
  std::vector<std::int64_t> tokens;
  int threads = 0;  // 0: one for each CPU
  std::string isa;  // empty: the best one
  std::string precision = "w4a8";
  int group_size = 64;
  int rounds = 7;
  bool rivals = true;
  bool json = false;
  std::vector<std::string> record;
};

// Measures, prints, and writes the records.
Status measure_on_cpu(const CpuGemmRequest& request);

}  // namespace liquidgemm::cli
