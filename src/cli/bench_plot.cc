// `liquid bench plot`: a picture of what `--record FILE.json` wrote.

#include <fmt/format.h>
#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "cli/bench.h"
#include "cli/bench_plot_serve.h"
#include "cli/bench_plot_speed.h"
#include "cli/gnuplot.h"

namespace liquidgemm::cli {
namespace {

struct Options {
  std::string results;
  std::string picture;
  std::string kind = "ratio";
};

constexpr double kLargest = 1e12;  // of any number in a result

// One cell; what the file does not have is not there.
struct Point {
  std::optional<double> ours_us;
  std::optional<double> floor_us;
  std::optional<double> rival_over_ours;
};

// One curve a shape, by tokens.
using Curves = std::map<std::string, std::map<std::int64_t, Point>>;

Result<Curves> read_curves(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse_file(path));
  if (!value.is_object()) {
    return corrupt(path + ": expected the object that liquid bench gemm --record writes");
  }
  const json::Reader file(value.as_object(), path);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* rows, file.required_array("rows"));
  Curves curves;
  for (std::size_t i = 0; i < rows->size(); ++i) {
    const std::string place = fmt::format("rows[{}]", i);
    if (!(*rows)[i].is_object()) return corrupt(fmt::format("{}: {} is no object", path, place));
    const json::Reader row((*rows)[i].as_object(), path, place);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t n, row.required_int("n", 1, 1 << 30));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t k, row.required_int("k", 1, 1 << 30));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t m, row.required_int("m", 1, 1 << 30));
    Point point;
    LIQUIDGEMM_ASSIGN_OR_RETURN(point.rival_over_ours,
                                row.optional_number("best_rival_over_ours", 0.0, kLargest));
    LIQUIDGEMM_ASSIGN_OR_RETURN(point.floor_us, row.optional_number("floor_us", 0.0, kLargest));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* ours, row.optional_object("ours"));
    if (ours != nullptr) {
      const json::Reader timing(*ours, path, place + ".ours");
      LIQUIDGEMM_ASSIGN_OR_RETURN(point.ours_us, timing.required_number("us", 0.0, kLargest));
    }
    // Of several schedules the first one counts.
    curves[fmt::format("{} x {}", n, k)].try_emplace(m, point);
  }
  return curves;
}

// Shapes without any of `what` have no curve.
void keep_points_with(std::optional<double> Point::*what, Curves& curves) {
  for (auto& [shape, points] : curves) {
    std::erase_if(points, [what](const auto& entry) { return !(entry.second.*what); });
  }
  std::erase_if(curves, [](const auto& entry) { return entry.second.empty(); });
}

// gnuplot's commands. Names of shapes are digits and an x, so nothing needs quoting.
std::string ratio_script(const Curves& curves) {
  std::string script = kPictureStyle;
  script +=
      "set xlabel 'tokens'\n"
      "set title 'W4A8 on Hopper beside the best of cuBLASLt FP16, FP8 and INT8'\n"
      "set logscale x 2\nset ylabel 'times as fast'\nset yrange [0:*]\n"
      "set label 'as fast' at graph 0.01, first 1.0 offset 0,0.6\n";
  int index = 0;
  for (const auto& [shape, points] : curves) {
    script += fmt::format("$shape{} << END\n", index++);
    for (const auto& [m, point] : points) {
      script += fmt::format("{} {:.4f}\n", m, *point.rival_over_ours);
    }
    script += "END\n";
  }
  index = 0;
  script += "plot 1 notitle linecolor 'black' linewidth 2";
  for (const auto& [shape, points] : curves) {
    script += fmt::format(", $shape{} using 1:2 with {} title '{}'", index++,
                          curve_style(points.size()), shape);
  }
  return script + "\n";
}

// Columns: tokens, ours, floor, the best rival; a time that is not there is NaN, which gnuplot
// leaves out.
std::string time_script(const Curves& curves) {
  constexpr std::int64_t kWide = 512;  // up to here every token count has its place on the axis
  std::int64_t most_tokens = 0;
  bool floors = false;
  bool rivals = false;
  std::string data;
  int index = 0;
  for (const auto& [shape, points] : curves) {
    data += fmt::format("$shape{} << END\n", index++);
    most_tokens = std::max(most_tokens, points.rbegin()->first);
    for (const auto& [m, point] : points) {
      const double ours = *point.ours_us;
      floors = floors || point.floor_us;
      rivals = rivals || point.rival_over_ours;
      data += fmt::format("{} {:.4f}", m, ours);
      data += point.floor_us ? fmt::format(" {:.4f}", *point.floor_us) : " NaN";
      data +=
          point.rival_over_ours ? fmt::format(" {:.4f}", ours * *point.rival_over_ours) : " NaN";
      data += "\n";
    }
    data += "END\n";
  }
  std::string script = kPictureStyle;
  script +=
      "set xlabel 'tokens'\nset title 'W4A8 on Hopper: the time of one product'\n"
      "set ylabel 'microseconds'\n";
  script += most_tokens > kWide ? "set logscale x 2\nset logscale y\n"
                                : fmt::format("set xrange [0:{}]\nset yrange [0:*]\n", most_tokens);
  script += data + "plot ";
  index = 0;
  for (const auto& [shape, points] : curves) {
    const int color = index + 1;
    script += fmt::format("{}$shape{} using 1:2 with {} linecolor {} title '{}'",
                          index > 0 ? ", " : "", index, curve_style(points.size()), color, shape);
    if (floors) {
      script += fmt::format(", $shape{} using 1:3 with lines dashtype 2 linecolor {} notitle",
                            index, color);
    }
    if (rivals) {
      script += fmt::format(", $shape{} using 1:4 with points pointtype 6 linecolor {} notitle",
                            index, color);
    }
    ++index;
  }
  // What a dash and a circle are, once for all colors.
  if (floors) script += ", NaN with lines dashtype 2 linecolor 'gray40' title 'floor'";
  if (rivals) script += ", NaN with points pointtype 6 linecolor 'gray40' title 'best rival'";
  return script + "\n";
}

Result<std::string> script_for(const Options& options) {
  if (options.kind == "speed") return speed_script(options.results);
  if (options.kind == "load") return load_script(options.results);
  LIQUIDGEMM_ASSIGN_OR_RETURN(Curves curves, read_curves(options.results));
  const bool times = options.kind == "time";
  keep_points_with(times ? &Point::ours_us : &Point::rival_over_ours, curves);
  if (curves.empty()) {
    return invalid_argument(options.results +
                            (times ? ": no row has ours.us; measure without --check-only"
                                   : ": no row has best_rival_over_ours; measure with the rivals"));
  }
  return times ? time_script(curves) : ratio_script(curves);
}

Status plot(const Options& options) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string script, script_for(options));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string picture, run_gnuplot(script));
  return write_file_atomically(options.picture, picture);
}

}  // namespace

void add_bench_plot(CLI::App& bench, Action& action) {
  CLI::App* verb = bench.add_subcommand("plot", "Draw what --record FILE.json wrote");
  verb->footer(
      "ratio: the best rival's time over ours. time: microseconds of ours, with its floor "
      "(dashed)\n"
      "and the best rival (circles); the axis of tokens is linear up to 512.\n"
      "speed: generated tokens/s of bench latency, with its floor (dashed), or of bench "
      "throughput,\n"
      "against the requests at once.\n"
      "load: times to the first token and to the next ones of bench serve, against the request "
      "rate\n"
      "or, where it does not vary, against generated tokens/s.\n"
      "\n"
      "Examples:\n"
      "  liquid bench plot results.json -o results.svg\n"
      "  liquid bench plot sweep.json -o sweep.svg --kind time\n"
      "  liquid bench plot latency.json -o latency.svg --kind speed\n"
      "  liquid bench plot load.json -o load.svg --kind load");
  const auto options = std::make_shared<Options>();
  verb->add_option("RESULTS", options->results,
                   "A .json file of liquid bench gemm, latency, throughput or serve")
      ->required();
  verb->add_option("-o,--output", options->picture, "The picture, SVG")->required();
  verb->add_option("--kind", options->kind, "What is drawn")
      ->check(CLI::IsMember({"ratio", "time", "speed", "load"}))
      ->capture_default_str();
  verb->callback([options, &action] { action = [options] { return plot(*options); }; });
}

}  // namespace liquidgemm::cli
