// The description of the API at /openapi.json, with the ranges that hold for this server.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/api_limits.h"
#include "server/http.h"

namespace liquidgemm::server {

// What src/server/openapi.json cannot know. The ranges of its schemas are those of the validator:
// what is outside of them is refused.
struct OpenApiFacts {
  std::string version;              // of the program
  std::vector<std::string> models;  // the names it is served under, at least one
  std::int64_t vocabulary = 0;      // of the model
  std::int64_t max_model_len = 0;   // the longest sequence, prompt and answer
  bool has_keys = false;
  ApiLimits limits = {};
};

// A regular expression for 0 to `most` in decimal digits, without leading zeros.
std::string pattern_of_numbers(std::int64_t most);

std::string openapi_document(const OpenApiFacts& facts);
Route openapi_route(const OpenApiFacts& facts);

}  // namespace liquidgemm::server
