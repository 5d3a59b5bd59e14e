#include "bench/memory.h"

#include <unistd.h>

#include <cstdint>

namespace liquidgemm::bench {
namespace {

std::string gigabytes(double bytes) {
  return std::to_string(static_cast<std::int64_t>(bytes / 1e9 + 0.5)) + " GB";
}

}  // namespace

Status check_memory(double bytes, const std::string& what, const std::string& advice) {
  const double memory =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (bytes <= 0.8 * memory) return ok_status();
  return resource_exhausted(what + gigabytes(bytes) + ", but this machine has " +
                            gigabytes(memory) + "; " + advice);
}

}  // namespace liquidgemm::bench
