#include "cli/bench_cpu_report.h"

#include <fmt/format.h>

#include "cli/bench_ceilings.h"
#include "cli/bench_records.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {
namespace {

using bench::cpu::GemmRow;

std::string microseconds(double seconds) { return fmt::format("{:.1f}", seconds * 1e6); }
std::string percent(double share) { return fmt::format("{:.1f} %", 100.0 * share); }

const char* precision_name(bench::cpu::WeightKind kind) {
  return kind == bench::cpu::WeightKind::kInt8 ? "w8a8" : "w4a8";
}

}  // namespace

Table CpuGemmReport::table() const {
  Table table({"shape", "N", "K", "M", "us", "GB/s", "of read", "GOPS", "of ops", "floor us",
               "ours / floor", "quantize"});
  for (const GemmRow& row : rows) {
    const double floor = floor_seconds(ceilings, row.weight_bytes, row.operations());
    table.add({row.shape.name, std::to_string(row.shape.n), std::to_string(row.shape.k),
               std::to_string(row.m), microseconds(row.seconds),
               fmt::format("{:.1f}", row.bytes_per_second() / 1e9),
               percent(row.bytes_per_second() / ceilings.read.rate()),
               fmt::format("{:.1f}", row.operations_per_second() / 1e9),
               percent(row.operations_per_second() / ceilings.operations.rate()),
               microseconds(floor), fmt::format("{:.2f}", row.seconds / floor),
               percent(row.quantize_seconds / row.seconds)});
  }
  return table;
}

std::string CpuGemmReport::caption() const {
  return fmt::format(
      "{}, {} {}; {}.\n"
      "Read bandwidth: {}.\n"
      "Operations: {}.\n"
      "Floor: max(weight bytes / read bandwidth, operations / their rate), measured in this run.\n"
      "Medians of {} rounds, quantising the activations included; weights from memory; outputs "
      "checked.\n",
      cpu, threads, threads == 1 ? "thread" : "threads", rows.front().kernel,
      ceiling_text(ceilings.read, "GB/s"), ceiling_text(ceilings.operations, "GOPS"),
      options.rounds);
}

json::Object CpuGemmReport::to_json() const {
  json::Array cells;
  for (const GemmRow& row : rows) {
    const double floor = floor_seconds(ceilings, row.weight_bytes, row.operations());
    cells.push_back(
        json::Object{{"shape", row.shape.name},
                     {"n", row.shape.n},
                     {"k", row.shape.k},
                     {"m", row.m},
                     {"kernel", row.kernel},
                     {"ours", json::Object{{"us", row.seconds * 1e6}, {"spread", row.spread}}},
                     {"quantize_us", row.quantize_seconds * 1e6},
                     {"quantize_share", row.quantize_seconds / row.seconds},
                     {"gb_per_second", row.bytes_per_second() / 1e9},
                     {"read_share", row.bytes_per_second() / ceilings.read.rate()},
                     {"gops", row.operations_per_second() / 1e9},
                     {"operations_share", row.operations_per_second() / ceilings.operations.rate()},
                     {"floor_us", floor * 1e6},
                     {"ours_over_floor", row.seconds / floor},
                     {"weight_bytes", row.weight_bytes},
                     {"weight_copies", row.weight_copies},
                     {"checked_tokens", row.checked_tokens}});
  }
  json::Object object{{"device", "cpu"},
                      {"cpu", cpu},
                      {"threads", threads},
                      {"isa", std::string(isa_name(options.isa))},
                      {"version", LIQUIDGEMM_VERSION},
                      {"commit", LIQUIDGEMM_COMMIT},
                      {"date", today()},
                      {"command", command},
                      {"precision", precision_name(options.kind)},
                      {"seconds", seconds},
                      {"rounds", options.rounds},
                      {"read", ceiling_json(ceilings.read, "gb_per_second")},
                      {"operations", ceiling_json(ceilings.operations, "gops")},
                      {"rows", std::move(cells)}};
  if (options.kind == bench::cpu::WeightKind::kLiquid4) object["group_size"] = options.group_size;
  return object;
}

std::string CpuGemmReport::csv() const {
  std::string text =
      "shape,N,K,M,ours_us,quantize_us,gb_per_second,gops,read_gb_per_second,peak_gops,floor_us,"
      "kernel\n";
  for (const GemmRow& row : rows) {
    const double floor = floor_seconds(ceilings, row.weight_bytes, row.operations());
    text += fmt::format("{},{},{},{},{:.2f},{:.2f},{:.2f},{:.1f},{:.2f},{:.1f},{:.2f},{}\n",
                        row.shape.name, row.shape.n, row.shape.k, row.m, row.seconds * 1e6,
                        row.quantize_seconds * 1e6, row.bytes_per_second() / 1e9,
                        row.operations_per_second() / 1e9, ceilings.read.rate() / 1e9,
                        ceilings.operations.rate() / 1e9, floor * 1e6, row.kernel);
  }
  return text;
}

}  // namespace liquidgemm::cli
