// What a load sends, and when.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct ServePrompt {
  std::variant<std::vector<std::int32_t>, std::string> content;  // token ids or text
  std::int64_t input_tokens = 0;  // of ids; of random text about; -1: not known
  std::int64_t output_tokens = 0;
};

struct RandomPrompts {
  std::int64_t prompts = 100;
  std::int64_t input_len = 128;
  std::int64_t output_len = 64;
  double range_ratio = 0.0;  // in [0, 1): lengths are uniform within len * (1 -+ ratio)
  std::int64_t prefix_len = 0;
  std::int64_t vocabulary = 32000;  // ids are below
  bool text = false;                // words instead, about one token each
  std::uint64_t seed = 0;
};
// Each depends on the options and its number alone.
std::vector<ServePrompt> random_prompts(const RandomPrompts& options);

// One object a line: {"prompt": "text" or [ids], "output_len": 64}; without output_len the given
// one. At most `most` of them. Error: the line that is wrong, or a file without any.
Result<std::vector<ServePrompt>> read_prompts(const std::string& path, std::int64_t most,
                                              std::int64_t output_len);

struct RequestOptions {
  std::string model;
  bool chat = false;
  bool ignore_eos = true;
  double temperature = 0.0;
  json::Object extra;  // takes the place of what is above; null takes a field out
};
// JSON of the request.
std::string request_body(const ServePrompt& prompt, const RequestOptions& options);

// Seconds from the start at which each of `requests` is due: gaps of a gamma distribution with
// that shape (1: a Poisson process; infinite: even gaps), scaled so that the last is due at
// requests / rate. An infinite rate: all at once.
std::vector<double> arrival_times(std::int64_t requests, double rate, double burstiness,
                                  std::uint64_t seed);

}  // namespace liquidgemm::bench
