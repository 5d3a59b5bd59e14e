// HTTP/1.1 as the rest of the server sees it: requests that are whole and within their limits,
// and replies that any thread may give. Sockets, TLS, keys and limits are http_server.h's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace liquidgemm::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET", "POST"
  std::string path;    // without the query
  std::string query;   // what stands behind the question mark, as it came
  std::string body;
  std::string content_type;  // as it came; empty: none
  std::string id;            // the client's X-Request-Id, or one that was drawn
};

// The reply to one request. Every function may be called from any thread and returns at once. One
// send(), or begin_stream(), any number of write()s and end(). A reply that is destroyed without
// an end is answered with 500, or its stream is cut off, so that no client waits for ever.
class HttpReply {
 public:
  virtual ~HttpReply() = default;

  virtual void send(int status, std::string_view content_type, std::string body,
                    Headers headers = {}) = 0;
  // Status 200, then chunks as they come.
  virtual void begin_stream(std::string_view content_type, Headers headers = {}) = 0;
  // False: the client has gone, or reads too slowly to be waited for. Nothing more is sent.
  virtual bool write(std::string chunk) = 0;
  virtual void end() = 0;
  // Called once, from any thread, when the client goes before the reply is complete; at once if it
  // has gone already. Not called after the end.
  virtual void on_disconnect(std::function<void()> callback) = 0;
};

// Runs on one of the server's threads and must not block: it may keep the reply and answer later.
using Handler = std::function<void(HttpRequest request, std::shared_ptr<HttpReply> reply)>;

struct Route {
  std::string method;
  std::string path;  // exact
  Handler handler;
  bool is_public = false;  // true: no key is asked for
};

}  // namespace liquidgemm::server
