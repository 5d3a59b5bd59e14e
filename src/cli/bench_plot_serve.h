// The picture of `liquid bench serve`.
#pragma once

#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::cli {

// gnuplot's commands for the results in a file: latency against load, the time to the first token
// beside the time of each further one, median and 99th percentile. Where several rates are finite,
// the load is the request rate, with a color for each number of requests at once; otherwise it is
// the generated tokens/s that the server reached, in the order of rising load.
Result<std::string> load_script(const std::string& path);

}  // namespace liquidgemm::cli
