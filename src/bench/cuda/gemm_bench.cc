#include "bench/gemm_bench.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <random>
#include <thread>

#include "bench/cuda/ablation.h"
#include "bench/cuda/contender.h"
#include "bench/cuda/operands.h"
#include "bench/cuda/reference_gemm.h"
#include "bench/device_bench.h"
#include "bench/nvml.h"
#include "gemm/cuda/cublaslt.h"

namespace liquidgemm::bench {
namespace {

using cuda::CublasLt;
using cuda::CublasProduct;
using cuda::CublasType;

constexpr int kCandidates = 40;      // algorithms asked of cuBLASLt for each product
constexpr int kFinalists = 3;        // of them, in the rounds: at most so many, of those whose time
constexpr double kClose = 1.05;      // is at most so many times the fastest one's
constexpr double kMayBeBest = 1.25;  // a rival whose screening took longer is not the best one
constexpr double kUnthrottled = 0.97;  // of the largest clock
constexpr double kScreeningSeconds = 200e-6;
// Clock and power are read in the last rounds only: the driver's answer may take longer than a
// replay.
constexpr int kSampledRounds = 3;
constexpr std::size_t kAlignment = 1024;
// Launches that may overlap (programmatic ones) must not share a workspace.
constexpr int kWorkspaces = 4;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The same bytes at many addresses, so that rotating through them misses the L2 cache.
struct Copies {
  DeviceBuffer memory;
  std::size_t stride = 0;
  int count = 0;
  char* at(int index) const { return memory.bytes() + index % count * stride; }
};

// More than 256 MiB and more than four times the L2 cache together, and at least two.
Result<Copies> allocate_copies(std::size_t bytes, const CudaDevice& device, bool few,
                               const std::string& what) {
  Copies copies;
  copies.stride = aligned(bytes);
  const std::size_t together = std::max(std::size_t{256} << 20, 4 * device.l2_bytes);
  copies.count = few ? 2 : std::max(2, static_cast<int>(together / copies.stride) + 1);
  LIQUIDGEMM_ASSIGN_OR_RETURN(copies.memory,
                              DeviceBuffer::allocate(copies.stride * copies.count, what));
  return copies;
}

// Makes `memory` at least `bytes` large, with room to grow; or anew and exactly as large.
Status reserve(DeviceBuffer& memory, std::size_t bytes, bool exact, const std::string& what) {
  if (!exact && memory.size() >= bytes) return ok_status();
  memory = DeviceBuffer();  // gives back the old one first
  const std::size_t room = exact ? 0 : std::min(bytes, std::size_t{256} << 20);
  LIQUIDGEMM_ASSIGN_OR_RETURN(memory, DeviceBuffer::allocate(bytes + room, what));
  return ok_status();
}

// Fills copies first.. from `source`.
Status spread(const Copies& copies, const void* source, std::size_t bytes, int first,
              cudaStream_t stream) {
  for (int i = first; i < copies.count; ++i) {
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
        cudaMemcpyAsync(copies.at(i), source, bytes, cudaMemcpyDeviceToDevice, stream));
  }
  return ok_status();
}

// Everything that depends on the shape but not on the number of tokens.
struct Weights {
  Shape shape;
  WeightFormats formats;
  Copies ours;
  std::array<Copies, 3> rivals;
};

// What the cells of one shape share, so that a sweep over many token counts does not allocate and
// release it for each. A run that only checks has memory of the exact size instead, where a memory
// checker sees every step past the end.
struct Scratch {
  ActivationFormats x;
  std::int64_t x_tokens = 0;
  Copies y;  // one set of outputs for all contenders: they are checked one after the other
  std::vector<Copies> workspaces;  // of each schedule or variant
};

RivalOutput output_of(Rival rival) {
  switch (rival) {
    case Rival::kFp16: return RivalOutput::kFloat16;
    case Rival::kFp8: return RivalOutput::kBFloat16;
    case Rival::kInt8: break;
  }
  return RivalOutput::kInt32;
}

CublasType type_of(Rival rival) {
  switch (rival) {
    case Rival::kFp16: return CublasType::kF16;
    case Rival::kFp8: return CublasType::kE4m3;
    case Rival::kInt8: break;
  }
  return CublasType::kInt8;
}

std::size_t output_bytes(Rival rival) { return rival == Rival::kInt8 ? 4 : 2; }

// What rounding to the format may cost on Gaussian matrices, with room.
double allowed_error(Rival rival) { return rival == Rival::kFp16 ? 0.01 : 0.1; }

// A rival's finalist and the product it is an algorithm of.
struct Finalist {
  Rival rival;
  int candidate = 0;
  int candidates = 0;
  double screened = 0.0;  // seconds of a launch when all candidates were timed
  Contender contender;
};

// One of our schedules, or a variant of the ablation.
struct Planned {
  std::string variant, tile;
  std::string kernel, schedule;
  int schedule_index = 0;  // in the options' schedules; 0 in an ablation
  std::size_t workspace_bytes = 0;
  std::function<Status(const CudaGemmArguments&, CudaStream)> launch;
};

// A contender in the rounds of a cell.
struct Entrant {
  Contender* contender = nullptr;
  bool settles = false;  // where the clock goes down
  bool sampled = false;  // clock and power are read even if it does not settle
};

struct Ours {
  Planned planned;
  Contender strict;
  std::optional<Contender> programmatic;
};

}  // namespace

struct GemmBench::State {
  GemmBenchOptions options;
  CudaDevice device;
  Ceilings ceilings;
  Stopwatch watch;
  std::unique_ptr<CublasLt> cublas;
  std::optional<Nvml> nvml;
  std::optional<Weights> weights;
  Scratch scratch;  // for this shape
  std::mt19937_64 random{std::random_device{}()};

  CudaGemmDesc desc(const Shape& shape) const {
    return {.n = shape.n, .k = shape.k, .group_size = options.group_size, .output = options.output};
  }

  Status use_shape(const Shape& shape);
  Status use_tokens(std::int64_t m);
  std::vector<std::int32_t> pick_tokens(std::int64_t m);
  Result<std::unique_ptr<CublasProduct>> screen(Rival rival, std::int64_t m,
                                                const ActivationFormats& x, const Copies& y,
                                                std::vector<Finalist>& finalists);
  Result<std::vector<Planned>> plan_ours(const Shape& shape, std::int64_t m,
                                         std::vector<std::string>& refused) const;
  Result<Contender> contend(const Planned& planned, const ActivationFormats& x, const Copies& y,
                            const Copies& workspaces, bool programmatic);
  Result<bool> throttles(const std::vector<Entrant>& entrants);
  // `settled`: the clock goes down, and those that settle did.
  Status run_rounds(const std::vector<Entrant>& entrants, bool& settled);
  Status check_ours(Contender& contender, const Copies& y, std::size_t y_bytes,
                    const Reference& reference);
  Result<GemmCell> measure(const Shape& shape, std::int64_t m);
};

Status GemmBench::State::use_shape(const Shape& shape) {
  if (weights && weights->shape.n == shape.n && weights->shape.k == shape.k) {
    weights->shape.name = shape.name;
    return ok_status();
  }
  weights.reset();
  scratch = {};
  const CudaGemmDesc layer = desc(shape);
  LIQUIDGEMM_RETURN_IF_ERROR(can_implement(layer, device));
  const cudaStream_t stream = watch.stream();
  Weights made;
  made.shape = shape;
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      made.formats, make_weights(shape, options.group_size, options.rivals, options.seed, stream));
  const std::size_t bytes = packed_weight_bytes(layer);
  LIQUIDGEMM_ASSIGN_OR_RETURN(made.ours,
                              allocate_copies(bytes, device, options.check_only, "packed weights"));
  LIQUIDGEMM_RETURN_IF_ERROR(
      pack_weights(layer, made.formats.source(shape.name), made.ours.at(0), stream));
  LIQUIDGEMM_RETURN_IF_ERROR(spread(made.ours, made.ours.at(0), bytes, 1, stream));
  if (options.rivals) {
    for (const Rival rival : kRivals) {
      const DeviceBuffer& format = rival == Rival::kFp16  ? made.formats.f16
                                   : rival == Rival::kFp8 ? made.formats.e4m3
                                                          : made.formats.int8;
      Copies& copies = made.rivals[static_cast<int>(rival)];
      LIQUIDGEMM_ASSIGN_OR_RETURN(copies,
                                  allocate_copies(format.size(), device, false,
                                                  std::string(rival_name(rival)) + " weights"));
      LIQUIDGEMM_RETURN_IF_ERROR(spread(copies, format.as<void>(), format.size(), 0, stream));
    }
  }
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  weights = std::move(made);
  return ok_status();
}

// Activations and outputs for m tokens.
Status GemmBench::State::use_tokens(std::int64_t m) {
  const Shape& shape = weights->shape;
  // Each row of X comes from its own numbers and has a scale of its own, so a longer X serves fewer
  // tokens. Only the rivals' FP8 scale belongs to the whole matrix.
  const bool exact = options.rivals || options.check_only;
  if (scratch.x_tokens < m || (exact && scratch.x_tokens != m)) {
    constexpr std::int64_t kStep = 128;
    const std::int64_t tokens = exact ? m : (m + kStep - 1) / kStep * kStep;
    scratch.x_tokens = 0;
    scratch.x = {};
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        scratch.x, make_activations(tokens, shape.k, options.rivals, options.seed, watch.stream()));
    scratch.x_tokens = tokens;
  }
  Copies& y = scratch.y;
  y.stride = aligned(static_cast<std::size_t>(m * shape.n) * (options.rivals ? 4 : 2));
  y.count = weights->ours.count;
  if (options.rivals) {
    for (const Copies& copies : weights->rivals) y.count = std::max(y.count, copies.count);
  }
  return reserve(y.memory, y.stride * y.count, options.check_only, "outputs");
}

// Up to Reference::kTokens different tokens.
std::vector<std::int32_t> GemmBench::State::pick_tokens(std::int64_t m) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(m));
  std::iota(tokens.begin(), tokens.end(), 0);
  std::shuffle(tokens.begin(), tokens.end(), random);
  tokens.resize(static_cast<std::size_t>(std::min(m, Reference::kTokens)));
  std::sort(tokens.begin(), tokens.end());
  return tokens;
}

// Times every algorithm of one rival once and adds the fastest to `finalists`.
Result<std::unique_ptr<CublasProduct>> GemmBench::State::screen(Rival rival, std::int64_t m,
                                                                const ActivationFormats& x,
                                                                const Copies& y,
                                                                std::vector<Finalist>& finalists) {
  const Shape& shape = weights->shape;
  const Copies& w = weights->rivals[static_cast<int>(rival)];
  const void* input = rival == Rival::kFp16  ? x.f16.as<void>()
                      : rival == Rival::kFp8 ? x.e4m3.as<void>()
                                             : x.int8.as<void>();
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      std::unique_ptr<CublasProduct> product,
      cublas->make({.type = type_of(rival), .n = shape.n, .k = shape.k, .m = m}, kCandidates));
  const CublasProduct* library = product.get();
  const auto launch_of = [&w, &y, input, library](int candidate) {
    return [=, &w, &y](int index, cudaStream_t stream) {
      return library->launch(candidate, {.w = w.at(index), .x = input, .y = y.at(index)}, stream);
    };
  };
  // A first guess of the time, only to choose how many launches screen an algorithm.
  const double guess =
      std::max(static_cast<double>(w.stride) / 4e12,
               2.0 * static_cast<double>(shape.n * shape.k) * static_cast<double>(m) / 1e15);
  const int launches = std::max(2, static_cast<int>(kScreeningSeconds / guess) + 1);
  std::vector<std::pair<double, int>> times;
  for (int candidate = 0; candidate < product->candidates(); ++candidate) {
    const Launch launch = launch_of(candidate);
    const Status first = launch(0, watch.stream());
    if (first.code() == StatusCode::kUnsupported) continue;
    LIQUIDGEMM_RETURN_IF_ERROR(first);
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(watch.stream()));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, watch.shortest(launches, 2, launch));
    times.emplace_back(seconds, candidate);
  }
  std::sort(times.begin(), times.end());
  for (std::size_t i = 0; i < std::min<std::size_t>(kFinalists, times.size()); ++i) {
    if (times[i].first > kClose * times[0].first) break;
    const int candidate = times[i].second;
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        Contender contender,
        Contender::make(w.count, options.replay_seconds, launch_of(candidate), watch));
    finalists.push_back(
        {rival, candidate, static_cast<int>(times.size()), times[i].first, std::move(contender)});
  }
  return product;
}

// What is measured of ours; why a schedule is not goes to `refused`.
Result<std::vector<Planned>> GemmBench::State::plan_ours(const Shape& shape, std::int64_t m,
                                                         std::vector<std::string>& refused) const {
  std::vector<Planned> all;
  if (options.ablate) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(auto variants, plan_ablation(desc(shape), m, device));
    for (AblationPlan& variant : variants) {
      const auto plan = std::make_shared<const cuda::KernelPlan>(std::move(variant.plan));
      const std::string schedule = plan->schedule_text();
      all.push_back({variant.variant, variant.tile, variant.variant + ", schedule " + schedule,
                     schedule, 0, plan->workspace_bytes(),
                     [plan](const CudaGemmArguments& arguments, CudaStream stream) {
                       return plan->launch(arguments, stream);
                     }});
    }
    return all;
  }
  for (std::size_t i = 0; i < options.schedules.size(); ++i) {
    const std::string& schedule = options.schedules[i];
    auto made = CudaGemmPlan::make(desc(shape), m, device, schedule);
    if (!made.ok() && schedule.empty()) return made.status();
    if (!made.ok()) {
      refused.push_back(shape.name + ", M " + std::to_string(m) + ", schedule '" + schedule +
                        "': " + made.status().message());
      continue;
    }
    const auto plan = std::make_shared<const CudaGemmPlan>(std::move(*made));
    all.push_back({"", "", plan->describe(), plan->schedule(), static_cast<int>(i),
                   plan->workspace_bytes(),
                   [plan](const CudaGemmArguments& arguments, CudaStream stream) {
                     return plan->launch(arguments, stream);
                   }});
  }
  return all;
}

Result<Contender> GemmBench::State::contend(const Planned& planned, const ActivationFormats& x,
                                            const Copies& y, const Copies& workspaces,
                                            bool programmatic) {
  const Shape& shape = weights->shape;
  const Copies* packed = &weights->ours;
  CudaGemmArguments arguments{.x8 = x.int8.as<std::int8_t>(),
                              .ld_x = shape.k,
                              .x_scale = x.scale.as<float>(),
                              .x_sum = x.sum.as<std::int32_t>(),
                              .ld_y = shape.n,
                              .programmatic_launch = programmatic};
  const auto launch = [=, kernel = planned.launch, &y, &workspaces](int index,
                                                                    cudaStream_t stream) {
    CudaGemmArguments call = arguments;
    call.weights = packed->at(index);
    call.y = y.at(index % packed->count);  // each copy of the weights has an output of its own
    call.workspace = workspaces.at(programmatic ? index : 0);
    return kernel(call, stream);
  };
  return Contender::make(packed->count, options.check_only ? 0.0 : options.replay_seconds, launch,
                         watch);
}

// Whether the clock goes down while the contenders run.
Result<bool> GemmBench::State::throttles(const std::vector<Entrant>& entrants) {
  const unsigned largest = nvml ? nvml->largest_clock_mhz() : 0;
  if (largest == 0) return true;
  for (const Entrant& entrant : entrants) {
    unsigned clock = 0;
    LIQUIDGEMM_RETURN_IF_ERROR(
        entrant.contender->replay_once(watch, [&] { clock = nvml->clock_mhz(); }));
    if (clock < kUnthrottled * largest) return true;
  }
  return false;
}

// Every contender once a round, each round beginning with another one.
Status GemmBench::State::run_rounds(const std::vector<Entrant>& entrants, bool& settled) {
  settled = false;
  if (options.settle_seconds > 0.0) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(settled, throttles(entrants));
  }
  for (int round = 0; round < options.rounds; ++round) {
    const bool sampling = nvml && round + kSampledRounds >= options.rounds;
    for (std::size_t i = 0; i < entrants.size(); ++i) {
      const Entrant& entrant = entrants[(i + round) % entrants.size()];
      if (options.pause_seconds > 0.0) {
        std::this_thread::sleep_for(std::chrono::duration<double>(options.pause_seconds));
      }
      const bool settles = settled && entrant.settles;
      if (settles) {
        LIQUIDGEMM_RETURN_IF_ERROR(entrant.contender->replay_for(options.settle_seconds, watch));
      }
      // A reading takes about as long as a replay.
      const bool read = sampling && (settles || entrant.sampled);
      LIQUIDGEMM_RETURN_IF_ERROR(entrant.contender->run_round(watch, read ? &*nvml : nullptr));
    }
  }
  return ok_status();
}

// Poisons the outputs, replays the timed graph once more and looks at the output of every copy.
Status GemmBench::State::check_ours(Contender& contender, const Copies& y, std::size_t y_bytes,
                                    const Reference& reference) {
  LIQUIDGEMM_RETURN_IF_ERROR(contender.replay_once(watch));  // as the rounds do: on used workspaces
  for (int i = 0; i < contender.copies(); ++i) {
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(y.at(i), 0xff, y_bytes, watch.stream()));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(contender.replay_once(watch));
  for (int i = 0; i < contender.copies(); ++i) {
    const Status status = reference.check(y.at(i), watch.stream());
    if (!status.ok()) return status.with_context("weight copy " + std::to_string(i));
  }
  return ok_status();
}

Result<GemmCell> GemmBench::State::measure(const Shape& shape, std::int64_t m) {
  LIQUIDGEMM_RETURN_IF_ERROR(use_shape(shape));
  LIQUIDGEMM_RETURN_IF_ERROR(use_tokens(m));
  const cudaStream_t stream = watch.stream();
  const ActivationFormats& x = scratch.x;
  const Copies& y = scratch.y;
  const std::size_t elements = static_cast<std::size_t>(m * shape.n);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Reference reference,
                              Reference::make(shape, options.group_size, options.output,
                                              weights->formats, x, pick_tokens(m), stream));

  GemmCell cell;
  std::vector<Ours> ours;
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<Planned> all, plan_ours(shape, m, cell.refused));
  ours.reserve(all.size());  // the rounds point at these, and these at the workspaces
  if (scratch.workspaces.size() < all.size()) scratch.workspaces.resize(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    Copies& workspace = scratch.workspaces[i];
    workspace.stride = std::max(aligned(all[i].workspace_bytes), kAlignment);
    workspace.count = kWorkspaces;
    const std::size_t bytes = workspace.stride * kWorkspaces;
    LIQUIDGEMM_RETURN_IF_ERROR(reserve(workspace.memory, bytes, options.check_only, "workspaces"));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(workspace.memory.as<void>(), 0, bytes, stream));
    ours.push_back({std::move(all[i]), Contender(), std::nullopt});
    Ours& entry = ours.back();
    LIQUIDGEMM_ASSIGN_OR_RETURN(entry.strict, contend(entry.planned, x, y, workspace, false));
    if (options.programmatic) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(entry.programmatic,
                                  contend(entry.planned, x, y, workspace, true));
    }
  }

  std::vector<std::unique_ptr<CublasProduct>> products;
  std::vector<Finalist> finalists;
  if (options.rivals) {
    for (const Rival rival : kRivals) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(products.emplace_back(), screen(rival, m, x, y, finalists));
    }
  }

  GemmRow common;
  common.shape = shape;
  common.m = m;
  common.weight_copies = weights->ours.count;
  common.checked_tokens = reference.checked();
  if (!options.check_only) {
    common.floor_seconds = floor_seconds(shape, m, options.group_size, ceilings);
    // Programmatic launches follow ours; of the rivals only those settle that may be the best.
    std::vector<Entrant> entrants;
    for (Ours& entry : ours) {
      entrants.push_back({&entry.strict, true, &entry == &ours[0]});
      if (entry.programmatic) entrants.push_back({&*entry.programmatic});
    }
    double fastest = INFINITY;
    for (const Finalist& finalist : finalists) fastest = std::min(fastest, finalist.screened);
    for (Finalist& finalist : finalists) {
      entrants.push_back({&finalist.contender, finalist.screened <= kMayBeBest * fastest});
    }
    LIQUIDGEMM_RETURN_IF_ERROR(run_rounds(entrants, common.settled));
  }

  for (Finalist& finalist : finalists) {
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(y.at(0), 0xff, elements * output_bytes(finalist.rival), stream));
    LIQUIDGEMM_RETURN_IF_ERROR(finalist.contender.replay_once(watch));
    const float factor =
        finalist.rival == Rival::kFp8 ? 1.0f / (weights->formats.e4m3_scale * x.e4m3_scale) : 1.0f;
    LIQUIDGEMM_ASSIGN_OR_RETURN(const double error,
                                relative_error(shape, m, weights->formats, x, y.at(0),
                                               output_of(finalist.rival), factor, stream));
    const int rival = static_cast<int>(finalist.rival);
    const std::string algorithm = products[rival]->describe(finalist.candidate);
    if (!(error <= allowed_error(finalist.rival))) {
      return internal_error(shape.name + ", M " + std::to_string(m) + ": cuBLASLt " +
                            rival_name(finalist.rival) + ", " + algorithm +
                            ": relative error of the output " + std::to_string(error));
    }
    const Timing timing = finalist.contender.timing();
    std::optional<RivalTiming>& best = common.rivals[rival];
    if (!best || timing.seconds < best->timing.seconds) {
      best = RivalTiming{timing, finalist.candidates, algorithm};
    }
  }

  for (Ours& entry : ours) {
    GemmRow row = common;
    row.variant = entry.planned.variant;
    row.tile = entry.planned.tile;
    row.kernel = entry.planned.kernel;
    row.schedule = entry.planned.schedule;
    row.schedule_index = entry.planned.schedule_index;
    Status status = check_ours(entry.strict, y, elements * 2, reference);
    if (status.ok() && entry.programmatic) {
      status = check_ours(*entry.programmatic, y, elements * 2, reference)
                   .with_context("programmatic launch");
    }
    if (!status.ok()) {
      // A failure of CUDA itself leaves nothing to go on with.
      LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError());
      if (cell.wrong.ok()) {
        cell.wrong = status.with_context(shape.name + ", M " + std::to_string(m) + ", " +
                                         entry.planned.kernel);
      }
      continue;
    }
    if (!options.check_only) {
      row.ours = entry.strict.timing();
      if (entry.programmatic) row.programmatic = entry.programmatic->timing();
    }
    cell.rows.push_back(std::move(row));
  }
  return cell;
}

GemmBench::GemmBench(std::unique_ptr<State> state) : state_(std::move(state)) {}
GemmBench::GemmBench(GemmBench&&) noexcept = default;
GemmBench& GemmBench::operator=(GemmBench&&) noexcept = default;
GemmBench::~GemmBench() = default;

Result<GemmBench> GemmBench::open(const GemmBenchOptions& options) {
  auto state = std::make_unique<State>();
  state->options = options;
  if (options.check_only || options.ablate) state->options.rivals = false;
  if (options.ablate) state->options.programmatic = false;
  LIQUIDGEMM_ASSIGN_OR_RETURN(state->device, open_cuda_device());
  LIQUIDGEMM_ASSIGN_OR_RETURN(state->watch, Stopwatch::make());
  if (state->options.rivals) {
    auto cublas = CublasLt::open(options.cublas_path);
    if (!cublas.ok()) {
      return cublas.status().with_context(
          "the rivals are cuBLASLt's products: give its folder with --cublas-lib or leave them out "
          "with --no-rivals");
    }
    state->cublas = *std::move(cublas);
  }
  if (!options.check_only) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(state->ceilings, measure_ceilings(state->device));
  }
  char bus_id[32] = "";
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, state->device.index));
  if (auto nvml = Nvml::open(bus_id)) state->nvml.emplace(std::move(*nvml));
  return GemmBench(std::move(state));
}

const CudaDevice& GemmBench::device() const { return state_->device; }
const Ceilings& GemmBench::ceilings() const { return state_->ceilings; }

std::string GemmBench::cublas_version() const {
  return state_->cublas ? state_->cublas->version() : "";
}

std::string GemmBench::driver_version() const {
  return state_->nvml ? state_->nvml->driver_version() : "";
}

Result<GemmCell> GemmBench::measure(const Shape& shape, std::int64_t m) {
  auto cell = state_->measure(shape, m);
  if (!cell.ok() && cell.status().code() != StatusCode::kInternal) {
    return cell.status().with_context(shape.name + ", M " + std::to_string(m));
  }
  return cell;
}

}  // namespace liquidgemm::bench
