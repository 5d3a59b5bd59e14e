// `liquid bench plot`: a picture of what `liquid bench gemm --record FILE.json` wrote.

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "cli/bench.h"

namespace liquidgemm::cli {
namespace {

struct Options {
  std::string results;
  std::string picture;
};

constexpr double kLargest = 1e12;  // of any number in a result

// One curve a shape: tokens -> time of the best rival / ours.
using Curves = std::map<std::string, std::map<std::int64_t, double>>;

Result<Curves> read_curves(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse_file(path));
  if (!value.is_object()) {
    return corrupt(path + ": expected the object that liquid bench gemm --record writes");
  }
  const json::Reader file(value.as_object(), path);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* rows, file.required_array("rows"));
  Curves curves;
  for (std::size_t i = 0; i < rows->size(); ++i) {
    if (!(*rows)[i].is_object()) return corrupt(fmt::format("{}: rows[{}] is no object", path, i));
    const json::Reader row((*rows)[i].as_object(), path, fmt::format("rows[{}]", i));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t n, row.required_int("n", 1, 1 << 30));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t k, row.required_int("k", 1, 1 << 30));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t m, row.required_int("m", 1, 1 << 30));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto ratio,
                                row.optional_number("best_rival_over_ours", 0.0, kLargest));
    if (ratio) curves[fmt::format("{} x {}", n, k)][m] = *ratio;
  }
  if (curves.empty()) {
    return invalid_argument(path + ": no row has best_rival_over_ours; measure with the rivals");
  }
  return curves;
}

// gnuplot's commands. Names of shapes are digits and an x, so nothing needs quoting.
std::string gnuplot_script(const Curves& curves) {
  std::string script =
      "set terminal svg size 900,520 background 'white' font 'sans-serif,13'\n"
      "set title 'W4A8 on Hopper beside the best of cuBLASLt FP16, FP8 and INT8'\n"
      "set logscale x 2\nset xlabel 'tokens'\nset ylabel 'times as fast'\n"
      "set yrange [0:*]\nset grid\nset key outside right\n"
      "set label 'as fast' at graph 0.01, first 1.0 offset 0,0.6\n";
  int index = 0;
  for (const auto& [shape, points] : curves) {
    script += fmt::format("$shape{} << END\n", index++);
    for (const auto& [m, ratio] : points) script += fmt::format("{} {:.4f}\n", m, ratio);
    script += "END\n";
  }
  index = 0;
  script += "plot 1 notitle linecolor 'black' linewidth 2";
  for (const auto& [shape, points] : curves) {
    script += fmt::format(", $shape{} using 1:2 with linespoints title '{}'", index++, shape);
  }
  return script + "\n";
}

// The picture that gnuplot prints for a script.
Result<std::string> run_gnuplot(const std::string& script) {
  std::error_code error;
  std::string name = (std::filesystem::temp_directory_path(error) / "liquid-plot-XXXXXX").string();
  const int descriptor = error ? -1 : ::mkstemp(name.data());
  if (descriptor < 0) return io_error("no temporary file could be made for gnuplot");
  struct Remover {
    const std::string& path;
    ~Remover() { ::unlink(path.c_str()); }
  } const remover{name};
  const bool written =
      ::write(descriptor, script.data(), script.size()) == static_cast<ssize_t>(script.size());
  ::close(descriptor);
  if (!written) return io_error(name + " could not be written");
  std::FILE* pipe = ::popen(fmt::format("gnuplot '{}' 2>/dev/null", name).c_str(), "r");
  if (pipe == nullptr) return io_error("gnuplot could not be started");
  std::string picture;
  char buffer[4096];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    picture.append(buffer, got);
  }
  if (::pclose(pipe) != 0 || picture.empty()) {
    return unsupported("gnuplot made no picture: is it installed? (apt-get install gnuplot-nox)");
  }
  return picture;
}

Status plot(const Options& options) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Curves curves, read_curves(options.results));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string picture, run_gnuplot(gnuplot_script(curves)));
  return write_file_atomically(options.picture, picture);
}

}  // namespace

void add_bench_plot(CLI::App& bench, Action& action) {
  CLI::App* verb = bench.add_subcommand("plot", "Draw what bench gemm --record FILE.json wrote");
  verb->footer("Example:\n  liquid bench plot results.json -o results.svg");
  const auto options = std::make_shared<Options>();
  verb->add_option("RESULTS", options->results, "A .json file of liquid bench gemm")->required();
  verb->add_option("-o,--output", options->picture, "The picture, SVG")->required();
  verb->callback([options, &action] { action = [options] { return plot(*options); }; });
}

}  // namespace liquidgemm::cli
