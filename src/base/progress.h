// Progress of long work: a bar on a terminal, plain lines otherwise, nothing with --quiet.
// Always on standard error; standard output belongs to results.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace liquidgemm {

enum class ProgressStyle { kAuto, kBar, kLines, kSilent };

class Progress {
 public:
  // total in any unit; `unit` is printed after the counts ("tensors", "tokens", "").
  Progress(std::string label, std::int64_t total, std::string unit = "",
           ProgressStyle style = ProgressStyle::kAuto);
  // Ends the line of an unfinished bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(std::int64_t by, const std::string& detail = "");
  void finish();

  // What kAuto means from now on; --quiet sets kSilent.
  static void set_default_style(ProgressStyle style);

 private:
  void print(bool last);

  std::string label_;
  std::int64_t total_;
  std::string unit_;
  ProgressStyle style_;
  std::int64_t done_ = 0;
  std::string detail_;
  bool finished_ = false;
  std::size_t printed_width_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_print_;
};

}  // namespace liquidgemm
