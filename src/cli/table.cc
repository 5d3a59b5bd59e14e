#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace liquidgemm::cli {

std::vector<std::string> Table::padded(const std::vector<std::string>& row) const {
  std::vector<std::string> cells;
  for (std::size_t column = 0; column < row.size(); ++column) {
    std::size_t width = 0;
    for (const auto& other : rows_) {
      if (column < other.size()) width = std::max(width, other[column].size());
    }
    cells.push_back(column == 0 ? fmt::format("{:<{}}", row[column], width)
                                : fmt::format("{:>{}}", row[column], width));
  }
  return cells;
}

std::string Table::text() const {
  std::string text;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const std::string line = fmt::format("{}", fmt::join(padded(rows_[i]), "  "));
    text += line + "\n";
    if (i == 0) text += std::string(line.size(), '-') + "\n";
  }
  return text;
}

std::string Table::markdown() const {
  std::string text;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    text += fmt::format("| {} |\n", fmt::join(padded(rows_[i]), " | "));
    if (i > 0) continue;
    text += "|";
    for (std::size_t column = 0; column < rows_[i].size(); ++column) {
      text += column == 0 ? "---|" : "---:|";
    }
    text += "\n";
  }
  return text;
}

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  int unit = 0;
  while (bytes >= 1000.0 && unit < 4) {
    bytes /= 1000.0;
    ++unit;
  }
  return fmt::format("{} {}", unit == 0 ? fmt::format("{:.0f}", bytes) : number_text(bytes, 3),
                     units[unit]);
}

std::string number_text(double number, int significant) {
  if (!std::isfinite(number)) return fmt::format("{}", number);
  const double magnitude = std::fabs(number);
  // Digits before the point; zero or less counts the zeros after it (0.0047 has -2).
  const int whole =
      magnitude > 0.0 ? static_cast<int>(std::floor(std::log10(magnitude))) + 1 : significant;
  return fmt::format("{:.{}f}", number, std::max(0, significant - whole));
}

}  // namespace liquidgemm::cli
