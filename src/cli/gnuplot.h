// Pictures by gnuplot.
#pragma once

#include <cstddef>
#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::cli {

// What every script begins with.
inline constexpr const char* kPictureStyle =
    "set terminal svg size 900,520 background 'white' font 'sans-serif,13'\n"
    "set grid\nset key outside right\n";

// A curve of many points is a line: marks would hide each other.
const char* curve_style(std::size_t points);

// The picture that gnuplot prints for a script; unsupported says how to install it.
Result<std::string> run_gnuplot(const std::string& script);

}  // namespace liquidgemm::cli
