#include "cli/gnuplot.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

namespace liquidgemm::cli {

const char* curve_style(std::size_t points) {
  constexpr std::size_t kMostMarks = 40;
  return points > kMostMarks ? "lines linewidth 1.5" : "linespoints";
}

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

}  // namespace liquidgemm::cli
