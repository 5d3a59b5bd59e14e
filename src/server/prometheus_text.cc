#include "server/prometheus_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace liquidgemm::server {
namespace {

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

// Quotes matter in the values of labels only.
std::string escaped(std::string_view text, bool quotes) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '\\' || (quotes && c == '"')) result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  ++counts_[static_cast<std::size_t>(bucket)];
  sum_ += value;
}

void PrometheusText::metric(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  text_ += "# HELP " + name_ + ' ' + escaped(help, false) + '\n';
  text_ += "# TYPE " + name_ + ' ' + std::string(type) + '\n';
}

void PrometheusText::line(std::string_view suffix, std::span<const Label> labels, double value) {
  text_ += name_;
  text_ += suffix;
  char separator = '{';
  const auto add = [&](const Label& label) {
    text_ += separator;
    text_ += label.first;
    text_ += "=\"" + escaped(label.second, true) + '"';
    separator = ',';
  };
  for (const Label& label : common_) add(label);
  for (const Label& label : labels) add(label);
  if (separator == ',') text_ += '}';
  text_ += ' ' + number(value) + '\n';
}

void PrometheusText::value(double value, std::span<const Label> labels) { line("", labels, value); }

void PrometheusText::value(const Histogram& histogram) {
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < histogram.counts().size(); ++i) {
    below += histogram.counts()[i];
    const std::string bound =
        i < histogram.bounds().size() ? number(histogram.bounds()[i]) : "+Inf";
    const Label label{"le", bound};
    line("_bucket", std::span(&label, 1), static_cast<double>(below));
  }
  line("_sum", {}, histogram.sum());
  line("_count", {}, static_cast<double>(below));
}

}  // namespace liquidgemm::server
