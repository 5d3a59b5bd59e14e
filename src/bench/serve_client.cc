#include "bench/serve_client.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <cerrno>
#include <exception>
#include <utility>

namespace liquidgemm::bench {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr auto kWatchInterval = std::chrono::milliseconds(20);
constexpr auto kConnectLimit = std::chrono::seconds(10);  // of the first connection
constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kMostErrorBytes = 16 << 10;  // kept of a body that is no answer
constexpr std::uint32_t kMostHeaderBytes = 64 << 10;

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

void rethrow(std::exception_ptr error) {
  if (error) std::rethrow_exception(error);
}

}  // namespace

class HttpClient::Active {
 public:
  Active(std::unordered_set<Connection*>& all, Connection* one) : all_(all), one_(one) {
    all_.insert(one_);
  }
  ~Active() { all_.erase(one_); }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;

 private:
  std::unordered_set<Connection*>& all_;
  Connection* one_;
};

HttpClient::HttpClient(const ServeTarget& target, const std::atomic<bool>& interrupt)
    : target_(target), interrupt_(interrupt) {}

HttpClient::~HttpClient() = default;

HttpClient::Request HttpClient::request(const std::string& endpoint, std::string_view body) const {
  Request request(body.empty() ? http::verb::get : http::verb::post, target_.path(endpoint), 11);
  request.set(http::field::host, target_.authority());
  request.set(http::field::user_agent, "liquid");
  if (!target_.api_key.empty()) {
    request.set(http::field::authorization, "Bearer " + target_.api_key);
  }
  if (!body.empty()) {
    request.set(http::field::content_type, "application/json");
    request.set(http::field::accept, "text/event-stream");
    request.body() = boost::beast::span<const char>(body.data(), body.size());
  }
  request.prepare_payload();
  return request;
}

void HttpClient::run(asio::awaitable<void> main, std::function<void()> on_stop) {
  on_stop_ = std::move(on_stop);
  over_ = false;
  asio::co_spawn(io_, std::move(main), [this](std::exception_ptr error) {
    over_ = true;
    watch_timer_.cancel();
    rethrow(error);
  });
  asio::co_spawn(io_, watch(), rethrow);
  io_.restart();
  io_.run();
}

asio::awaitable<void> HttpClient::watch() {
  while (!over_) {
    watch_timer_.expires_after(kWatchInterval);
    co_await watch_timer_.async_wait(kAsTuple);
    if (interrupt_ && !stopped_) {
      stopped_ = true;
      if (on_stop_) on_stop_();
    }
    const Clock::time_point now = Clock::now();
    for (Connection* connection : active_) {
      connection->timed_out = connection->timed_out || now >= connection->deadline;
      error_code ignored;
      if (connection->timed_out || stopped_) connection->socket.close(ignored);
    }
  }
}

asio::awaitable<Status> HttpClient::open() {
  const std::string where = "http://" + target_.authority();
  asio::ip::tcp::resolver resolver(io_);
  auto [error, found] = co_await resolver.async_resolve(target_.host, target_.port, kAsTuple);
  if (error) co_return io_error(where + ": " + error.message());
  std::string problem = "it has no address";
  for (const auto& entry : found) {
    endpoint_ = entry.endpoint();
    auto connection = std::make_unique<Connection>(io_);
    connection->deadline = Clock::now() + kConnectLimit;
    const Active active(active_, connection.get());
    problem = co_await connect(*connection);
    if (stopped_) co_return cancelled("interrupted");
    if (problem.empty()) {
      idle_.push_back(std::move(connection));
      co_return ok_status();
    }
  }
  co_return io_error(where + ": " + problem + "; is a server running there?");
}

std::unique_ptr<HttpClient::Connection> HttpClient::take_idle() {
  while (!idle_.empty()) {
    std::unique_ptr<Connection> connection = std::move(idle_.back());
    idle_.pop_back();
    // Readable while nothing was asked: the server has closed it.
    char byte;
    const auto got = ::recv(connection->socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return connection;
  }
  return nullptr;
}

asio::awaitable<std::string> HttpClient::connect(Connection& connection) {
  auto [error] = co_await connection.socket.async_connect(endpoint_, kAsTuple);
  if (connection.timed_out) co_return "connecting timed out";
  if (error) co_return "connecting: " + error.message();
  error_code ignored;
  connection.socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  co_return "";
}

asio::awaitable<HttpClient::Reply> HttpClient::exchange(const Request& request,
                                                        std::chrono::duration<double> limit,
                                                        const OnBody& on_body) {
  const Clock::time_point deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(limit);
  for (bool again = false;; again = true) {
    std::unique_ptr<Connection> connection = again ? nullptr : take_idle();
    const bool kept = connection != nullptr;
    if (!kept) connection = std::make_unique<Connection>(io_);
    connection->deadline = deadline;
    const Active active(active_, connection.get());
    Reply reply;
    bool answered = false;
    bool keep = false;
    if (!kept) reply.error = co_await connect(*connection);
    if (reply.error.empty()) {
      keep = co_await talk(*connection, request, on_body, reply, answered);
    }
    reply.stopped = stopped_ && !reply.error.empty();
    if (connection->timed_out) reply.error = fmt::format("timed out after {:g} s", limit.count());
    // The server may close a kept connection in the moment in which it is used again.
    const bool stale = kept && !answered && !reply.error.empty();
    if (stale && !connection->timed_out && !stopped_) continue;
    if (keep) idle_.push_back(std::move(connection));
    co_return reply;
  }
}

asio::awaitable<bool> HttpClient::talk(Connection& connection, const Request& request,
                                       const OnBody& on_body, Reply& reply, bool& answered) {
  http::request_serializer<Request::body_type> serializer(request);
  auto [write_error, written] = co_await http::async_write(connection.socket, serializer, kAsTuple);
  // Where the request could not be written whole, an answer may still say why.
  http::response_parser<http::string_body> parser;
  parser.eager(true);
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(boost::none);
  boost::beast::flat_buffer& buffer = connection.buffer;
  const auto parsed = [&](Clock::time_point at) {
    if (!parser.is_header_done()) return true;
    if (reply.status == 0) {
      const auto& head = parser.get();
      reply.status = static_cast<int>(head.result_int());
      reply.reason = std::string(head.reason());
      reply.content_type = std::string(head[http::field::content_type]);
    }
    const std::string bytes = std::exchange(parser.get().body(), {});
    if (reply.status != 200) {
      reply.body.append(bytes, 0, kMostErrorBytes - std::min(kMostErrorBytes, reply.body.size()));
    } else if (!bytes.empty()) {
      const Status status = on_body(at, bytes);
      reply.error = status.message();
      return status.ok();
    }
    return true;
  };
  while (!parser.is_done()) {
    auto [error, got] =
        co_await connection.socket.async_read_some(buffer.prepare(kReadBytes), kAsTuple);
    const Clock::time_point at = Clock::now();
    answered = answered || got > 0;
    buffer.commit(got);
    error_code problem;
    if (error == asio::error::eof && !answered) {
      reply.error = "the connection was closed without an answer";
      co_return false;
    }
    if (error == asio::error::eof) {
      parser.put_eof(problem);
      if (!problem) break;
      reply.error = "the connection was closed before the answer was complete";
      co_return false;
    }
    if (error) {
      reply.error = (write_error ? write_error : error).message();
      co_return false;
    }
    while (buffer.size() > 0 && !parser.is_done()) {
      const std::size_t used = parser.put(buffer.data(), problem);
      buffer.consume(used);
      if (problem && problem != http::error::need_more) {
        reply.error = "no HTTP: " + problem.message();
        co_return false;
      }
      if (!parsed(at)) co_return false;
      if (problem || used == 0) break;
    }
  }
  co_return !write_error && parser.get().keep_alive() && buffer.size() == 0;
}

}  // namespace liquidgemm::bench
