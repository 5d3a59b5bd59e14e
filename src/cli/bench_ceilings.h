// Ceilings of the CPU in reports.
#pragma once

#include <string>

#include "base/json.h"
#include "bench/cpu/ceiling.h"

namespace liquidgemm::cli {

// "12.3 GB/s (64 bytes a load, 1 stream, 2 threads)".
std::string ceiling_text(const bench::cpu::Ceiling& ceiling, const char* unit);
// With every probe; `rate_name` is "gb_per_second" or "gops".
json::Object ceiling_json(const bench::cpu::Ceiling& ceiling, const char* rate_name);

}  // namespace liquidgemm::cli
