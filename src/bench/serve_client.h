// An HTTP/1.1 client on one thread that stamps bytes when they arrive. Included by few: it brings
// all of Asio and Beast's HTTP with it.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/span_body.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "bench/serve_target.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

class HttpClient {
 public:
  using Clock = std::chrono::steady_clock;
  using Request = boost::beast::http::request<boost::beast::http::span_body<const char>>;
  // Decoded bytes of the body of a 200, with the time at which the last of them was read.
  using OnBody = std::function<Status(Clock::time_point at, std::string_view bytes)>;

  struct Reply {
    int status = 0;
    std::string reason;
    std::string content_type;
    std::string body;      // the beginning, where the status is not 200
    std::string error;     // why the answer is not complete; empty: it is
    bool stopped = false;  // by the interrupt: no error of the server's
  };

  HttpClient(const ServeTarget& target, const std::atomic<bool>& interrupt);
  ~HttpClient();

  // GET without a body, POST with one, which must outlive the request.
  Request request(const std::string& endpoint, std::string_view body) const;

  // Runs `main` to its end, on this thread; `on_stop` is called once when the interrupt comes.
  void run(boost::asio::awaitable<void> main, std::function<void()> on_stop);
  // Finds an address that takes connections; to be awaited first.
  boost::asio::awaitable<Status> open();
  // Uses a kept connection or makes a new one.
  boost::asio::awaitable<Reply> exchange(const Request& request,
                                         std::chrono::duration<double> limit,
                                         const OnBody& on_body);

  boost::asio::io_context& io() { return io_; }
  bool stopped() const { return stopped_; }

 private:
  using Socket = boost::asio::ip::tcp::socket;
  struct Connection {
    explicit Connection(boost::asio::io_context& io) : socket(io) {}
    Socket socket;
    boost::beast::flat_buffer buffer;
    Clock::time_point deadline;
    bool timed_out = false;
  };
  // Those that wait for the server; the watch closes them.
  class Active;

  std::unique_ptr<Connection> take_idle();
  boost::asio::awaitable<std::string> connect(Connection& connection);
  // Fills the reply; `answered` is set when any byte came, the result is whether the connection
  // may be kept.
  boost::asio::awaitable<bool> talk(Connection& connection, const Request& request,
                                    const OnBody& on_body, Reply& reply, bool& answered);
  boost::asio::awaitable<void> watch();

  const ServeTarget& target_;
  const std::atomic<bool>& interrupt_;
  std::function<void()> on_stop_;
  bool stopped_ = false;
  bool over_ = false;
  boost::asio::ip::tcp::endpoint endpoint_;
  // What coroutines touch while they are destroyed with io_ comes before it; sockets and timers,
  // which must go first, behind it.
  std::unordered_set<Connection*> active_;
  boost::asio::io_context io_{1};
  boost::asio::steady_timer watch_timer_{io_};
  std::vector<std::unique_ptr<Connection>> idle_;
};

}  // namespace liquidgemm::bench
