#include "cli/bench_plot_serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/json.h"
#include "base/status_macros.h"
#include "cli/gnuplot.h"

namespace liquidgemm::cli {
namespace {

constexpr double kLargest = 1e12;  // of any number in a result

struct Point {
  std::optional<double> rate;    // missing: infinite
  std::int64_t concurrency = 0;  // 0: no limit
  double tokens_per_second = 0.0;
  double median[2] = {};  // ms: to the first token, to each further one
  std::optional<double> p99[2];
};

Result<Point> read_point(const json::Reader& row) {
  Point point;
  const json::Value* rate = row.object().if_contains("request_rate");
  if (rate == nullptr || !rate->is_string() || rate->get_string() != "inf") {
    LIQUIDGEMM_ASSIGN_OR_RETURN(point.rate, row.required_number("request_rate", 0.0, kLargest));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto at_once,
                              row.optional_int("max_concurrency", 1, std::int64_t{1} << 32));
  point.concurrency = at_once.value_or(0);
  LIQUIDGEMM_ASSIGN_OR_RETURN(point.tokens_per_second,
                              row.required_number("output_throughput", 0.0, kLargest));
  const char* names[2] = {"ttft", "tpot"};
  for (int i = 0; i < 2; ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        point.median[i], row.required_number(fmt::format("median_{}_ms", names[i]), 0.0, kLargest));
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        point.p99[i], row.optional_number(fmt::format("p99_{}_ms", names[i]), 0.0, kLargest));
  }
  return point;
}

Result<std::vector<Point>> read_points(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse_file(path));
  if (!value.is_object()) {
    return corrupt(path + ": expected the object that liquid bench serve --record writes");
  }
  const json::Reader file(value.as_object(), path);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string benchmark, file.required_string("benchmark"));
  if (benchmark != "serve") {
    return invalid_argument(path +
                            ": field \"benchmark\": expected serve; --kind load draws its results");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* rows, file.required_array("rows"));
  std::vector<Point> points;
  for (std::size_t i = 0; i < rows->size(); ++i) {
    const std::string place = fmt::format("rows[{}]", i);
    if (!(*rows)[i].is_object()) return corrupt(fmt::format("{}: {} is no object", path, place));
    const json::Reader row((*rows)[i].as_object(), path, place);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Point point, read_point(row));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto done, row.required_int("completed", 0, 1 << 30));
    if (done > 0) points.push_back(point);  // without requests there are no latencies
  }
  if (points.empty()) return invalid_argument(path + ": no row has a request that succeeded");
  return points;
}

// Several finite rates are the load that was varied.
bool by_rate(const std::vector<Point>& points) {
  std::set<double> rates;
  for (const Point& point : points) {
    if (!point.rate) return false;
    rates.insert(*point.rate);
  }
  return rates.size() > 1;
}

}  // namespace

Result<std::string> load_script(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<Point> points, read_points(path));
  const bool rates = by_rate(points);
  // Label -> points. By throughput all rows are one curve.
  std::map<std::int64_t, std::vector<Point>> curves;
  for (const Point& point : points) curves[rates ? point.concurrency : 0].push_back(point);
  std::string script =
      "set terminal svg size 1100,520 background 'white' font 'sans-serif,13'\n"
      "set grid\nset key tmargin center horizontal\nset yrange [0:*]\nset xrange [0:*]\n";
  for (auto& [concurrency, curve] : curves) {
    // By throughput the rows stay in their order: a saturated server may turn back.
    if (rates) {
      std::stable_sort(curve.begin(), curve.end(),
                       [](const Point& a, const Point& b) { return *a.rate < *b.rate; });
    }
    script += fmt::format("$curve{} << END\n", concurrency);
    for (const Point& point : curve) {
      script += fmt::format("{:.4f}", rates ? *point.rate : point.tokens_per_second);
      for (int i = 0; i < 2; ++i) {
        script += fmt::format(" {:.4f} {}", point.median[i],
                              point.p99[i] ? fmt::format("{:.4f}", *point.p99[i]) : "NaN");
      }
      script += "\n";
    }
    script += "END\n";
  }
  script += fmt::format("set xlabel '{}'\nset ylabel 'milliseconds'\nset multiplot layout 1,2\n",
                        rates ? "request rate (requests/s)" : "generated tokens/s");
  const char* titles[2] = {"Time to the first token", "Time per output token after it"};
  for (int i = 0; i < 2; ++i) {
    script += fmt::format("set title '{}'\nplot ", titles[i]);
    int color = 0;
    for (const auto& [concurrency, curve] : curves) {
      ++color;
      const std::string group =
          concurrency > 0 ? fmt::format(", at most {} at once", concurrency) : "";
      const bool p99 = std::any_of(curve.begin(), curve.end(),
                                   [i](const Point& point) { return point.p99[i].has_value(); });
      script += fmt::format("{}$curve{} using 1:{} with linespoints linecolor {} title 'median{}'",
                            color > 1 ? ", " : "", concurrency, 2 + 2 * i, color, group);
      if (p99) {
        script += fmt::format(
            ", $curve{} using 1:{} with linespoints dashtype 2 linecolor {} title '99 %{}'",
            concurrency, 3 + 2 * i, color, group);
      }
    }
    script += "\n";
  }
  return script + "unset multiplot\n";
}

}  // namespace liquidgemm::cli
