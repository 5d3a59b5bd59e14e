// The server's transport: HTTP/1.1 over TCP or TLS, keys, limits, on threads of its own.
//
// Keep-alive, pipelined requests answered in order, chunked streaming. A client that goes while its
// reply is pending is noticed at once, one that only stops sending too (see http_session.cc). What
// is not a clear, whole request within the limits is refused with an error in OpenAI's shape.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "liquidgemm/status.h"
#include "server/http.h"
#include "server/http_limits.h"
#include "server/http_router.h"

namespace liquidgemm::server {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address, or a name of this machine
  int port = 8000;                 // 0: a free one
  int threads = 2;
  HttpLimits limits;
  ApiKeys keys;             // empty: no key is asked for
  AllowedOrigins origins;   // of web pages
  std::string ssl_keyfile;  // both or none
  std::string ssl_certfile;
  bool access_log = true;
};

class HttpServer {
 public:
  // Listens and answers from now on, in the phase kStarting. Errors name address and port.
  static Result<std::unique_ptr<HttpServer>> start(const HttpServerOptions& options,
                                                   std::vector<Route> routes);
  // Ends every connection; handlers' on_disconnect is called. Replies may outlive the server.
  ~HttpServer();

  int port() const;
  std::string url() const;  // "http://127.0.0.1:8000"
  bool only_loopback() const;

  void set_routes(std::vector<Route> routes);
  void set_phase(ServerPhase phase);

  std::size_t connections() const;
  // Requests that were handed to a handler and whose replies are not written yet.
  std::int64_t open_replies() const;
  // True once there are none of these, or false after the timeout.
  bool wait_idle(std::chrono::milliseconds timeout) const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace liquidgemm::server
