// What one API request may ask for. Every list and number that a client sends is checked against
// these before anything is allocated for it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "engine/request.h"

namespace liquidgemm::server {

struct ApiLimits {
  std::size_t body_bytes = 8u << 20;
  std::size_t body_depth = 128;   // nesting of the JSON
  std::int64_t n = 16;            // answers to one prompt
  std::size_t prompts = 64;       // of one completion request
  std::size_t answers = 128;      // prompts times n
  std::int64_t tokens = 4 << 20;  // prompt tokens of one request, times n
  std::size_t stops = 16;         // stop strings
  std::size_t stop_bytes = 256;   // of one stop string
  std::size_t stop_token_ids = 128;
  std::size_t logit_bias = 1024;  // tokens with a bias
  std::int64_t logprobs = kMaxLogprobs;
  std::size_t messages = 4096;       // of one chat
  std::size_t content_parts = 1024;  // of one message
  std::size_t tools = 128;
  std::size_t tool_calls = 128;  // of one message
  std::size_t template_variables = 64;
  // From a completion's or chat's arrival to its end. Zero: any time.
  std::chrono::milliseconds request_time = std::chrono::hours(1);
  // Requests that wait for being read (parsed, rendered, tokenized), and their bodies together.
  std::size_t waiting_requests = 1024;
  std::size_t waiting_bytes = 64u << 20;
};

}  // namespace liquidgemm::server
