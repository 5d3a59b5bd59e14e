// The speed of the product on this CPU, beside what the machine can do at best:
//
//   * the product is quantising the activations and the GEMM, as a model runs them; quantising is
//     timed once more by itself
//   * weights rotate through copies that together exceed 256 MB, so they come from memory
//   * a time is the median of the rounds; a round is as many products as fill a few milliseconds
//   * after each round memory is read once, as fast as a probe does: a shared machine's bandwidth
//     changes within a run, and what a product reads at can be compared with its own moment's
//   * afterwards outputs are compared with the reference bit for bit; a wrong one gives no row
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/cpu/ceiling.h"
#include "bench/cpu/layer.h"
#include "bench/cpu/onednn.h"

namespace liquidgemm::bench::cpu {

struct GemmOptions {
  Isa isa = Isa::kScalar;
  int threads = 0;  // 0: one for each CPU
  WeightKind kind = WeightKind::kLiquid4;
  int group_size = 64;
  int rounds = 7;
  double round_seconds = 10e-3;  // at least, or one product
  std::uint64_t seed = 1;
  bool rivals = true;
};

// What a ceiling's fastest probe gave between the rounds of a row, and the row's share of it: the
// median of what the rounds have of the probe behind them.
struct InTurn {
  double rate = 0.0;
  double share = 0.0;
};

struct GemmRow {
  Shape shape;
  std::int64_t m = 0;
  std::string kernel;             // as the layer describes itself
  double seconds = 0.0;           // of one product: the median of the rounds
  double spread = 0.0;            // (largest - smallest) / median
  double quantize_seconds = 0.0;  // of quantising the activations, part of `seconds`
  InTurn read_in_turn;            // its share is above 1 where some weights come from a cache
  InTurn operations_in_turn;
  double weight_bytes = 0.0;
  std::int64_t weight_copies = 0;
  std::int64_t checked_tokens = 0;
  std::optional<OneDnnTime> onednn;  // where it is compared and its program is there

  double operations() const;
  double multiply_seconds() const { return seconds - quantize_seconds; }
  double bytes_per_second() const { return weight_bytes / seconds; }
  double operations_per_second() const { return operations() / seconds; }
};

class GemmBench {
 public:
  // Starts the threads. The machine runs options.isa (check_isa).
  explicit GemmBench(const GemmOptions& options);

  int threads() const;
  const CpuCeilings& ceilings() const;
  // To be called at the end: measures the ceilings once more and raises them to rows that beat
  // them.
  Status settle_ceilings(const std::vector<GemmRow>& rows);

  // The layer is kept from one call to the next while the shape stays the same. Before another one
  // is made, the ceilings are measured: the clocks of a shared machine change within a run.
  Result<GemmRow> measure(const Shape& shape, std::int64_t m);

  GemmBench(GemmBench&&) noexcept;
  GemmBench& operator=(GemmBench&&) noexcept;
  ~GemmBench();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Raises what `rows` beat; the row is named as "4096x4096, M 1".
void raise_to_rows(const std::vector<GemmRow>& rows, CpuCeilings& ceilings);

}  // namespace liquidgemm::bench::cpu
