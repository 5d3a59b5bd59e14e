// A server on a free port with handlers that tests can look into.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/log.h"
#include "server/http_server.h"
#include "server/raw_client.h"

namespace liquidgemm::testing {

using server::Handler;
using server::HttpReply;
using server::HttpRequest;
using server::HttpServer;
using server::HttpServerOptions;
using server::Route;

// Replies that a handler has kept for the test to give.
class Kept {
 public:
  void keep(HttpRequest request, std::shared_ptr<HttpReply> reply) {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.emplace_back(std::move(request), std::move(reply));
    changed_.notify_all();
  }
  // The next one; null after ten seconds.
  std::pair<HttpRequest, std::shared_ptr<HttpReply>> take() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(10), [this] { return !kept_.empty(); });
    if (kept_.empty()) return {};
    auto first = std::move(kept_.front());
    kept_.erase(kept_.begin());
    return first;
  }
  std::size_t size() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return kept_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<HttpRequest, std::shared_ptr<HttpReply>>> kept_;
};

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kOff);
    options_.port = 0;
  }
  void TearDown() override {
    server_.reset();
    set_log_level(LogLevel::kInfo);
  }

  // /echo answers with the body, /keep leaves the reply to the test, /health is public.
  std::vector<Route> routes() {
    return {
        {"GET", "/health",
         [](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
           reply->send(200, "application/json", "{}");
         },
         true},
        {"POST", "/echo",
         [](const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
           reply->send(200, "text/plain", request.body);
         }},
        {"GET", "/echo",
         [](const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
           reply->send(200, "text/plain", request.path + "|" + request.query);
         }},
        {"POST", "/keep",
         [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
           kept_.keep(std::move(request), std::move(reply));
         }},
    };
  }

  void start() { start(routes()); }
  void start(std::vector<Route> routes) {
    auto started = HttpServer::start(options_, std::move(routes));
    ASSERT_TRUE(started.ok()) << started.status().message();
    server_ = std::move(*started);
    server_->set_phase(server::ServerPhase::kServing);
  }
  int port() const { return server_->port(); }
  RawClient client() const { return RawClient(server_->port()); }
  bool healthy() const { return client().ask(get_bytes("/health")).status == 200; }

  // The error object of a reply, checked for OpenAI's shape.
  static json::Object error_of(const RawReply& reply) {
    const auto parsed = json::parse(reply.body, "reply");
    if (!parsed.ok() || !parsed->is_object() || !parsed->as_object().contains("error")) {
      ADD_FAILURE() << "not an error object: " << reply.body;
      return {};
    }
    const json::Object error = parsed->as_object().at("error").as_object();
    EXPECT_TRUE(error.at("message").is_string());
    EXPECT_TRUE(error.at("type").is_string());
    EXPECT_TRUE(error.at("param").is_null());
    EXPECT_TRUE(error.contains("code"));
    return error;
  }

  HttpServerOptions options_;
  Kept kept_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace liquidgemm::testing
