#include "cli/bench_latency_report.h"

#include <fmt/format.h>

#include <functional>
#include <numeric>
#include <utility>

#include "bench/step_floor.h"
#include "cli/bench_ceilings.h"
#include "cli/bench_paper.h"

namespace liquidgemm::cli {
namespace {

using bench::Breakdown;
using bench::LatencyRow;
using bench::Operation;
using bench::OperationSeconds;

// Its operations run at half the INT8 rate.
bool is_half(const MeasuredModel& model) {
  return model.precision == precision_name(Precision::kFp16);
}

std::string milliseconds(double seconds) { return fmt::format("{:.2f}", seconds * 1e3); }
std::string percent(double share) { return fmt::format("{:.1f} %", 100.0 * share); }
std::string rate(double tokens_per_second) { return number_text(tokens_per_second); }
std::string ratio(double value) { return fmt::format("{:.2f}", value); }

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

void add_breakdown(const LatencyRow& row, json::Object& cell) {
  if (!row.breakdown) return;
  const Breakdown& breakdown = *row.breakdown;
  cell["breakdown"] =
      json::Object{{"prompt", breakdown_json(breakdown.prompt, breakdown.prompt_seconds)},
                   {"step", breakdown_json(breakdown.step, breakdown.step_seconds)}};
  cell["breakdown_device_clock"] = breakdown.device_clock;
}

// With the floor of each operation in a generation step, where there is one.
Table breakdown_table(const LatencyRow& row) {
  const Breakdown& breakdown = *row.breakdown;
  std::vector<std::string> header = {"where the time goes", "prompt ms", "share", "step ms",
                                     "share"};
  if (row.floor) header.insert(header.end(), {"floor ms", "step / floor"});
  Table table(header);
  const auto add = [&](const Entries& prompt, const Entries& step, const Entries& floor,
                       const char* indent) {
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      std::vector<std::string> cells = {indent + prompt[i].first, milliseconds(prompt[i].second),
                                        percent(prompt[i].second / breakdown.prompt_seconds),
                                        milliseconds(step[i].second),
                                        percent(step[i].second / breakdown.step_seconds)};
      if (row.floor) {
        const bool any = floor[i].second > 0.0;
        cells.push_back(any ? fmt::format("{:.3f}", 1e3 * floor[i].second) : "-");
        cells.push_back(any ? ratio(step[i].second / floor[i].second) : "-");
      }
      table.add(std::move(cells));
    }
  };
  const OperationSeconds floor = row.floor.value_or(OperationSeconds{});
  const double whole = bench::floor_seconds(floor);
  add(by_part(breakdown.prompt, breakdown.prompt_seconds),
      by_part(breakdown.step, breakdown.step_seconds), by_part(floor, whole), "");
  add(by_operation(breakdown.prompt, breakdown.prompt_seconds),
      by_operation(breakdown.step, breakdown.step_seconds), by_operation(floor, whole), "- ");
  return table;
}

json::Object floor_json(const OperationSeconds& floor) {
  json::Object object;
  for (std::size_t i = 0; i < floor.size(); ++i) {
    if (floor[i] > 0.0) object[bench::operation_name(static_cast<Operation>(i))] = floor[i] * 1e3;
  }
  return object;
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

double LatencyReport::read_rate() const {
  return gpu ? gpu->read_bytes_per_second : ceilings.read.rate();
}

double LatencyReport::operations_rate() const {
  if (!gpu) return ceilings.operations.rate();
  return gpu->int8_operations_per_second / (is_half(model) ? 2.0 : 1.0);
}

const LatencyRow* LatencyReport::baseline_of(std::size_t row) const {
  return row < baseline.size() ? &baseline[row] : nullptr;
}

double LatencyReport::step_floor(const LatencyRow& row) const {
  return row.floor ? bench::floor_seconds(*row.floor)
                   : bench::cpu::floor_seconds(ceilings, row.step_bytes, row.step_operations);
}

double LatencyReport::operations_share(const LatencyRow& row) const {
  return row.prompt_operations / row.prompt_seconds / operations_rate();
}

double LatencyReport::read_share(const LatencyRow& row) const {
  return row.step_bytes / row.step_seconds / read_rate();
}

Table LatencyReport::table() const {
  std::vector<std::string> header = {
      "input",           "output", "batch",      "first token ms",
      "prompt tokens/s", "of ops", "ms a token", "generated tokens/s"};
  if (gpu) {
    header.insert(header.end(), {"floor ms", "step / floor"});
  } else {
    header.insert(header.end(), {"of read", "of floor"});
  }
  if (!paper.empty()) header.insert(header.end(), {"paper's tokens/s", "ours / paper's"});
  if (baseline_model) {
    const std::string& name = baseline_model->precision;
    header.insert(header.end(), {name + " prompt tokens/s", "ours / " + name,
                                 name + " generated tokens/s", "ours / " + name});
  }
  Table table(header);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const LatencyRow& row = rows[i];
    std::vector<std::string> cells = {
        std::to_string(row.cell.input_len),   std::to_string(row.cell.output_len),
        std::to_string(row.cell.batch),       milliseconds(row.prompt_seconds),
        rate(row.prompt_tokens_per_second()), percent(operations_share(row)),
        milliseconds(row.step_seconds),       rate(row.generation_tokens_per_second())};
    if (gpu) {
      cells.push_back(milliseconds(step_floor(row)));
      cells.push_back(ratio(row.step_seconds / step_floor(row)));
    } else {
      cells.push_back(percent(read_share(row)));
      cells.push_back(percent(step_floor(row) / row.step_seconds));
    }
    if (!paper.empty()) {
      const double theirs = paper[i] ? paper[i]->figure.tokens_per_second : 0.0;
      cells.push_back(paper[i] ? rate(theirs) : "-");
      cells.push_back(paper[i] ? ratio(row.generation_tokens_per_second() / theirs) : "-");
    }
    if (baseline_model) {
      const LatencyRow* other = baseline_of(i);
      const auto add = [&](double (LatencyRow::*speed)() const) {
        cells.push_back(other != nullptr ? rate((other->*speed)()) : "-");
        cells.push_back(other != nullptr ? ratio((row.*speed)() / (other->*speed)()) : "-");
      };
      add(&LatencyRow::prompt_tokens_per_second);
      add(&LatencyRow::generation_tokens_per_second);
    }
    table.add(std::move(cells));
  }
  return table;
}

std::string LatencyReport::ceilings_caption() const {
  if (!gpu) {
    return fmt::format(
        "Operations: {}. Of ops: those of the linear layers, attention not counted.\n"
        "Read bandwidth: {}. Of read: packed weights, keys and values of a step.\n"
        "Floor of a step: max(its bytes / read bandwidth, its operations / their rate).\n",
        ceiling_text(ceilings.operations, "GOPS"), ceiling_text(ceilings.read, "GB/s"));
  }
  return fmt::format(
      "Ceilings, measured in this run: INT8 {:.0f} TOPS{}, read bandwidth {:.2f} TB/s. Of ops: "
      "those\n"
      "of the linear layers, attention not counted.\n"
      "Floor of a step: the sum over its kernels of max(bytes / read bandwidth, operations / "
      "their\n"
      "rate): weights, keys and values at the mean context, scales and lm_head included.\n",
      gpu->int8_operations_per_second / 1e12, is_half(model) ? ", half of it in FP16" : "",
      read_rate() / 1e12);
}

std::string LatencyReport::caption() const {
  std::string text = model.caption() + ceilings_caption();
  text += fmt::format("Medians of {} {}; a batch's first token is the one of its last request.\n",
                      rows.front().iterations,
                      rows.front().iterations == 1 ? "repetition" : "repetitions");
  for (const auto& comparison : paper) {
    if (comparison) text += paper_text(*comparison);
  }
  if (baseline_model) {
    text += "Baseline, measured afterwards in the same run: " + baseline_model->caption();
    for (const std::string& line : baseline_model->kernels) {
      if (line.rfind("cuBLASLt", 0) == 0) text += line + ".\n";
    }
  }
  return text;
}

std::string LatencyReport::breakdown(const LatencyRow& row, const std::string& name,
                                     bool markdown) const {
  if (!row.breakdown) return "";
  const Table table = breakdown_table(row);
  // The steps of the rows above are recorded and replayed as a whole.
  const char* how = row.breakdown->device_clock
                        ? "its operations launched one by one, timed by the GPU's clock"
                        : "timed inside";
  return fmt::format("\nOne repetition more, {}: {}.\n\n{}", how, name,
                     markdown ? table.markdown() : table.text());
}

std::string LatencyReport::breakdowns(bool markdown) const {
  std::string text;
  for (const LatencyRow& row : rows) text += breakdown(row, cell_name(row.cell), markdown);
  for (const LatencyRow& row : baseline) {
    text += breakdown(row, cell_name(row.cell) + ", " + baseline_model->precision, markdown);
  }
  return text;
}

json::Object LatencyReport::to_json() const {
  json::Array cells;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const LatencyRow& row = rows[i];
    const double floor = step_floor(row);
    json::Object cell{{"input_len", row.cell.input_len},
                      {"output_len", row.cell.output_len},
                      {"batch_size", row.cell.batch},
                      {"iterations", row.iterations},
                      {"prompt_ms", row.prompt_seconds * 1e3},
                      {"prompt_spread", row.prompt_spread},
                      {"prompt_tokens_per_second", row.prompt_tokens_per_second()},
                      {"prompt_gops", row.prompt_operations / row.prompt_seconds / 1e9},
                      {"prompt_operations_share", operations_share(row)},
                      {"step_ms", row.step_seconds * 1e3},
                      {"step_spread", row.step_spread},
                      {"generation_tokens_per_second", row.generation_tokens_per_second()},
                      {"step_bytes", row.step_bytes},
                      {"step_operations", row.step_operations},
                      {"generation_read_share", read_share(row)},
                      {"step_floor_ms", floor * 1e3},
                      {"floor_tokens_per_second", static_cast<double>(row.cell.batch) / floor},
                      {"generation_floor_share", floor / row.step_seconds}};
    if (row.floor) {
      cell["context_tokens"] = row.context_tokens;
      cell["step_over_floor"] = row.step_seconds / floor;
      cell["floor_operations_ms"] = floor_json(*row.floor);
    }
    if (!paper.empty() && paper[i]) cell["paper"] = paper_json(*paper[i]);
    add_breakdown(row, cell);
    if (const LatencyRow* other = baseline_of(i)) {
      json::Object beside{{"prompt_ms", other->prompt_seconds * 1e3},
                          {"prompt_tokens_per_second", other->prompt_tokens_per_second()},
                          {"step_ms", other->step_seconds * 1e3},
                          {"step_spread", other->step_spread},
                          {"generation_tokens_per_second", other->generation_tokens_per_second()},
                          {"step_floor_ms", step_floor(*other) * 1e3},
                          {"prompt_ratio", other->prompt_seconds / row.prompt_seconds},
                          {"generation_ratio", other->step_seconds / row.step_seconds}};
      add_breakdown(*other, beside);
      cell["baseline"] = std::move(beside);
    }
    cells.push_back(std::move(cell));
  }
  json::Object object = model.to_json();
  object["benchmark"] = "latency";
  object["seconds"] = seconds;
  if (gpu) {
    object["read"] = json::Object{{"gb_per_second", read_rate() / 1e9}};
    object["operations"] = json::Object{{"gops", operations_rate() / 1e9}};
  } else {
    object["read"] = ceiling_json(ceilings.read, "gb_per_second");
    object["operations"] = ceiling_json(ceilings.operations, "gops");
  }
  if (baseline_model) object["baseline"] = baseline_model->to_json();
  object["rows"] = std::move(cells);
  return object;
}

std::string LatencyReport::csv() const {
  std::string text =
      "input_len,output_len,batch_size,prompt_ms,prompt_tokens_per_second,prompt_operations_share,"
      "step_ms,generation_tokens_per_second,generation_read_share,generation_floor_share";
  text += baseline_model ? ",baseline_prompt_ms,baseline_step_ms\n" : "\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const LatencyRow& row = rows[i];
    text += fmt::format(
        "{},{},{},{:.3f},{:.2f},{:.4f},{:.3f},{:.2f},{:.4f},{:.4f}", row.cell.input_len,
        row.cell.output_len, row.cell.batch, row.prompt_seconds * 1e3,
        row.prompt_tokens_per_second(), operations_share(row), row.step_seconds * 1e3,
        row.generation_tokens_per_second(), read_share(row), step_floor(row) / row.step_seconds);
    if (const LatencyRow* other = baseline_of(i)) {
      text += fmt::format(",{:.3f},{:.3f}", other->prompt_seconds * 1e3, other->step_seconds * 1e3);
    } else if (baseline_model) {
      text += ",,";
    }
    text += '\n';
  }
  return text;
}

}  // namespace liquidgemm::cli
