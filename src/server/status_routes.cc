#include "server/status_routes.h"

#include <memory>
#include <utility>

#include "base/json.h"
#include "server/http_response.h"

namespace liquidgemm::server {
namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kPrometheus = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace

std::vector<Route> status_routes(StatusSource given) {
  const auto source = std::make_shared<const StatusSource>(std::move(given));
  std::vector<Route> routes;
  const auto get = [&routes](std::string path, Handler handler, bool is_public) {
    routes.push_back({"GET", std::move(path), std::move(handler), is_public});
  };
  get(
      "/health",
      [](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
        reply->send(200, kJson, R"({"status":"ok"})");
      },
      /*is_public=*/true);
  get(
      "/ready",
      [source](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
        const Status ready = source->ready();
        if (ready.ok()) return reply->send(200, kJson, R"({"status":"ready"})");
        reply->send(503, kJson, error_json(503, ready.message(), "not_ready"),
                    {{"Retry-After", "1"}});
      },
      /*is_public=*/true);
  get(
      "/version",
      [source](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
        const json::Object object{{"version", source->version}, {"commit", source->commit}};
        reply->send(200, kJson, json::dump(object));
      },
      /*is_public=*/false);
  get(
      "/metrics",
      [source](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
        reply->send(200, kPrometheus, source->metrics ? source->metrics() : std::string());
      },
      /*is_public=*/false);
  get(
      "/load",
      [source](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
        const json::Object object{{"server_load", source->load ? source->load() : 0}};
        reply->send(200, kJson, json::dump(object));
      },
      /*is_public=*/false);
  return routes;
}

}  // namespace liquidgemm::server
