// Tables for people: columns as wide as they need to be.
#pragma once

#include <string>
#include <vector>

namespace liquidgemm::cli {

class Table {
 public:
  // The first column is left-aligned, the others right-aligned.
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;
  std::string markdown() const;

 private:
  std::vector<std::string> padded(const std::vector<std::string>& row) const;
  std::vector<std::vector<std::string>> rows_;
};

std::string bytes_text(double bytes);  // "4.2 MB", powers of 1000
// A number in the fewest digits that help: 2513, 87.3, 4.251.
std::string number_text(double number, int significant = 4);

}  // namespace liquidgemm::cli
