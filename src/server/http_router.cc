#include "server/http_router.h"

#include <algorithm>

namespace liquidgemm::server {
namespace {

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

bool is_origin(std::string_view text) {
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos || scheme == 0 || text.size() > 512) return false;
  const std::string_view host = text.substr(scheme + 3);
  return !host.empty() && host.find_first_of("/?#@*, ") == std::string_view::npos &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// The fields that a preflight asks for are granted as they are: which of them are looked at is the
// server's business, and their list is bounded like every header.
bool is_field_list(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == ',' || c == ' ';
  });
}

std::string joined_methods(const auto& methods, bool with_options) {
  std::string text;
  const auto add = [&text](std::string_view method) {
    if (!text.empty()) text += ", ";
    text += method;
  };
  for (const auto& [method, route] : methods) {
    add(method);
    if (method == "GET") add("HEAD");
  }
  if (with_options) add("OPTIONS");
  return text;
}

}  // namespace

Result<AllowedOrigins> AllowedOrigins::parse(const std::vector<std::string>& origins) {
  AllowedOrigins allowed;
  for (const std::string& origin : origins) {
    if (origin == "*") {
      allowed.any_ = true;
    } else if (is_origin(origin)) {
      allowed.origins_.push_back(origin);
    } else {
      return invalid_argument("allowed origin \"" + origin +
                              "\": expected * or an origin such as https://chat.example.org:8443");
    }
  }
  return allowed;
}

bool AllowedOrigins::allows(std::string_view origin) const {
  if (origin.empty()) return false;
  return any_ || std::find(origins_.begin(), origins_.end(), origin) != origins_.end();
}

Headers AllowedOrigins::headers(std::string_view origin) const {
  Headers headers;
  if (!any_ && !origins_.empty()) headers.emplace_back("Vary", "Origin");
  if (!allows(origin)) return headers;
  headers.emplace_back("Access-Control-Allow-Origin", any_ ? "*" : std::string(origin));
  headers.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  return headers;
}

void HttpRouter::set_routes(std::vector<Route> routes) {
  auto table = std::make_shared<Table>();
  for (Route& route : routes) {
    Methods& methods = (*table)[route.path];
    const std::string method = route.method;
    methods[method] = std::make_shared<const Route>(std::move(route));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  table_ = std::move(table);
}

std::shared_ptr<const HttpRouter::Table> HttpRouter::table() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return table_;
}

HttpRouter::Decision HttpRouter::decide(const RequestHead& head) const {
  Decision decision;
  decision.headers = origins_.headers(head.origin);
  decide_route(head, decision);
  if (decision.route != nullptr) {
    if (!head.content_encoding.empty() &&
        !equals_ignoring_case(head.content_encoding, "identity")) {
      decision.route = nullptr;
      decision.refusal = {415, "Content-Encoding: bodies are read as they are, not compressed",
                          "unsupported_content_encoding"};
      decision.headers.emplace_back("Accept-Encoding", "identity");
    } else if (!head.expect.empty() && !equals_ignoring_case(head.expect, "100-continue")) {
      decision.route = nullptr;
      decision.refusal = {417, "Expect: only 100-continue is understood", "expectation_failed"};
    }
  }
  return decision;
}

void HttpRouter::decide_route(const RequestHead& head, Decision& decision) const {
  const auto routes = table();
  const auto path = routes->find(head.path);
  const bool known = path != routes->end();
  decision.head_only = head.method == "HEAD";

  // Browsers ask before they send a key, so this one question is answered without.
  const bool preflight = head.method == "OPTIONS" && !head.wanted_method.empty();
  if (preflight && known && origins_.allows(head.origin)) {
    decision.refusal.status = 204;
    decision.headers.emplace_back("Access-Control-Allow-Methods",
                                  joined_methods(path->second, true));
    decision.headers.emplace_back("Access-Control-Allow-Headers",
                                  is_field_list(head.wanted_fields)
                                      ? head.wanted_fields
                                      : "Authorization, Content-Type, X-Request-Id");
    decision.headers.emplace_back("Access-Control-Max-Age", "600");
    return;
  }

  std::shared_ptr<const Route> route;
  if (known) {
    auto found = path->second.find(head.method);
    if (found == path->second.end() && decision.head_only) found = path->second.find("GET");
    if (found != path->second.end()) route = found->second;
  }
  // Without a key nobody learns which paths there are.
  const bool open = route != nullptr && route->is_public;
  if (!open && !keys_.empty() && !keys_.allows(head.authorization)) {
    decision.refusal = {401,
                        head.authorization.empty()
                            ? "an API key is needed: send the header Authorization: Bearer KEY"
                            : "the API key in the Authorization header is not valid",
                        "invalid_api_key"};
    decision.headers.emplace_back("WWW-Authenticate", "Bearer");
    return;
  }
  if (route == nullptr && phase_ == ServerPhase::kStarting) {
    decision.refusal = {503, "the model is still being loaded; try again soon", "loading"};
    decision.headers.emplace_back("Retry-After", "1");
    return;
  }
  if (!known) {
    decision.refusal = {404, "there is no " + head.path.substr(0, 200) + " here", "not_found"};
    return;
  }
  if (route == nullptr) {
    const std::string methods = joined_methods(path->second, false);
    decision.refusal = {405, head.path + ": the method must be " + methods, "method_not_allowed"};
    decision.headers.emplace_back("Allow", methods);
    return;
  }
  if (phase_ == ServerPhase::kDraining && head.method == "POST") {
    decision.refusal = {503, "the server is shutting down; send the request to another",
                        "shutting_down"};
    decision.headers.emplace_back("Retry-After", "1");
    return;
  }
  decision.route = std::move(route);
}

}  // namespace liquidgemm::server
