#include "base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

namespace liquidgemm {
namespace {

constexpr int kBarWidth = 28;
constexpr auto kBarInterval = std::chrono::milliseconds(100);
constexpr auto kLineInterval = std::chrono::seconds(5);

std::atomic<ProgressStyle> default_style{ProgressStyle::kAuto};

ProgressStyle resolve(ProgressStyle style) {
  if (style == ProgressStyle::kAuto) style = default_style.load();
  if (style != ProgressStyle::kAuto) return style;
  return ::isatty(STDERR_FILENO) ? ProgressStyle::kBar : ProgressStyle::kLines;
}

std::string duration(double seconds) {
  char text[32];
  const long whole = static_cast<long>(seconds);
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
  }
  return text;
}

}  // namespace

void Progress::set_default_style(ProgressStyle style) { default_style = style; }

Progress::Progress(std::string label, std::int64_t total, std::string unit, ProgressStyle style)
    : label_(std::move(label)),
      total_(std::max<std::int64_t>(total, 1)),
      unit_(std::move(unit)),
      style_(resolve(style)),
      start_(std::chrono::steady_clock::now()),
      last_print_(start_ - kLineInterval) {}

Progress::~Progress() {
  if (!finished_ && style_ == ProgressStyle::kBar && printed_width_ > 0) std::fputc('\n', stderr);
}

void Progress::advance(std::int64_t by, const std::string& detail) {
  done_ = std::min(done_ + by, total_);
  detail_ = detail;
  const auto now = std::chrono::steady_clock::now();
  const auto interval = style_ == ProgressStyle::kBar
                            ? std::chrono::duration_cast<std::chrono::milliseconds>(kBarInterval)
                            : std::chrono::duration_cast<std::chrono::milliseconds>(kLineInterval);
  if (now - last_print_ < interval) return;
  last_print_ = now;
  print(false);
}

void Progress::finish() {
  if (finished_) return;
  done_ = total_;
  detail_.clear();
  print(true);
  finished_ = true;
}

void Progress::print(bool last) {
  if (style_ == ProgressStyle::kSilent) return;
  const double share = static_cast<double>(done_) / static_cast<double>(total_);
  const double elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  std::string line = label_ + " ";
  if (style_ == ProgressStyle::kBar) {
    const int filled = static_cast<int>(share * kBarWidth);
    line += "[" + std::string(static_cast<std::size_t>(filled), '#') +
            std::string(static_cast<std::size_t>(kBarWidth - filled), '.') + "] ";
  }
  char percent[16];
  std::snprintf(percent, sizeof percent, "%3.0f%% ", share * 100.0);
  line += percent + std::to_string(done_) + "/" + std::to_string(total_);
  if (!unit_.empty()) line += " " + unit_;
  line += last          ? ", took " + duration(elapsed)
          : share > 0.0 ? ", " + duration(elapsed * (1.0 - share) / share) + " left"
                        : "";
  if (!detail_.empty()) line += "  " + detail_;
  if (style_ == ProgressStyle::kBar) {
    const std::size_t width = line.size();
    if (width < printed_width_) line.append(printed_width_ - width, ' ');
    printed_width_ = width;
    std::fprintf(stderr, "\r%s%s", line.c_str(), last ? "\n" : "");
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
}

}  // namespace liquidgemm
