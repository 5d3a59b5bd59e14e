// Where an OpenAI-compatible server is.
#pragma once

#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct ServeTarget {
  std::string host;  // an IPv6 address without its brackets
  std::string port = "80";
  std::string prefix;   // of every path: empty, or "/api"
  std::string api_key;  // empty: none is sent

  std::string authority() const;  // "localhost:8000", "[::1]:8000"
  // The prefix and the endpoint; "/v1" that stands in both is there once.
  std::string path(const std::string& endpoint) const;
};

// "http://HOST[:PORT][/PREFIX]".
Result<ServeTarget> parse_base_url(const std::string& url);
// A key goes into a header line: visible characters only.
Status check_api_key(const std::string& key);

}  // namespace liquidgemm::bench
