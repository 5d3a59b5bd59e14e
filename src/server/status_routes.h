// The routes that tell how the server is: for orchestrators, monitoring and people.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "liquidgemm/status.h"
#include "server/http.h"

namespace liquidgemm::server {

struct StatusSource {
  std::string version;
  std::string commit;
  // Whether requests are welcome: loaded, the engine steps and does not fail, not draining.
  std::function<Status()> ready;
  // Text in Prometheus' format. Empty: nothing to measure yet.
  std::function<std::string()> metrics = {};
  // Requests that run or wait. Empty: none yet.
  std::function<std::int64_t()> load = {};
};

// GET /health (public): 200 as long as the process answers. GET /ready (public): 200, or 503 with
// the reason. GET /version, /metrics, /load. Called on the server's threads: the functions must be
// thread-safe and quick.
std::vector<Route> status_routes(StatusSource source);

}  // namespace liquidgemm::server
