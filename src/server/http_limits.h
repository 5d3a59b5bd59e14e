// What one client, and all of them together, may make the server hold. Each is a flag of
// `liquid serve`.
#pragma once

#include <chrono>
#include <cstddef>

namespace liquidgemm::server {

struct HttpLimits {
  std::size_t header_bytes = 16u << 10;  // request line and header of one request
  std::size_t header_fields = 100;
  std::size_t body_bytes = 8u << 20;          // of one request
  std::size_t total_body_bytes = 512u << 20;  // of all requests that are being read
  std::size_t connections = 1024;
  std::size_t outgoing_bytes = 1u << 20;  // of a streamed reply that wait for a slow reader

  std::chrono::milliseconds header_timeout{10'000};  // from a request's first byte
  std::chrono::milliseconds body_timeout{60'000};    // from the end of the header
  std::chrono::milliseconds idle_timeout{75'000};    // between requests
  std::chrono::milliseconds write_timeout{30'000};   // without the client taking a byte
};

}  // namespace liquidgemm::server
