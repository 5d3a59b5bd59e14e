#include "bench/recorded.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <utility>

#include "base/median.h"
#include "base/status_macros.h"

namespace liquidgemm::bench {
namespace {

// A table of comma-separated values: one map of column name to text for each line.
Result<std::vector<std::map<std::string, std::string>>> read_table(
    const std::string& path, const std::vector<std::string>& needed) {
  std::ifstream file(path);
  if (!file) return not_found(path + ": cannot be read; expected a table of recorded times");
  const auto split = [](std::string line) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::vector<std::string> cells(1);
    for (const char c : line) {
      if (c == ',') {
        cells.emplace_back();
      } else {
        cells.back() += c;
      }
    }
    return cells;
  };
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> header = split(line);
  for (const std::string& name : needed) {
    if (std::find(header.begin(), header.end(), name) == header.end()) {
      return corrupt(path + ": there is no column '" + name + "'");
    }
  }
  std::vector<std::map<std::string, std::string>> rows;
  constexpr std::size_t kMaxRows = 100000;
  while (std::getline(file, line) && rows.size() < kMaxRows) {
    if (line.empty() || line == "\r") continue;
    const std::vector<std::string> cells = split(line);
    if (cells.size() != header.size()) {
      return corrupt(path + ": line " + std::to_string(rows.size() + 2) + ": expected " +
                     std::to_string(header.size()) + " values, found " +
                     std::to_string(cells.size()));
    }
    auto& row = rows.emplace_back();
    for (std::size_t i = 0; i < header.size(); ++i) row[header[i]] = cells[i];
  }
  return rows;
}

// A positive number; "-" and an empty cell are none.
std::optional<double> number(const std::string& text) {
  double value = 0.0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || !(value > 0.0) || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::int64_t integer(const std::string& text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

Result<Recorded> Recorded::read(const std::string& folder) {
  Recorded recorded;
  const std::string gemm = folder + "/h200-gemm-us.csv";
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const auto rows,
      read_table(gemm, {"N", "K", "M", "cublaslt_fp16_us", "cublaslt_fp8_us", "cublaslt_int8_us",
                        "qserve_g128_us", "qserve_per_channel_us"}));
  for (const auto& row : rows) {
    RecordedCell& cell =
        recorded.cells_[{integer(row.at("N")), integer(row.at("K")), integer(row.at("M"))}];
    cell.cublas_us = {number(row.at("cublaslt_fp16_us")), number(row.at("cublaslt_fp8_us")),
                      number(row.at("cublaslt_int8_us"))};
    cell.qserve_g128_us = number(row.at("qserve_g128_us"));
    cell.qserve_per_channel_us = number(row.at("qserve_per_channel_us"));
  }
  const std::string cutlass = folder + "/h200-cutlass-int4-fp8-us.csv";
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto more,
                              read_table(cutlass, {"N", "K", "M", "best_tile_cold_L2_us"}));
  for (const auto& row : more) {
    recorded.cells_[{integer(row.at("N")), integer(row.at("K")), integer(row.at("M"))}].cutlass_us =
        number(row.at("best_tile_cold_L2_us"));
  }
  return recorded;
}

const RecordedCell* Recorded::find(std::int64_t n, std::int64_t k, std::int64_t m) const {
  const auto found = cells_.find({n, k, m});
  return found == cells_.end() ? nullptr : &found->second;
}

std::optional<double> Recorded::disagreement(const std::vector<GemmRow>& rows) const {
  std::vector<double> differences;
  for (const GemmRow& row : rows) {
    const RecordedCell* cell = find(row.shape.n, row.shape.k, row.m);
    if (cell == nullptr) continue;
    for (std::size_t i = 0; i < kRivals.size(); ++i) {
      if (!row.rivals[i] || !cell->cublas_us[i]) continue;
      const double measured = row.rivals[i]->timing.seconds * 1e6;
      differences.push_back(std::fabs(measured / *cell->cublas_us[i] - 1.0));
    }
  }
  if (differences.empty()) return std::nullopt;
  return median(std::move(differences));
}

}  // namespace liquidgemm::bench
