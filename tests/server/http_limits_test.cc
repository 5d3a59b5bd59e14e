// Whatever a client sends or fails to send, what it may hold is bounded.

#include <fcntl.h>
#include <sys/resource.h>

#include <fstream>
#include <memory>

#include "server/test_server.h"

namespace liquidgemm::testing {
namespace {

using std::chrono::milliseconds;

class HttpLimits : public ServerTest {};

TEST_F(HttpLimits, Header) {
  start();
  const auto status = [&](const std::string& bytes) {
    RawClient client = this->client();
    client.send(bytes);
    const RawReply reply = client.reply();
    error_of(reply);
    EXPECT_TRUE(client.ended());
    return reply.status;
  };
  EXPECT_EQ(status(get_bytes("/echo", "X: " + std::string(20'000, 'x') + "\r\n")), 431);
  EXPECT_EQ(status(get_bytes("/" + std::string(20'000, 'x'))), 431);
  std::string fields;
  for (int i = 0; i < 100; ++i) fields += "X" + std::to_string(i) + ": 1\r\n";
  EXPECT_EQ(status(get_bytes("/echo", fields)), 431);
  fields.erase(0, fields.find('\n') + 1);  // and Host: one hundred
  EXPECT_EQ(client().ask(get_bytes("/echo", fields)).status, 200);
  const std::string endless(5'000'000, 'x');  // no line end at all
  EXPECT_EQ(status("GET /" + endless), 431);
}

TEST_F(HttpLimits, Body) {
  options_.limits.body_bytes = 1000;
  start();
  EXPECT_EQ(client().ask(post_bytes("/echo", std::string(1000, 'x'))).status, 200);
  RawReply reply = client().ask(post_bytes("/echo", std::string(1001, 'x')));
  EXPECT_EQ(reply.status, 413);
  error_of(reply);
  std::string chunks = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 11; ++i) chunks += "64\r\n" + std::string(100, 'x') + "\r\n";
  EXPECT_EQ(client().ask(chunks + "0\r\n\r\n").status, 413);
  // Neither a chunk's extension nor the trailer is a way around.
  const std::string long_text(40'000, 'x');
  const std::string chunked =
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(client().ask(chunked + "1;" + long_text + "\r\na\r\n0\r\n\r\n").status, 400);
  EXPECT_EQ(client().ask(chunked + "0\r\nA: " + long_text + "\r\n\r\n").status, 400);
  EXPECT_TRUE(healthy());
}

TEST_F(HttpLimits, BodiesOfAllTogether) {
  options_.limits.total_body_bytes = 1500;
  start();
  RawClient first = client();
  first.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
  first.send("x");
  RawReply reply;
  ASSERT_TRUE(eventually([&] {
    reply = client().ask(post_bytes("/echo", std::string(1000, 'y')));
    return reply.status == 503;
  }));
  EXPECT_EQ(reply.field("retry-after"), "1");
  first.send(std::string(999, 'x'));
  EXPECT_EQ(first.reply().body, std::string(1000, 'x'));
  // A refused body may be let go only after its refusal was read.
  EXPECT_TRUE(eventually(
      [&] { return client().ask(post_bytes("/echo", std::string(1000, 'y'))).status == 200; }));
}

TEST_F(HttpLimits, SlowClientsAreLetGo) {
  options_.limits.header_timeout = milliseconds(200);
  options_.limits.body_timeout = milliseconds(200);
  options_.limits.idle_timeout = milliseconds(400);
  start();
  RawClient head = client();
  RawClient body = client();
  RawClient idle = client();
  RawClient used = client();
  EXPECT_EQ(used.ask(get_bytes("/echo")).status, 200);
  // A byte now and then does not help.
  head.send("GET /echo HTTP/1.1\r\nHost: a\r\n");
  body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
  for (int i = 0; i < 8; ++i) {
    head.send("X");
    body.send("x");
    ::usleep(50'000);
  }
  EXPECT_EQ(head.reply().status, 408);
  EXPECT_TRUE(head.ended());
  EXPECT_EQ(body.reply().status, 408);
  EXPECT_TRUE(body.ended());
  EXPECT_TRUE(idle.ended());
  EXPECT_TRUE(used.ended());
  EXPECT_EQ(idle.buffer(), "");
  EXPECT_EQ(used.buffer(), "");
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpLimits, Connections) {
  options_.limits.connections = 3;
  start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(port()));
    EXPECT_EQ(clients.back()->ask(get_bytes("/echo")).status, 200);
  }
  RawClient more = client();
  more.send(get_bytes("/echo"));
  const RawReply reply = more.reply();
  EXPECT_EQ(reply.status, 503);
  error_of(reply);
  EXPECT_TRUE(more.ended());
  for (const auto& client : clients) EXPECT_EQ(client->ask(get_bytes("/echo")).status, 200);
  clients.pop_back();
  EXPECT_TRUE(eventually([&] { return client().ask(get_bytes("/echo")).status == 200; }));
}

TEST_F(HttpLimits, SlowReaderIsDropped) {
  options_.limits.outgoing_bytes = 64u << 10;
  start();
  RawClient reader(port(), /*receive_buffer=*/4096);
  reader.send(post_bytes("/keep", ""));
  auto [request, reply] = kept_.take();
  ASSERT_NE(reply, nullptr);
  std::atomic<int> gone{0};
  reply->on_disconnect([&] { ++gone; });
  reply->begin_stream("text/event-stream", {});
  // The kernel's buffers take some megabytes; then ours is full.
  std::size_t written = 0;
  const std::string chunk(4096, 'x');
  while (reply->write(chunk) && written < (256u << 20)) written += chunk.size();
  EXPECT_LT(written, 64u << 20);
  EXPECT_EQ(gone, 1);
  EXPECT_FALSE(reply->write(chunk));
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpLimits, ClientThatTakesNothingIsDropped) {
  options_.limits.write_timeout = milliseconds(200);
  start();
  RawClient reader(port(), /*receive_buffer=*/4096);
  reader.send(post_bytes("/keep", ""));
  auto [request, reply] = kept_.take();
  ASSERT_NE(reply, nullptr);
  reply->send(200, "text/plain", std::string(32u << 20, 'x'));
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
  EXPECT_EQ(server_->open_replies(), 0);
  EXPECT_TRUE(healthy());
}

TEST_F(HttpLimits, WhatIsSentAheadIsBounded) {
  start();
  RawClient client = this->client();
  client.send(post_bytes("/keep", ""));
  auto [request, reply] = kept_.take();
  ASSERT_NE(reply, nullptr);
  // While the reply is pending the server stops reading, and so the client can send no more.
  const std::string body(500'000, 'x');
  const std::string more = post_bytes("/echo", body);
  std::size_t sent = 0;
  ::fcntl(client.fd(), F_SETFL, O_NONBLOCK);
  EXPECT_TRUE(eventually([&] {
    const ssize_t size = ::send(client.fd(), more.data(), more.size(), MSG_NOSIGNAL);
    if (size > 0) sent += static_cast<std::size_t>(size);
    return size < 0 || sent > (64u << 20);
  }));
  EXPECT_LT(sent, 64u << 20);
  reply->send(200, "text/plain", "done");
  EXPECT_EQ(client.reply().body, "done");
  EXPECT_EQ(client.reply().body, body);
}

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t pages = 0;
  file >> pages >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST_F(HttpLimits, IdleConnectionsCostLittle) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's memory is its own";
#endif
  constexpr std::size_t kConnections = 1000;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  ASSERT_GE(files.rlim_cur, 2 * kConnections + 100) << "raise the limit of open files";
  start();
  EXPECT_TRUE(healthy());
  const std::size_t before = resident_bytes();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (std::size_t i = 0; i < kConnections; ++i) {
    clients.push_back(std::make_unique<RawClient>(port()));
    ASSERT_TRUE(clients.back()->connected());
    ASSERT_EQ(clients.back()->ask(get_bytes("/echo")).status, 200);
  }
  EXPECT_GE(server_->connections(), kConnections);
  const std::size_t cost = resident_bytes() - before;
  std::printf("%zu idle connections: %.1f MB, both ends\n", kConnections, 1e-6 * double(cost));
  EXPECT_LT(cost, 50u << 20);
}

}  // namespace
}  // namespace liquidgemm::testing
