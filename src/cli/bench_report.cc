#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "bench/summary.h"
#include "cli/bench_records.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {
namespace {

using bench::GemmRow;

std::string microseconds(double seconds) { return fmt::format("{:.1f}", seconds * 1e6); }

std::string optional_text(const std::optional<double>& value) {
  return value ? fmt::format("{:.1f}", *value) : "-";
}

double operations(const GemmRow& row) {
  return 2.0 * static_cast<double>(row.m) * static_cast<double>(row.shape.n) *
         static_cast<double>(row.shape.k);
}

json::Object place_json(const bench::Shape& shape, std::int64_t m) {
  return {{"shape", shape.name}, {"n", shape.n}, {"k", shape.k}, {"m", m}};
}

json::Object timing_json(const bench::Timing& timing) {
  json::Object object{{"us", timing.seconds * 1e6}, {"spread", timing.spread}};
  if (timing.clock_mhz > 0) object["sm_mhz"] = timing.clock_mhz;
  if (timing.power_watts > 0) object["power_watts"] = timing.power_watts;
  return object;
}

// The row of `variant` that an ablation compares with `row`, or null.
const GemmRow* find_variant(const std::vector<GemmRow>& rows, const GemmRow& row,
                            std::string_view variant) {
  for (const GemmRow& other : rows) {
    if (other.variant == variant && other.tile == row.tile && other.m == row.m &&
        other.shape.name == row.shape.name) {
      return &other;
    }
  }
  return nullptr;
}

// How many times as long as the kernel that serves takes, where both are there.
std::optional<double> over_unsigned(const std::vector<GemmRow>& rows, const GemmRow& row) {
  const GemmRow* base = find_variant(rows, row, bench::kAblationVariants[0]);
  if (base == nullptr) return std::nullopt;
  return row.ours->seconds / base->ours->seconds;
}

// A line for each tile, its variants beside each other.
Table ablation_table(const std::vector<GemmRow>& rows) {
  std::vector<std::string> header{"shape", "N", "K", "M", "tile"};
  for (const std::string variant : bench::kAblationVariants) {
    header.push_back(variant + " us");
    if (variant != bench::kAblationVariants[0]) header.push_back("ratio");
  }
  Table table(std::move(header));
  std::vector<const GemmRow*> shown;
  for (const GemmRow& row : rows) {
    const GemmRow* self = find_variant(rows, row, row.variant);
    if (std::find(shown.begin(), shown.end(), self) != shown.end()) continue;
    std::vector<std::string> cells{row.shape.name, std::to_string(row.shape.n),
                                   std::to_string(row.shape.k), std::to_string(row.m), row.tile};
    for (const char* variant : bench::kAblationVariants) {
      const GemmRow* found = find_variant(rows, row, variant);
      shown.push_back(found);
      cells.push_back(found != nullptr ? microseconds(found->ours->seconds) : "-");
      if (variant == bench::kAblationVariants[0]) continue;
      const auto ratio = found != nullptr ? over_unsigned(rows, *found) : std::nullopt;
      cells.push_back(ratio ? fmt::format("{:.2f}", *ratio) : "-");
    }
    table.add(std::move(cells));
  }
  return table;
}

}  // namespace

Table GemmReport::table() const {
  if (options.ablate) return ablation_table(rows);
  std::vector<std::string> header{"shape", "N", "K", "M"};
  const auto add_header = [&](std::initializer_list<const char*> names) {
    header.insert(header.end(), names.begin(), names.end());
  };
  if (options.check_only) {
    add_header({"tokens checked", "weight copies"});
  } else {
    if (options.rivals) add_header({"fp16 us", "fp8 us", "int8 us"});
    add_header({"ours us"});
    if (options.rivals) add_header({"best rival / ours"});
    add_header({"floor us", "ours / floor", "TB/s", "TOPS"});
    if (options.programmatic) add_header({"PDL us"});
    if (recorded) add_header({"QServe g128*", "QServe ch.*", "CUTLASS*"});
  }
  add_header({"schedule"});
  Table table(std::move(header));
  for (const GemmRow& row : rows) {
    std::vector<std::string> cells{row.shape.name, std::to_string(row.shape.n),
                                   std::to_string(row.shape.k), std::to_string(row.m)};
    if (options.check_only) {
      cells.push_back(std::to_string(row.checked_tokens));
      cells.push_back(std::to_string(row.weight_copies));
    } else {
      const double ours = row.ours->seconds;
      if (options.rivals) {
        for (const auto& rival : row.rivals) {
          cells.push_back(rival ? microseconds(rival->timing.seconds) : "-");
        }
      }
      cells.push_back(microseconds(ours));
      const auto best = bench::best_rival_seconds(row);
      if (options.rivals) cells.push_back(best ? fmt::format("{:.2f}", *best / ours) : "-");
      cells.push_back(microseconds(row.floor_seconds));
      cells.push_back(fmt::format("{:.2f}", ours / row.floor_seconds));
      cells.push_back(
          fmt::format("{:.2f}", bench::weight_bytes(row.shape, options.group_size) / ours / 1e12));
      cells.push_back(fmt::format("{:.1f}", operations(row) / ours / 1e12));
      if (options.programmatic) {
        cells.push_back(row.programmatic ? microseconds(row.programmatic->seconds) : "-");
      }
      if (recorded) {
        const bench::RecordedCell* cell = recorded->find(row.shape.n, row.shape.k, row.m);
        const bench::RecordedCell none;
        if (cell == nullptr) cell = &none;
        cells.push_back(optional_text(cell->qserve_g128_us));
        cells.push_back(optional_text(cell->qserve_per_channel_us));
        cells.push_back(optional_text(cell->cutlass_us));
      }
    }
    cells.push_back(row.schedule);
    table.add(std::move(cells));
  }
  return table;
}

std::string GemmReport::caption() const {
  std::string text = fmt::format("{}, {} SMs", device.name, device.multiprocessors);
  if (!driver.empty()) text += ", driver " + driver;
  if (!cublas.empty()) text += ", cuBLASLt " + cublas;
  text += fmt::format("; groups of {}, {} out.\n", options.group_size,
                      cuda_output_name(options.output));
  if (options.check_only) {
    return text + "Every output equals the reference bit for bit in the tokens checked.\n";
  }
  if (options.ablate) {
    text +=
        "Tile: weight rows x tokens. Unsigned: the kernel that serves. Qserve and xor: signed "
        "weights, unpacked\nin other ways. One group: one consumer warp group in the place of "
        "several. Ratio: time over unsigned's.\n";
  } else {
    text += fmt::format(
        "Floor: max(weight bytes / {:.2f} TB/s, operations / {:.0f} TOPS), both measured in this "
        "run.\n",
        ceilings.read_bytes_per_second / 1e12, ceilings.int8_operations_per_second / 1e12);
  }
  text += fmt::format(
      "Medians of {} rounds of graph replays, contenders in turn{}{}; weights from device memory; "
      "outputs checked.\n",
      options.rounds,
      options.settle_seconds > 0.0
          ? fmt::format(", where the clock goes down after {:.0f} ms of its own replays each",
                        options.settle_seconds * 1e3)
          : "",
      options.pause_seconds > 0.0
          ? fmt::format(" after {:.0f} ms of rest", options.pause_seconds * 1e3)
          : "");
  if (recorded) text += "* recorded on another day, microseconds: bench/baselines/README.md.\n";
  return text;
}

std::string GemmReport::conclusions() const {
  std::string text;
  for (const bench::Step& step : bench::largest_steps(rows)) {
    text += fmt::format(
        "{}: no M takes more than {:.3f} times the time of the next larger: M = {}, then {}.\n",
        step.shape.name, step.ratio, step.m, step.next_m);
  }
  if (const auto summary = bench::summarize(rows)) {
    text += fmt::format(
        "Ahead of the best rival in {} of {} cells; geometric mean {:.2f}, worst {:.2f} at M = {} "
        "of {}.\n",
        summary->ahead, summary->cells, summary->geometric_mean, summary->worst, summary->worst_m,
        summary->worst_shape.name);
  }
  return text;
}

json::Object GemmReport::to_json() const {
  json::Array cells;
  for (const GemmRow& row : rows) {
    json::Object cell{{"shape", row.shape.name},
                      {"n", row.shape.n},
                      {"k", row.shape.k},
                      {"m", row.m},
                      {"kernel", row.kernel},
                      {"schedule", row.schedule},
                      {"weight_copies", row.weight_copies},
                      {"checked_tokens", row.checked_tokens}};
    if (options.ablate) {
      cell["variant"] = row.variant;
      cell["tile"] = row.tile;
      if (const auto ratio = over_unsigned(rows, row)) cell["over_unsigned"] = *ratio;
    }
    if (row.ours) {
      const double ours = row.ours->seconds;
      cell["ours"] = timing_json(*row.ours);
      if (row.programmatic) cell["programmatic"] = timing_json(*row.programmatic);
      cell["floor_us"] = row.floor_seconds * 1e6;
      cell["ours_over_floor"] = ours / row.floor_seconds;
      cell["tb_per_second"] = bench::weight_bytes(row.shape, options.group_size) / ours / 1e12;
      cell["tops"] = operations(row) / ours / 1e12;
      cell["settled"] = row.settled;
      if (const auto best = bench::best_rival_seconds(row)) {
        cell["best_rival_over_ours"] = *best / ours;
      }
    }
    for (const bench::Rival rival : bench::kRivals) {
      const auto& timing = row.rivals[static_cast<int>(rival)];
      if (!timing) continue;
      json::Object object = timing_json(timing->timing);
      object["candidates"] = timing->candidates;
      object["algorithm"] = timing->algorithm;
      cell[std::string("cublaslt_") + bench::rival_name(rival)] = std::move(object);
    }
    if (recorded) {
      if (const auto* known = recorded->find(row.shape.n, row.shape.k, row.m)) {
        json::Object object;
        const auto put = [&](const char* name, const std::optional<double>& value) {
          if (value) object[name] = *value;
        };
        put("qserve_g128_us", known->qserve_g128_us);
        put("qserve_per_channel_us", known->qserve_per_channel_us);
        put("cutlass_int4_fp8_us", known->cutlass_us);
        cell["recorded"] = std::move(object);
      }
    }
    cells.push_back(std::move(cell));
  }
  json::Object object{{"device", device.name},
                      {"multiprocessors", device.multiprocessors},
                      {"l2_bytes", device.l2_bytes},
                      {"driver", driver},
                      {"cublaslt", cublas},
                      {"version", LIQUIDGEMM_VERSION},
                      {"commit", LIQUIDGEMM_COMMIT},
                      {"date", today()},
                      {"command", command},
                      {"group_size", options.group_size},
                      {"output", std::string(cuda_output_name(options.output))},
                      {"seconds", seconds},
                      {"rounds", options.check_only ? 0 : options.rounds},
                      {"pause_ms", options.pause_seconds * 1e3},
                      {"settle_ms", options.settle_seconds * 1e3}};
  if (!options.check_only) {
    object["read_tb_per_second"] = ceilings.read_bytes_per_second / 1e12;
    object["int8_tops"] = ceilings.int8_operations_per_second / 1e12;
  }
  object["refused"] = json::Array(refused.begin(), refused.end());
  object["rows"] = std::move(cells);
  const std::vector<bench::Step> largest = bench::largest_steps(rows);
  if (!largest.empty()) {
    json::Array steps;
    for (const bench::Step& step : largest) {
      json::Object entry = place_json(step.shape, step.m);
      entry["next_m"] = step.next_m;
      entry["ratio"] = step.ratio;
      steps.push_back(std::move(entry));
    }
    object["steps"] = std::move(steps);
  }
  if (const auto summary = bench::summarize(rows)) {
    json::Object worst = place_json(summary->worst_shape, summary->worst_m);
    worst["ratio"] = summary->worst;
    object["summary"] = json::Object{{"cells", summary->cells},
                                     {"ahead", summary->ahead},
                                     {"geometric_mean", summary->geometric_mean},
                                     {"worst", std::move(worst)}};
  }
  return object;
}

std::string GemmReport::csv() const {
  std::string text =
      "shape,N,K,M,cublaslt_fp16_us,cublaslt_fp8_us,cublaslt_int8_us,ours_us,programmatic_us,"
      "floor_us,sm_mhz,power_w,schedule\n";
  for (const GemmRow& row : rows) {
    text += fmt::format("{},{},{},{}", row.shape.name, row.shape.n, row.shape.k, row.m);
    const auto add = [&](const std::optional<bench::Timing>& timing) {
      text += timing ? fmt::format(",{:.2f}", timing->seconds * 1e6) : ",";
    };
    for (const auto& rival : row.rivals) {
      add(rival ? std::optional(rival->timing) : std::nullopt);
    }
    add(row.ours);
    add(row.programmatic);
    text += fmt::format(",{:.2f},{},{:.0f},\"{}\"\n", row.floor_seconds * 1e6, row.ours->clock_mhz,
                        row.ours->power_watts, row.schedule);
  }
  return text;
}

}  // namespace liquidgemm::cli
