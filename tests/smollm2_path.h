// Where scripts/demo.sh puts SmolLM2, for the tests that run it when it is there.
#pragma once

#include <cstdlib>
#include <string>

namespace liquidgemm {

inline std::string smollm2_path() {
  if (const char* path = std::getenv("LIQUIDGEMM_SMOLLM2")) return path;
  std::string cache;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != 0) {
    cache = xdg;
  } else if (const char* home = std::getenv("HOME")) {
    cache = std::string(home) + "/.cache";
  }
  return cache + "/liquidgemm/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace liquidgemm
