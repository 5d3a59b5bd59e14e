#include "bench/cpu/gemm_bench.h"

#include <algorithm>
#include <optional>

#include "base/median.h"
#include "base/status_macros.h"
#include "bench/cpu/product.h"
#include "bench/cpu/run_probes.h"
#include "bench/cpu/timing.h"
#include "bench/memory.h"

namespace liquidgemm::bench::cpu {
namespace {

// A cell that would be swapped, or end the process, is refused before anything is allocated: its
// own memory, and the probes' if they do not have it yet.
Status check_cell_memory(const Shape& shape, std::int64_t m, const GemmOptions& options,
                         std::int64_t probe_bytes) {
  const double weights = weight_bytes(shape, options.kind, options.group_size);
  const double needed = weights * (1.0 + static_cast<double>(weight_copies(weights))) +
                        product_bytes(shape, m) + static_cast<double>(probe_bytes);
  return check_memory(
      needed,
      shape.name + ", M " + std::to_string(m) +
          (probe_bytes == 0 ? ": copies of the weights, activations and outputs take "
                            : ": copies of the weights, activations, outputs and "
                              "the probes' data take "),
      "take a smaller --shape or --m");
}

struct Turns {
  std::vector<double> rates;
  std::vector<double> shares;
  void add(double of_row, double of_probe) {
    rates.push_back(of_probe);
    shares.push_back(of_row / of_probe);
  }
  InTurn medians() const { return {median(rates), median(shares)}; }
};

}  // namespace

double GemmRow::operations() const {
  return 2.0 * static_cast<double>(m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
}

struct GemmBench::State {
  explicit State(const GemmOptions& options) : options(options), pool(options.threads) {}

  GemmOptions options;
  ThreadPool pool;
  std::optional<Probes> probes;
  CpuCeilings ceilings;
  std::optional<Layer> layer;

  Status measure_ceilings() {
    if (!probes) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(probes, Probes::make(options.isa, pool));
    }
    probes->run(ceilings);
    return ok_status();
  }
};

GemmBench::GemmBench(const GemmOptions& options) : state_(std::make_unique<State>(options)) {}
GemmBench::GemmBench(GemmBench&&) noexcept = default;
GemmBench& GemmBench::operator=(GemmBench&&) noexcept = default;
GemmBench::~GemmBench() = default;

int GemmBench::threads() const { return state_->pool.threads(); }
const CpuCeilings& GemmBench::ceilings() const { return state_->ceilings; }

Status GemmBench::settle_ceilings(const std::vector<GemmRow>& rows) {
  LIQUIDGEMM_RETURN_IF_ERROR(state_->measure_ceilings());
  raise_to_rows(rows, state_->ceilings);
  return ok_status();
}

Result<GemmRow> GemmBench::measure(const Shape& shape, std::int64_t m) {
  const GemmOptions& options = state_->options;
  ThreadPool& pool = state_->pool;
  const double bytes = weight_bytes(shape, options.kind, options.group_size);
  LIQUIDGEMM_RETURN_IF_ERROR(
      check_cell_memory(shape, m, options, state_->probes ? 0 : Probes::kBytes));
  if (!state_->layer || state_->layer->shape().n != shape.n ||
      state_->layer->shape().k != shape.k) {
    state_->layer.reset();  // the memory of one is there for the next
    LIQUIDGEMM_RETURN_IF_ERROR(state_->measure_ceilings());
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        Layer layer, Layer::make(shape, options.kind, options.group_size, options.isa, options.seed,
                                 weight_copies(bytes), pool));
    state_->layer = std::move(layer);
  }
  const Layer& layer = *state_->layer;
  Product product(layer, m, options.isa, options.seed, pool);

  const auto quantize = [&] { product.quantize(); };
  const auto whole = [&] {
    product.quantize();
    product.multiply();
  };
  GemmRow row;
  row.shape = shape;
  row.m = m;
  const std::int64_t products = calls_for(options.round_seconds, whole);
  // Quantising takes a small part of the time, and so may measuring it.
  const std::int64_t quantizations = calls_for(0.1 * options.round_seconds, quantize);
  std::vector<double> times;
  std::vector<double> quantize_times;
  Turns reads;
  Turns operations;
  for (int round = 0; round < options.rounds; ++round) {
    times.push_back(seconds_of(products, whole) / static_cast<double>(products));
    quantize_times.push_back(seconds_of(quantizations, quantize) /
                             static_cast<double>(quantizations));
    reads.add(bytes / times.back(), state_->probes->read_now(state_->ceilings));
    operations.add(row.operations() / times.back(),
                   state_->probes->operations_now(state_->ceilings));
  }

  row.kernel = layer.copies().front()->describe();
  row.seconds = median(times);
  const auto [least, most] = std::minmax_element(times.begin(), times.end());
  row.spread = (*most - *least) / row.seconds;
  row.quantize_seconds = median(quantize_times);
  row.read_in_turn = reads.medians();
  row.operations_in_turn = operations.medians();
  row.weight_bytes = bytes;
  row.weight_copies = static_cast<std::int64_t>(layer.copies().size());
  LIQUIDGEMM_RETURN_IF_ERROR(product.check(row.checked_tokens));
  if (options.rivals && onednn_compares(m, options.isa)) {
    const OneDnnRequest request{
        shape, m, options.isa, pool.threads(), options.rounds, options.round_seconds};
    LIQUIDGEMM_ASSIGN_OR_RETURN(row.onednn, measure_onednn(request));
  }
  return row;
}

void raise_to_rows(const std::vector<GemmRow>& rows, CpuCeilings& ceilings) {
  for (const GemmRow& row : rows) {
    const std::string name = row.shape.name + ", M " + std::to_string(row.m);
    ceilings.read.raise(name, row.bytes_per_second());
    ceilings.operations.raise(name, row.operations_per_second());
  }
}

}  // namespace liquidgemm::bench::cpu
