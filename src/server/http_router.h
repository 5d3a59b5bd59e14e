// Which requests are let in, and who answers them: routes, keys, origins, and the phases of the
// server's life. Decides on the head alone, so that what is refused costs no body.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"
#include "server/api_keys.h"
#include "server/http.h"
#include "server/http_parser.h"

namespace liquidgemm::server {

// Web pages of which origins may read replies. Empty: none but the server's own. "*": all.
class AllowedOrigins {
 public:
  // Each is "*" or as browsers send it: scheme://host or scheme://host:port.
  static Result<AllowedOrigins> parse(const std::vector<std::string>& origins);

  bool allows(std::string_view origin) const;
  // The fields that a reply to this origin gets; none when it is not allowed. Credentials (cookies)
  // are never allowed: keys come in the Authorization field.
  Headers headers(std::string_view origin) const;

 private:
  bool any_ = false;
  std::vector<std::string> origins_;
};

enum class ServerPhase {
  kStarting,  // unknown paths may still come: 503 instead of 404
  kServing,
  kDraining,  // requests for work (POST) get 503; what asks for the state is answered
};

class HttpRouter {
 public:
  HttpRouter(ApiKeys keys, AllowedOrigins origins)
      : keys_(std::move(keys)), origins_(std::move(origins)) {}

  // Replaces all routes. Requests that were admitted keep theirs.
  void set_routes(std::vector<Route> routes);
  void set_phase(ServerPhase phase) { phase_ = phase; }
  ServerPhase phase() const { return phase_; }

  struct Decision {
    std::shared_ptr<const Route> route;  // null: `refusal`, or a reply without a body
    HttpError refusal;                   // status 204: an answered preflight
    Headers headers;                     // of the reply, whatever it is
    bool head_only = false;              // HEAD: the route of GET answers, without its body
  };
  Decision decide(const RequestHead& head) const;

 private:
  using Methods = std::map<std::string, std::shared_ptr<const Route>, std::less<>>;
  using Table = std::map<std::string, Methods, std::less<>>;

  std::shared_ptr<const Table> table() const;
  void decide_route(const RequestHead& head, Decision& decision) const;

  ApiKeys keys_;
  AllowedOrigins origins_;
  std::atomic<ServerPhase> phase_{ServerPhase::kStarting};
  mutable std::mutex mutex_;  // of table_
  std::shared_ptr<const Table> table_ = std::make_shared<Table>();
};

}  // namespace liquidgemm::server
