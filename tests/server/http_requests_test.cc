// What clients send, well formed and not: each gets its answer and the server goes on.

#include <random>

#include "fresh_seed.h"
#include "server/test_server.h"

namespace liquidgemm::testing {
namespace {

class HttpRequests : public ServerTest {};

TEST_F(HttpRequests, AnswersAndKeepsTheConnection) {
  start();
  RawClient client = this->client();
  for (int i = 0; i < 3; ++i) {
    const std::string body(static_cast<std::size_t>(i) * 100'000, 'x');
    const RawReply reply = client.ask(post_bytes("/echo", body));
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, body);
    EXPECT_EQ(reply.field("content-type"), "text/plain");
  }
  EXPECT_EQ(client.ask(get_bytes("/echo?a=1&b=%20")).body, "/echo|a=1&b=%20");
  EXPECT_EQ(client.ask("GET http://any:1/echo?x HTTP/1.1\r\nHost: any\r\n\r\n").body, "/echo|x");
}

TEST_F(HttpRequests, BytesOneByOneAreTheSame) {
  start();
  RawClient client = this->client();
  for (const char c : std::string("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                                  "\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")) {
    client.send(std::string(1, c));
  }
  EXPECT_EQ(client.reply().body, "abcde");
}

TEST_F(HttpRequests, PipelinedRequestsAreAnsweredInOrder) {
  start();
  RawClient client = this->client();
  std::string bytes;
  for (int i = 0; i < 50; ++i) bytes += post_bytes("/echo", std::to_string(i));
  client.send(post_bytes("/keep", "first") + bytes);
  client.stop_sending();  // what was asked before is still answered
  auto [request, reply] = kept_.take();
  ASSERT_NE(reply, nullptr);
  EXPECT_EQ(kept_.size(), 0u);
  reply->send(200, "text/plain", "first");
  EXPECT_EQ(client.reply().body, "first");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.reply().body, std::to_string(i));
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpRequests, HalfClosedClientGetsItsAnswer) {
  start();
  RawClient client = this->client();
  client.send(post_bytes("/echo", "hi"));
  client.stop_sending();
  EXPECT_EQ(client.reply().body, "hi");
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpRequests, HeadHasTheHeaderOfGetOnly) {
  start();
  RawClient client = this->client();
  client.send("HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  const RawReply reply = client.reply(/*head_only=*/true);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.field("content-length"), "6");
  EXPECT_EQ(client.ask(get_bytes("/echo")).body, "/echo|");
  client.send("HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.reply(true).status, 404);
  EXPECT_EQ(client.ask(get_bytes("/echo")).body, "/echo|");
}

TEST_F(HttpRequests, UnknownPathsAndMethods) {
  start();
  RawClient client = this->client();
  for (const char* path : {"/", "/echo/", "/Echo", "//echo", "/../echo", "/%65cho", "/echo%00",
                           "/etc/passwd", "/echo;x"}) {
    const RawReply reply = client.ask(get_bytes(path));
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(error_of(reply).at("type").as_string(), "invalid_request_error");
  }
  RawReply reply = client.ask("DELETE /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.field("allow"), "GET, HEAD, POST");
  reply = client.ask("BREW /keep HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.field("allow"), "POST");
}

TEST_F(HttpRequests, ContinueIsSaidBeforeTheBody) {
  start();
  RawClient client = this->client();
  client.send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.reply().status, 100);
  client.send("abc");
  EXPECT_EQ(client.reply().body, "abc");
  // A refused one is told so instead.
  client.send(
      "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.reply().status, 404);
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpRequests, OldClients) {
  start();
  RawClient client = this->client();
  RawReply reply = client.ask("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(reply.body, "/echo|");
  EXPECT_EQ(reply.field("connection"), "keep-alive");
  client.send("POST /keep HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
  auto kept = kept_.take();
  kept.second->begin_stream("text/event-stream", {});
  EXPECT_TRUE(kept.second->write("a"));
  EXPECT_TRUE(kept.second->write("b"));
  kept.second->end();
  reply = client.reply();
  EXPECT_EQ(reply.field("transfer-encoding"), "");
  EXPECT_EQ(reply.body, "ab");
}

TEST_F(HttpRequests, RequestIdsAreEchoedOrDrawn) {
  start();
  RawClient client = this->client();
  EXPECT_EQ(client.ask(get_bytes("/echo", "X-Request-Id: a.b-c_1\r\n")).field("x-request-id"),
            "a.b-c_1");
  for (const std::string& bad : {std::string("a b"), std::string("<x>"), std::string(129, 'a')}) {
    const std::string id =
        client.ask(get_bytes("/echo", "X-Request-Id: " + bad + "\r\n")).field("x-request-id");
    EXPECT_EQ(id.rfind("req-", 0), 0u) << id;
  }
  EXPECT_NE(client.ask(get_bytes("/echo")).field("x-request-id"),
            client.ask(get_bytes("/echo")).field("x-request-id"));
  EXPECT_EQ(client.ask(get_bytes("/none", "X-Request-Id: e\r\n")).field("x-request-id"), "e");
}

// The rest of the requests that a reader could misunderstand: each is refused and ends the
// connection, so that nothing behind it is taken for a request.
TEST_F(HttpRequests, MalformedOnesAreRefused) {
  start();
  const std::string chunked =
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string post = "POST /echo HTTP/1.1\r\nHost: a\r\n";
  const std::pair<std::string, int> cases[] = {
      {"hello\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\nHost: a\n\n", 400},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
      {"GET echo HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET /echo#x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET /ech\x80o HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET http:///echo HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET ftp://a/echo HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {post + "X: a\x01\r\n\r\n", 400},
      {post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400},
      {post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
      {post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
      {post + "Content-Length: 3, 3\r\n\r\nabc", 400},
      {post + "Content-Length: -1\r\n\r\n", 400},
      {post + "Content-Length: +3\r\n\r\nabc", 400},
      {post + "Content-Length: 0x3\r\n\r\nabc", 400},
      {post + "Content-Length: 18446744073709551616\r\n\r\n", 400},
      {post + "Content-Length: 18446744073709551615\r\n\r\n", 413},
      {post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
      {post + "Transfer-Encoding: identity\r\n\r\n", 400},
      {post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {chunked + "-2\r\nab\r\n0\r\n\r\n", 400},
      {chunked + "FFFFFFFFFFFFFFFF\r\nab\r\n0\r\n\r\n", 413},
      {chunked + "FFFFFFFFFFFFFFFFF\r\nab\r\n0\r\n\r\n", 400},
      {chunked + "zz\r\nab\r\n0\r\n\r\n", 400},
      {chunked + "\r\nab\r\n0\r\n\r\n", 400},
      {chunked + "2\r\nabc\r\n0\r\n\r\n", 400},
      {post + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415},
      {post + "Content-Encoding: br\r\n\r\n", 415},
      {post + "Expect: the unexpected\r\nContent-Length: 3\r\n\r\n", 417},
      {std::string("\x16\x03\x01\x00\xa1\x01\x00\x00\x9d\r\n\r\n", 13), 400},
  };
  for (const auto& [bytes, status] : cases) {
    RawClient client = this->client();
    client.send(bytes);
    const RawReply reply = client.reply();
    EXPECT_EQ(reply.status, status) << bytes;
    EXPECT_TRUE(reply.complete);
    error_of(reply);
    if (status == 400) {
      EXPECT_TRUE(client.ended()) << bytes;
    }
  }
  EXPECT_TRUE(healthy());
}

// Random changes to good requests never do more than end a connection.
TEST_F(HttpRequests, DamagedRequestsDoNoHarm) {
  options_.limits.header_timeout = std::chrono::milliseconds(200);
  options_.limits.body_timeout = std::chrono::milliseconds(200);
  start();
  std::mt19937_64 random(fresh_seed());
  const std::string good[] = {
      post_bytes("/echo", "hello", "Content-Type: application/json\r\n"),
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      get_bytes("/echo?x=1", "Authorization: Bearer k\r\nExpect: 100-continue\r\n")};
  for (int round = 0; round < 300; ++round) {
    std::string bytes = good[random() % 3];
    for (std::uint64_t change = 1 + random() % 3; change > 0; --change) {
      const std::size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0: bytes[at] = static_cast<char>(random()); break;
        case 1: bytes.erase(at, 1 + random() % 4); break;
        default: bytes.insert(at, bytes.substr(random() % bytes.size(), 1 + random() % 16));
      }
      if (bytes.empty()) bytes = "x";
    }
    RawClient client = this->client();
    client.send(bytes);
    client.stop_sending();
    ASSERT_TRUE(client.ended()) << bytes;
  }
  EXPECT_TRUE(healthy());
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

}  // namespace
}  // namespace liquidgemm::testing
