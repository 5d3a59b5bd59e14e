// Metrics in the text format that Prometheus reads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace liquidgemm::server {

// Counts values by upper bounds.
class Histogram {
 public:
  // `bounds` ascend; one more bucket takes what lies above. They outlive the histogram.
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds), counts_(bounds.size() + 1, 0) {}
  void observe(double value);

  std::span<const double> bounds() const { return bounds_; }
  const std::vector<std::uint64_t>& counts() const { return counts_; }  // each bucket's own
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;
  std::vector<std::uint64_t> counts_;
  double sum_ = 0.0;
};

using Label = std::pair<std::string_view, std::string_view>;

class PrometheusText {
 public:
  // `common` labels stand in every line. They outlive the writer.
  explicit PrometheusText(std::vector<Label> common) : common_(std::move(common)) {}

  // One metric: "counter" (its name ends in _total), "gauge" or "histogram". Its values follow.
  void metric(std::string_view name, std::string_view type, std::string_view help);
  void value(double value, std::span<const Label> labels = {});
  void value(double value, const Label& label) { this->value(value, std::span(&label, 1)); }
  void value(const Histogram& histogram);

  const std::string& text() const { return text_; }

 private:
  void line(std::string_view suffix, std::span<const Label> labels, double value);

  std::vector<Label> common_;
  std::string name_;
  std::string text_;
};

}  // namespace liquidgemm::server
