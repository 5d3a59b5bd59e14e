// Replies: streams, disconnects, replies that are given up, shutdown under load.

#include <sys/socket.h>

#include <random>
#include <stdexcept>
#include <thread>

#include "fresh_seed.h"
#include "server/test_server.h"

namespace liquidgemm::testing {
namespace {

class HttpReplies : public ServerTest {};

TEST_F(HttpReplies, ChunksComeAtOnceAndInOrder) {
  start();
  RawClient client = this->client();
  client.send(post_bytes("/keep", "{}", "Content-Type: application/json\r\n"));
  auto [request, reply] = kept_.take();
  ASSERT_NE(reply, nullptr);
  EXPECT_EQ(request.content_type, "application/json");
  reply->begin_stream("text/event-stream", {{"Cache-Control", "no-cache"}, {"Bad", "a\r\nb: c"}});
  std::string all;
  for (int i = 0; i < 200; ++i) {
    const std::string chunk = "data: " + std::to_string(i) + "\n\n";
    EXPECT_TRUE(reply->write(chunk));
    EXPECT_TRUE(reply->write(""));  // not the end
    if (i % 50 == 0) {
      EXPECT_TRUE(client.wait_for(chunk));
    }
    all += chunk;
  }
  reply->end();
  EXPECT_FALSE(reply->write("late"));
  const RawReply received = client.reply();
  EXPECT_EQ(received.body, all);
  EXPECT_EQ(received.field("cache-control"), "no-cache");
  EXPECT_EQ(received.field("bad"), "");
  EXPECT_EQ(client.ask(get_bytes("/echo")).body, "/echo|");  // the connection goes on
}

TEST_F(HttpReplies, DisconnectIsToldOnce) {
  start();
  for (const bool streaming : {false, true}) {
    for (const bool reset : {false, true}) {
      RawClient client = this->client();
      client.send(post_bytes("/keep", ""));
      auto [request, reply] = kept_.take();
      ASSERT_NE(reply, nullptr);
      std::atomic<int> gone{0};
      reply->on_disconnect([&] { ++gone; });
      if (streaming) {
        reply->begin_stream("text/event-stream");
        EXPECT_TRUE(reply->write("a"));
        EXPECT_TRUE(client.wait_for("a\r\n"));
      }
      EXPECT_EQ(gone, 0);
      if (reset) {
        const linger hard{1, 0};
        ::setsockopt(client.fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      }
      client.close();
      EXPECT_TRUE(eventually([&] { return gone == 1; })) << streaming << reset;
      EXPECT_FALSE(reply->write("b"));
      std::atomic<int> late{0};
      reply->on_disconnect([&] { ++late; });
      EXPECT_EQ(late, 1);  // it has gone already
      reply->send(200, "text/plain", "nobody hears it");
      reply.reset();
      EXPECT_EQ(gone, 1);
      EXPECT_TRUE(eventually([&] { return server_->open_replies() == 0; }));
    }
  }
  EXPECT_TRUE(healthy());
}

TEST_F(HttpReplies, NoDisconnectAfterTheEnd) {
  start();
  RawClient client = this->client();
  client.send(post_bytes("/keep", ""));
  auto [request, reply] = kept_.take();
  std::atomic<int> gone{0};
  reply->on_disconnect([&] { ++gone; });
  reply->send(200, "text/plain", "x");
  EXPECT_EQ(client.reply().body, "x");
  client.close();
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
  EXPECT_EQ(gone, 0);
}

TEST_F(HttpReplies, LateListenerHearsOfAHalfClose) {
  start();
  RawClient client = this->client();
  client.send(post_bytes("/keep", ""));
  client.stop_sending();
  auto [request, reply] = kept_.take();
  ::usleep(50'000);
  std::atomic<int> gone{0};
  reply->on_disconnect([&] { ++gone; });
  EXPECT_TRUE(eventually([&] { return gone == 1; }));
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpReplies, RepliesThatAreGivenUp) {
  std::vector<Route> routes = this->routes();
  routes.push_back({"GET", "/throw", [](const HttpRequest&, const std::shared_ptr<HttpReply>&) {
                      throw std::runtime_error("secret");
                    }});
  routes.push_back(
      {"GET", "/forget", [](const HttpRequest&, const std::shared_ptr<HttpReply>&) {}});
  start(std::move(routes));
  RawClient client = this->client();
  RawReply received = client.ask(get_bytes("/throw"));
  EXPECT_EQ(received.status, 500);
  EXPECT_EQ(error_of(received).at("type").as_string(), "server_error");
  EXPECT_EQ(received.body.find("secret"), std::string::npos);
  received = client.ask(get_bytes("/forget"));
  EXPECT_EQ(received.status, 500);
  error_of(received);
  // A stream is cut off: no last chunk.
  client.send(post_bytes("/keep", ""));
  auto [request, reply] = kept_.take();
  reply->begin_stream("text/event-stream");
  reply->write("a");
  EXPECT_TRUE(client.wait_for("a\r\n"));
  reply.reset();
  received = client.reply();
  EXPECT_EQ(received.body, "a");
  EXPECT_FALSE(received.complete);
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpReplies, DrainFinishesWhatRuns) {
  start();
  RawClient running = client();
  RawClient idle = client();
  EXPECT_EQ(idle.ask(get_bytes("/echo")).status, 200);
  running.send(post_bytes("/keep", ""));
  auto [request, reply] = kept_.take();
  server_->set_phase(server::ServerPhase::kDraining);
  EXPECT_FALSE(server_->wait_idle(std::chrono::milliseconds(20)));
  const RawReply refused = idle.ask(post_bytes("/echo", "x"));
  EXPECT_EQ(refused.status, 503);
  error_of(refused);
  EXPECT_TRUE(idle.ended());
  EXPECT_EQ(client().ask(post_bytes("/echo", "x")).status, 503);
  EXPECT_TRUE(healthy());
  reply->send(200, "text/plain", "done");
  const RawReply done = running.reply();
  EXPECT_EQ(done.body, "done");
  EXPECT_EQ(done.field("connection"), "close");
  EXPECT_TRUE(server_->wait_idle(std::chrono::seconds(10)));
}

TEST_F(HttpReplies, StartingSaysSo) {
  auto started = HttpServer::start(options_, routes());
  ASSERT_TRUE(started.ok());
  server_ = std::move(*started);
  EXPECT_TRUE(healthy());
  const RawReply reply = client().ask(post_bytes("/v1/completions", "{}"));
  EXPECT_EQ(reply.status, 503);
  error_of(reply);
  server_->set_phase(server::ServerPhase::kServing);
  EXPECT_EQ(client().ask(get_bytes("/v1/completions")).status, 404);
}

TEST_F(HttpReplies, PortInUseIsExplained) {
  start();
  HttpServerOptions again;
  again.port = port();
  const auto second = HttpServer::start(again, {});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find(std::to_string(port())), std::string::npos);
  EXPECT_NE(second.status().message().find("--port"), std::string::npos);
  again.host = "192.0.2.1";
  EXPECT_FALSE(HttpServer::start(again, {}).ok());
}

// The server goes away while clients ask, read, disconnect and handlers' threads reply.
TEST_F(HttpReplies, ShutdownUnderLoad) {
  const std::uint64_t seed = fresh_seed();
  for (int round = 0; round < 3; ++round) {
    start();
    const int port = this->port();
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    std::atomic<int> answered{0};
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&, i] {
        std::mt19937_64 random(seed + static_cast<std::uint64_t>(100 * round + i));
        while (!stop) {
          RawClient client(port);
          if (!client.connected()) continue;
          for (int request = 0; request < 4 && !stop; ++request) {
            if (random() % 2 == 0) {
              if (client.ask(post_bytes("/echo", std::string(random() % 5000, 'x'))).complete) {
                ++answered;
              }
            } else {
              client.send(post_bytes("/keep", "x"));
              if (random() % 3 == 0) break;
              client.receive(20);
            }
          }
        }
      });
    }
    // Replies held by other threads, some of which outlive the server.
    std::vector<std::shared_ptr<HttpReply>> outliving;
    std::mutex mutex;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        std::mt19937_64 random(seed + static_cast<std::uint64_t>(1000 + 100 * round + i));
        while (!stop) {
          if (kept_.size() == 0) {
            ::usleep(500);
            continue;
          }
          auto [request, reply] = kept_.take();
          if (reply == nullptr) continue;
          const auto count = std::make_shared<std::atomic<int>>(0);
          reply->on_disconnect([count, reply = std::weak_ptr<HttpReply>(reply)] { ++*count; });
          reply->begin_stream("text/event-stream");
          for (std::uint64_t chunk = random() % 5; chunk > 0; --chunk) reply->write("data");
          if (random() % 4 != 0) reply->end();
          const std::lock_guard<std::mutex> lock(mutex);
          if (random() % 4 == 0 && outliving.size() < 100) outliving.push_back(reply);
        }
      });
    }
    EXPECT_TRUE(eventually([&] { return answered > 20; }));
    server_.reset();  // clients and handlers are in the middle of it
    ::usleep(5000);
    stop = true;
    for (std::thread& thread : threads) thread.join();
    while (kept_.size() > 0) kept_.take();
    for (const auto& reply : outliving) reply->write("late");
  }
}

}  // namespace
}  // namespace liquidgemm::testing
