// The picture of `liquid bench latency` and `liquid bench throughput`.
#pragma once

#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::cli {

// gnuplot's commands for the results in a file: generated tokens/s against the requests at once, a
// curve for each length of prompts and answers, and where it is known its floor.
Result<std::string> speed_script(const std::string& path);

}  // namespace liquidgemm::cli
