#include "base/physical_memory.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>

namespace liquidgemm {

double memory_limit_bytes(const std::string& text) {
  std::uint64_t bytes = 0;
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, bytes);
  if (error != std::errc() || last != end) return -1.0;
  return static_cast<double>(bytes);
}

double physical_memory_bytes() {
  double memory =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  // Version 2 and version 1, as a container sees its own group. Without a limit version 1 has a
  // number that is larger than any machine's memory.
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    std::string text;
    if (!(file >> text)) continue;
    const double limit = memory_limit_bytes(text);
    if (limit > 0.0) memory = std::min(memory, limit);
  }
  return memory;
}

}  // namespace liquidgemm
