#include "cli/bench_cpu_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/bench_ceilings.h"
#include "cli/bench_records.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {
namespace {

using bench::cpu::GemmRow;

std::string microseconds(double seconds) { return fmt::format("{:.1f}", seconds * 1e6); }
std::string percent(double share) { return fmt::format("{:.1f} %", 100.0 * share); }

// Both without quantising, which oneDNN's product does not contain.
double onednn_over_ours(const GemmRow& row) { return row.onednn->seconds / row.multiply_seconds(); }

const char* precision_name(bench::cpu::WeightKind kind) {
  return kind == bench::cpu::WeightKind::kInt8 ? "w8a8" : "w4a8";
}

}  // namespace

Table CpuGemmReport::table() const {
  std::vector<std::string> columns = {
      "shape",        "N",    "K",      "M",           "us",       "GB/s",         "of read",
      "read in turn", "GOPS", "of ops", "ops in turn", "floor us", "ours / floor", "quantize"};
  if (rival() != nullptr) columns.insert(columns.end(), {"oneDNN us", "oneDNN / ours"});
  Table table(columns);
  for (const GemmRow& row : rows) {
    const double floor = floor_seconds(ceilings, row.weight_bytes, row.operations());
    std::vector<std::string> cells = {
        row.shape.name,
        std::to_string(row.shape.n),
        std::to_string(row.shape.k),
        std::to_string(row.m),
        microseconds(row.seconds),
        fmt::format("{:.1f}", row.bytes_per_second() / 1e9),
        percent(row.bytes_per_second() / ceilings.read.rate()),
        percent(row.read_in_turn.share),
        fmt::format("{:.1f}", row.operations_per_second() / 1e9),
        percent(row.operations_per_second() / ceilings.operations.rate()),
        percent(row.operations_in_turn.share),
        microseconds(floor),
        fmt::format("{:.2f}", row.seconds / floor),
        percent(row.quantize_seconds / row.seconds)};
    if (rival() != nullptr) {
      cells.push_back(row.onednn ? microseconds(row.onednn->seconds) : "-");
      cells.push_back(row.onednn ? fmt::format("{:.2f}", onednn_over_ours(row)) : "-");
    }
    table.add(cells);
  }
  return table;
}

const bench::cpu::OneDnnTime* CpuGemmReport::rival() const {
  for (const GemmRow& row : rows) {
    if (row.onednn) return &*row.onednn;
  }
  return nullptr;
}

// How the rival was measured, or why it was not; nothing where nobody expects it.
std::string CpuGemmReport::rival_text() const {
  const bool expected =
      options.rivals && std::any_of(rows.begin(), rows.end(), [&](const GemmRow& row) {
        return bench::cpu::onednn_compares(row.m, options.isa);
      });
  if (!expected) return "";
  if (rival() == nullptr) {
    return "oneDNN is not compared: this build found no package of it (apt-get install "
           "libdnnl-dev, then build anew).\n";
  }
  return fmt::format(
      "oneDNN {}: 8-bit weights in its own format, u8 x s8 to INT32, {}, a process of its own; "
      "ratios\nare those of the products alone, without quantising on either side.\n",
      rival()->version, rival()->implementation);
}

std::string CpuGemmReport::caption() const {
  return fmt::format(
             "{}, {} {}; {}.\n"
             "Read bandwidth: {}.\n"
             "Operations: {}.\n"
             "In turn: of what that probe gave between the row's own rounds.\n"
             "Floor: max(weight bytes / read bandwidth, operations / their rate), measured in this "
             "run.\n"
             "Medians of {} rounds, quantising the activations included; weights from memory; "
             "outputs checked.\n",
             cpu, threads, threads == 1 ? "thread" : "threads", rows.front().kernel,
             ceiling_text(ceilings.read, "GB/s"), ceiling_text(ceilings.operations, "GOPS"),
             options.rounds) +
         rival_text();
}

json::Object CpuGemmReport::to_json() const {
  json::Array cells;
  for (const GemmRow& row : rows) {
    const double floor = floor_seconds(ceilings, row.weight_bytes, row.operations());
    json::Object cell{
        {"shape", row.shape.name},
        {"n", row.shape.n},
        {"k", row.shape.k},
        {"m", row.m},
        {"kernel", row.kernel},
        {"ours", json::Object{{"us", row.seconds * 1e6}, {"spread", row.spread}}},
        {"quantize_us", row.quantize_seconds * 1e6},
        {"quantize_share", row.quantize_seconds / row.seconds},
        {"gb_per_second", row.bytes_per_second() / 1e9},
        {"read_share", row.bytes_per_second() / ceilings.read.rate()},
        {"read_in_turn_gb_per_second", row.read_in_turn.rate / 1e9},
        {"read_in_turn_share", row.read_in_turn.share},
        {"gops", row.operations_per_second() / 1e9},
        {"operations_share", row.operations_per_second() / ceilings.operations.rate()},
        {"operations_in_turn_gops", row.operations_in_turn.rate / 1e9},
        {"operations_in_turn_share", row.operations_in_turn.share},
        {"floor_us", floor * 1e6},
        {"ours_over_floor", row.seconds / floor},
        {"weight_bytes", row.weight_bytes},
        {"weight_copies", row.weight_copies},
        {"checked_tokens", row.checked_tokens}};
    if (row.onednn) {
      cell["onednn"] = json::Object{{"us", row.onednn->seconds * 1e6},
                                    {"spread", row.onednn->spread},
                                    {"version", row.onednn->version},
                                    {"implementation", row.onednn->implementation},
                                    {"over_ours", onednn_over_ours(row)}};
    }
    cells.push_back(std::move(cell));
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
      "kernel,onednn_us,read_in_turn_gb_per_second,operations_in_turn_gops\n";
  for (const GemmRow& row : rows) {
    const double floor = floor_seconds(ceilings, row.weight_bytes, row.operations());
    text += fmt::format(
        "{},{},{},{},{:.2f},{:.2f},{:.2f},{:.1f},{:.2f},{:.1f},{:.2f},{},{},{:.2f},{:.1f}\n",
        row.shape.name, row.shape.n, row.shape.k, row.m, row.seconds * 1e6,
        row.quantize_seconds * 1e6, row.bytes_per_second() / 1e9, row.operations_per_second() / 1e9,
        ceilings.read.rate() / 1e9, ceilings.operations.rate() / 1e9, floor * 1e6, row.kernel,
        row.onednn ? microseconds(row.onednn->seconds) : "", row.read_in_turn.rate / 1e9,
        row.operations_in_turn.rate / 1e9);
  }
  return text;
}

}  // namespace liquidgemm::cli
