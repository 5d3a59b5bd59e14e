// Rivals whose code is not ours to ship, as they were recorded once on the same kind of chip. Their
// figures mean something only where this run's cuBLASLt times agree with the ones recorded then.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bench/gemm_bench.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct RecordedCell {
  std::array<std::optional<double>, 3> cublas_us;  // in kRivals' order
  std::optional<double> qserve_g128_us;
  std::optional<double> qserve_per_channel_us;
  std::optional<double> cutlass_us;
};

class Recorded {
 public:
  // Reads the two tables in bench/baselines/ (its README says what they hold).
  static Result<Recorded> read(const std::string& folder);

  const RecordedCell* find(std::int64_t n, std::int64_t k, std::int64_t m) const;

  // The median of |measured / recorded - 1| over all cuBLASLt times that both have; nothing when
  // there is none.
  std::optional<double> disagreement(const std::vector<GemmRow>& rows) const;

  // Up to here the recorded rivals are shown.
  static constexpr double kAgreement = 0.05;

 private:
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, RecordedCell> cells_;
};

}  // namespace liquidgemm::bench
