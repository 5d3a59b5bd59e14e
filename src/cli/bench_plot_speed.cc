#include "cli/bench_plot_speed.h"

#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "base/json.h"
#include "base/status_macros.h"
#include "cli/gnuplot.h"

namespace liquidgemm::cli {
namespace {

constexpr double kFastest = 1e12;  // tokens/s of any result
constexpr std::int64_t kLongest = std::int64_t{1} << 32;

struct Point {
  double tokens_per_second = 0.0;
  std::optional<double> floor;  // tokens/s that nothing exceeds
};

// Lengths of prompt and answer -> requests at once -> point.
using Curves = std::map<std::pair<std::int64_t, std::int64_t>, std::map<std::int64_t, Point>>;

Result<Curves> read_curves(const json::Reader& file, const std::string& path, bool latency) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* rows, file.required_array("rows"));
  const char* requests = latency ? "batch_size" : "max_num_seqs";
  const char* speed = latency ? "generation_tokens_per_second" : "output_tokens_per_second";
  Curves curves;
  for (std::size_t i = 0; i < rows->size(); ++i) {
    const std::string place = fmt::format("rows[{}]", i);
    if (!(*rows)[i].is_object()) return corrupt(fmt::format("{}: {} is no object", path, place));
    const json::Reader row((*rows)[i].as_object(), path, place);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto input, row.required_int("input_len", 1, kLongest));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto output, row.required_int("output_len", 1, kLongest));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto at_once, row.required_int(requests, 1, kLongest));
    Point point;
    LIQUIDGEMM_ASSIGN_OR_RETURN(point.tokens_per_second, row.required_number(speed, 0.0, kFastest));
    LIQUIDGEMM_ASSIGN_OR_RETURN(point.floor,
                                row.optional_number("floor_tokens_per_second", 0.0, kFastest));
    curves[{input, output}].try_emplace(at_once, point);
  }
  if (curves.empty()) return invalid_argument(path + ": no rows");
  return curves;
}

}  // namespace

Result<std::string> speed_script(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse_file(path));
  if (!value.is_object()) {
    return corrupt(path + ": expected the object that liquid bench latency --record writes");
  }
  const json::Reader file(value.as_object(), path);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string benchmark, file.required_string("benchmark"));
  const bool latency = benchmark == "latency";
  if (!latency && benchmark != "throughput") {
    return invalid_argument(path +
                            ": field \"benchmark\": expected latency or throughput; --kind speed "
                            "draws results of those");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Curves curves, read_curves(file, path, latency));
  std::string script = kPictureStyle;
  script += fmt::format(
      "set title '{}'\nset xlabel 'requests at once'\nset ylabel 'generated tokens/s'\n"
      "set logscale x 2\nset yrange [0:*]\nset offsets graph 0.05, graph 0.05, 0, 0\n",
      latency ? "Generation, all prompts done" : "Throughput, prompts included");
  bool floors = false;
  int index = 0;
  for (const auto& [lengths, points] : curves) {
    script += fmt::format("$curve{} << END\n", index++);
    for (const auto& [at_once, point] : points) {
      floors = floors || point.floor;
      script += fmt::format("{} {:.4f} {}\n", at_once, point.tokens_per_second,
                            point.floor ? fmt::format("{:.4f}", *point.floor) : "NaN");
    }
    script += "END\n";
  }
  script += "plot ";
  index = 0;
  for (const auto& [lengths, points] : curves) {
    const int color = index + 1;
    script += fmt::format("{}$curve{} using 1:2 with {} linecolor {} title 'input {}, output {}'",
                          index > 0 ? ", " : "", index, curve_style(points.size()), color,
                          lengths.first, lengths.second);
    if (floors) {
      script += fmt::format(", $curve{} using 1:3 with lines dashtype 2 linecolor {} notitle",
                            index, color);
    }
    ++index;
  }
  if (floors) script += ", NaN with lines dashtype 2 linecolor 'gray40' title 'floor'";
  return script + "\n";
}

}  // namespace liquidgemm::cli
