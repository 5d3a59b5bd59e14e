#include "cli/bench_latency_report.h"

#include <fmt/format.h>

#include <functional>
#include <numeric>
#include <utility>

#include "cli/bench_ceilings.h"

namespace liquidgemm::cli {
namespace {

using bench::Breakdown;
using bench::LatencyRow;
using bench::Operation;
using bench::OperationSeconds;

std::string milliseconds(double seconds) { return fmt::format("{:.2f}", seconds * 1e3); }
std::string percent(double share) { return fmt::format("{:.1f} %", 100.0 * share); }
std::string rate(double tokens_per_second) { return number_text(tokens_per_second); }

double operations_share(const LatencyRow& row, const bench::cpu::CpuCeilings& ceilings) {
  return row.prompt_operations / row.prompt_seconds / ceilings.operations.rate();
}

double step_floor(const LatencyRow& row, const bench::cpu::CpuCeilings& ceilings) {
  return bench::cpu::floor_seconds(ceilings, row.step_bytes, row.step_operations);
}

double read_share(const LatencyRow& row, const bench::cpu::CpuCeilings& ceilings) {
  return row.step_bytes / row.step_seconds / ceilings.read.rate();
}

// Seconds of each part and operation, in the order of the enumeration; what no operation took
// comes last.
using Entries = std::vector<std::pair<std::string, double>>;

Entries by_part(const OperationSeconds& seconds, double whole) {
  Entries parts = {{"linear layers", 0.0}, {"attention", 0.0}, {"everything else", 0.0}};
  for (std::size_t i = 0; i < seconds.size(); ++i) {
    for (auto& [name, sum] : parts) {
      if (name == bench::operation_part(static_cast<Operation>(i))) sum += seconds[i];
    }
  }
  parts[2].second += whole - std::accumulate(seconds.begin(), seconds.end(), 0.0);
  return parts;
}

Entries by_operation(const OperationSeconds& seconds, double whole) {
  Entries operations;
  for (std::size_t i = 0; i < seconds.size(); ++i) {
    operations.emplace_back(bench::operation_name(static_cast<Operation>(i)), seconds[i]);
  }
  operations.emplace_back("engine", whole - std::accumulate(seconds.begin(), seconds.end(), 0.0));
  return operations;
}

json::Object breakdown_json(const OperationSeconds& seconds, double whole) {
  const auto object = [](const Entries& entries) {
    json::Object made;
    for (const auto& [name, value] : entries) made[name] = value * 1e3;
    return made;
  };
  return {{"ms", whole * 1e3},
          {"parts_ms", object(by_part(seconds, whole))},
          {"operations_ms", object(by_operation(seconds, whole))}};
}

Table breakdown_table(const Breakdown& breakdown) {
  Table table({"where the time goes", "prompt ms", "share", "step ms", "share"});
  const auto add = [&](const Entries& prompt, const Entries& step, const char* indent) {
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      table.add({indent + prompt[i].first, milliseconds(prompt[i].second),
                 percent(prompt[i].second / breakdown.prompt_seconds), milliseconds(step[i].second),
                 percent(step[i].second / breakdown.step_seconds)});
    }
  };
  add(by_part(breakdown.prompt, breakdown.prompt_seconds),
      by_part(breakdown.step, breakdown.step_seconds), "");
  add(by_operation(breakdown.prompt, breakdown.prompt_seconds),
      by_operation(breakdown.step, breakdown.step_seconds), "- ");
  return table;
}

}  // namespace

std::string cell_name(const bench::LatencyCell& cell) {
  return fmt::format("input {}, batch {}", cell.input_len, cell.batch);
}

void raise_to_rows(const std::vector<LatencyRow>& rows, bench::cpu::CpuCeilings& ceilings) {
  for (const LatencyRow& row : rows) {
    ceilings.operations.raise(cell_name(row.cell), row.prompt_operations / row.prompt_seconds);
    ceilings.operations.raise(cell_name(row.cell), row.step_operations / row.step_seconds);
    ceilings.read.raise(cell_name(row.cell), row.step_bytes / row.step_seconds);
  }
}

Table LatencyReport::table() const {
  Table table({"input", "output", "batch", "first token ms", "prompt tokens/s", "of ops",
               "ms a token", "generated tokens/s", "of read", "of floor"});
  for (const LatencyRow& row : rows) {
    table.add({std::to_string(row.cell.input_len), std::to_string(row.cell.output_len),
               std::to_string(row.cell.batch), milliseconds(row.prompt_seconds),
               rate(row.prompt_tokens_per_second()), percent(operations_share(row, ceilings)),
               milliseconds(row.step_seconds), rate(row.generation_tokens_per_second()),
               percent(read_share(row, ceilings)),
               percent(step_floor(row, ceilings) / row.step_seconds)});
  }
  return table;
}

std::string LatencyReport::caption() const {
  return model.caption() +
         fmt::format(
             "Operations: {}. Of ops: those of the linear layers, attention not counted.\n"
             "Read bandwidth: {}. Of read: packed weights, keys and values of a step.\n"
             "Floor of a step: max(its bytes / read bandwidth, its operations / their rate).\n"
             "Medians of {} {}; a batch's first token is the one of its last request.\n",
             ceiling_text(ceilings.operations, "GOPS"), ceiling_text(ceilings.read, "GB/s"),
             rows.front().iterations, rows.front().iterations == 1 ? "repetition" : "repetitions");
}

std::string LatencyReport::breakdowns(bool markdown) const {
  std::string text;
  for (const LatencyRow& row : rows) {
    if (!row.breakdown) continue;
    const Table table = breakdown_table(*row.breakdown);
    text += fmt::format("\nOne repetition more, timed inside: {}.\n\n{}", cell_name(row.cell),
                        markdown ? table.markdown() : table.text());
  }
  return text;
}

json::Object LatencyReport::to_json() const {
  json::Array cells;
  for (const LatencyRow& row : rows) {
    const double floor = step_floor(row, ceilings);
    json::Object cell{{"input_len", row.cell.input_len},
                      {"output_len", row.cell.output_len},
                      {"batch_size", row.cell.batch},
                      {"iterations", row.iterations},
                      {"prompt_ms", row.prompt_seconds * 1e3},
                      {"prompt_spread", row.prompt_spread},
                      {"prompt_tokens_per_second", row.prompt_tokens_per_second()},
                      {"prompt_gops", row.prompt_operations / row.prompt_seconds / 1e9},
                      {"prompt_operations_share", operations_share(row, ceilings)},
                      {"step_ms", row.step_seconds * 1e3},
                      {"step_spread", row.step_spread},
                      {"generation_tokens_per_second", row.generation_tokens_per_second()},
                      {"step_bytes", row.step_bytes},
                      {"step_operations", row.step_operations},
                      {"generation_read_share", read_share(row, ceilings)},
                      {"step_floor_ms", floor * 1e3},
                      {"floor_tokens_per_second", static_cast<double>(row.cell.batch) / floor},
                      {"generation_floor_share", floor / row.step_seconds}};
    if (row.breakdown) {
      const Breakdown& breakdown = *row.breakdown;
      cell["breakdown"] =
          json::Object{{"prompt", breakdown_json(breakdown.prompt, breakdown.prompt_seconds)},
                       {"step", breakdown_json(breakdown.step, breakdown.step_seconds)}};
    }
    cells.push_back(std::move(cell));
  }
  json::Object object = model.to_json();
  object["benchmark"] = "latency";
  object["seconds"] = seconds;
  object["read"] = ceiling_json(ceilings.read, "gb_per_second");
  object["operations"] = ceiling_json(ceilings.operations, "gops");
  object["rows"] = std::move(cells);
  return object;
}

std::string LatencyReport::csv() const {
  std::string text =
      "input_len,output_len,batch_size,prompt_ms,prompt_tokens_per_second,prompt_operations_share,"
      "step_ms,generation_tokens_per_second,generation_read_share,generation_floor_share\n";
  for (const LatencyRow& row : rows) {
    text += fmt::format("{},{},{},{:.3f},{:.2f},{:.4f},{:.3f},{:.2f},{:.4f},{:.4f}\n",
                        row.cell.input_len, row.cell.output_len, row.cell.batch,
                        row.prompt_seconds * 1e3, row.prompt_tokens_per_second(),
                        operations_share(row, ceilings), row.step_seconds * 1e3,
                        row.generation_tokens_per_second(), read_share(row, ceilings),
                        step_floor(row, ceilings) / row.step_seconds);
  }
  return text;
}

}  // namespace liquidgemm::cli
