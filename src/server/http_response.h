// Replies as bytes, and OpenAI's error object.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "server/http.h"

namespace liquidgemm::server {

struct ResponseHead {
  int status = 200;
  std::string_view content_type;
  std::optional<std::size_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool is_http_1_1 = true;
  std::string_view request_id;  // empty: none
};

std::string_view status_text(int status);

// Status line and header, with the empty line behind. A field of `headers` whose name or value
// could not stand in a header (a line break in it, say) is left out.
std::string head_bytes(const ResponseHead& head, const Headers& headers);
std::string chunk_bytes(std::string_view data);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// {"error": {"message", "type", "param": null, "code"}}; the type follows from the status.
std::string error_json(int status, std::string_view message, std::string_view code);

}  // namespace liquidgemm::server
