// The speed of the Hopper W4A8 product beside cuBLASLt's FP16, FP8 and INT8 products of the same
// matrices, measured so that the figures can be compared:
//
//   * weights rotate through copies that together exceed four times the L2 cache, so every launch
//     reads device memory; outputs rotate with them, activations stay
//   * each contender is one CUDA graph of launches that wait for each other; a replay is timed with
//     events; contenders take turns in every round, so clocks and heat are the same for all
//   * of cuBLASLt every algorithm its heuristic offers (up to 40) is timed once; the best three of
//     each type enter the rounds, and the best median of them is the rival
//   * the outputs are checked after the rounds, ours bit for bit; a wrong one gives no row
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/goal_shapes.h"
#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct GemmBenchOptions {
  int group_size = 64;
  CudaOutput output = CudaOutput::kFloat16;
  std::vector<std::string> schedules = {""};  // "": the planner's choice
  bool rivals = true;
  bool programmatic = true;  // time ours with programmatic launches as well
  bool check_only = false;
  bool ablate = false;  // variants of our kernel in the place of schedules and rivals
  int rounds = 7;
  double pause_seconds = 0.0;  // before each timed replay: lets clocks and power recover
  // Where the clock is below its largest: replays of the contender itself before each timed one, so
  // that it runs at its own clock and not at the one that the contender before it has left.
  double settle_seconds = 0.0;
  double replay_seconds = 2e-3;  // each replay lasts at least this long
  std::string cublas_path;       // cuBLASLt's library or its folder; empty: searched for
  std::uint64_t seed = 1;
};

enum class Rival { kFp16, kFp8, kInt8 };
inline constexpr std::array<Rival, 3> kRivals = {Rival::kFp16, Rival::kFp8, Rival::kInt8};
constexpr const char* rival_name(Rival rival) {
  return rival == Rival::kFp16 ? "fp16" : rival == Rival::kFp8 ? "fp8" : "int8";
}

struct Timing {
  double seconds = 0.0;  // median of the rounds
  double spread = 0.0;   // (largest - smallest) / median
  // Medians while it ran; 0: not known.
  unsigned clock_mhz = 0;  // of the multiprocessors
  double power_watts = 0.0;
};

struct RivalTiming {
  Timing timing;
  int candidates = 0;     // algorithms timed
  std::string algorithm;  // "algo 66, tile 15, ..."
};

// The kernel that serves; two other ways of unpacking (gemm/cuda/unpack_kind.h); and one consumer
// warp group in the place of several.
inline constexpr std::array<const char*, 4> kAblationVariants = {"unsigned", "qserve", "xor",
                                                                 "one group"};

// One cell, one schedule.
struct GemmRow {
  Shape shape;
  std::int64_t m = 0;
  std::string kernel;      // plan.describe()
  std::string schedule;    // plan.schedule()
  int schedule_index = 0;  // which of the options' schedules this was; 0 in an ablation
  std::string variant;     // of an ablation, compared with the others of the same tile
  std::string tile;        // "256 x 16": rows and tokens; of an ablation
  std::optional<Timing> ours;
  std::optional<Timing> programmatic;
  std::array<std::optional<RivalTiming>, 3> rivals;  // in kRivals' order
  double floor_seconds = 0.0;
  int weight_copies = 0;
  std::int64_t checked_tokens = 0;
  bool settled = false;  // the contenders were (GemmBenchOptions::settle_seconds)
};

// What one cell gave: a row for each schedule that ran and was right, and why others have none.
struct GemmCell {
  std::vector<GemmRow> rows;
  std::vector<std::string> refused;  // schedules that the planner refuses here, with its reason
  Status wrong;                      // the first output that was not right
};

class GemmBench {
 public:
  // Opens the GPU and, for rivals, cuBLASLt; measures the ceilings.
  static Result<GemmBench> open(const GemmBenchOptions& options);

  const CudaDevice& device() const;
  const Ceilings& ceilings() const;
  std::string cublas_version() const;  // "13.1.0 (libcublasLt.so.13)"; empty without rivals
  std::string driver_version() const;  // NVIDIA's own number; empty when unknown

  // Weights and scratch memory are kept from one call to the next while the shape stays the same.
  Result<GemmCell> measure(const Shape& shape, std::int64_t m);

  GemmBench(GemmBench&&) noexcept;
  GemmBench& operator=(GemmBench&&) noexcept;
  ~GemmBench();

 private:
  struct State;
  explicit GemmBench(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace liquidgemm::bench
