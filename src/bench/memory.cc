#include "bench/memory.h"

#include <cstdint>

#include "base/physical_memory.h"

namespace liquidgemm::bench {
namespace {

std::string gigabytes(double bytes) {
  return std::to_string(static_cast<std::int64_t>(bytes / 1e9 + 0.5)) + " GB";
}

}  // namespace

Status check_memory(double bytes, const std::string& what, const std::string& advice) {
  const double memory = physical_memory_bytes();
  if (bytes <= 0.8 * memory) return ok_status();
  return resource_exhausted(what + gigabytes(bytes) + ", but this machine has " +
                            gigabytes(memory) + "; " + advice);
}

}  // namespace liquidgemm::bench
