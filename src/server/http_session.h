// One connection: reads requests one after another, hands each to its route and writes the reply.
// Internal to the transport: brings in Asio.
#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/byte_stream.h"
#include "server/http_exchange.h"
#include "server/http_limits.h"
#include "server/http_parser.h"
#include "server/http_router.h"

namespace liquidgemm::server {

class HttpSession;

// What all sessions of a server share. Outlives them.
struct SessionContext {
  HttpLimits limits;
  bool access_log = true;
  HttpRouter* router = nullptr;
  std::shared_ptr<ExchangeGate> gate;
  std::atomic<std::size_t> body_bytes{0};     // of requests being read
  std::atomic<std::int64_t> open_replies{0};  // handed to a handler, not yet written
  std::function<void(const std::shared_ptr<HttpSession>&)> closed;
};

// Everything runs on the strand that is the stream's executor, but for the post_ functions.
class HttpSession final : public ExchangeSession, public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(std::unique_ptr<ByteStream> stream, SessionContext& context);
  ~HttpSession() override;

  void start();
  // Too many connections: 503 for whatever was asked, and the end.
  void refuse();

  void post_start(bool refused);
  void post_reply(int status, std::string content_type, std::string body, Headers headers,
                  bool streamed) override;
  void post_bytes(std::string bytes, std::size_t counted, bool last) override;
  void post_abort() override;

 private:
  using Clock = std::chrono::steady_clock;
  using Error = ByteStream::Error;
  static constexpr Clock::time_point kNever = Clock::time_point::max();

  // kReading: the next request. kBusy: its reply is made or written. kLingering: everything is
  // said; what the client still sends is read and forgotten, so that it sees the reply and not a
  // reset. kClosed: nothing more happens.
  enum class State { kHandshake, kReading, kBusy, kLingering, kClosed };

  void read();
  void on_read(Error error, std::size_t size);
  void on_end_of_input(Error error);
  void advance();
  void advance_deadline();
  bool admit();
  bool charge_body();
  void release_body();
  void dispatch();

  void begin_reply(int status);
  void reply(int status, const std::string& content_type, std::string body, Headers headers,
             bool streamed);
  void refuse_request(const HttpError& error, Headers headers, bool close);
  void queue(std::string bytes, std::size_t counted);
  void flush();
  void on_written(Error error, std::size_t size);
  void reply_complete();
  void log_request(bool aborted);

  void linger();
  void close();
  void arm_timer();
  void on_timer();

  struct Outgoing {
    std::string bytes;
    std::size_t counted = 0;
  };

  SessionContext& context_;
  std::unique_ptr<ByteStream> stream_;
  boost::asio::steady_timer timer_;
  std::string peer_;
  State state_ = State::kHandshake;

  // Reading. One read is outstanding at all times (it is how a client that goes is noticed), unless
  // in_ is full.
  std::vector<char> read_buffer_;
  std::string in_;  // read, not yet understood
  bool reading_ = false;
  bool end_of_input_ = false;
  std::optional<HttpParser> parser_;
  std::size_t lingered_bytes_ = 0;

  // The request at hand.
  HttpRouter::Decision decision_;
  std::string id_;
  bool admitted_ = false;
  std::size_t charged_ = 0;                 // of context_.body_bytes
  std::shared_ptr<HttpExchange> exchange_;  // null: nobody is asked for the reply
  bool streamed_ = false;
  bool reply_queued_ = false;  // all of it
  bool close_after_ = false;
  int status_ = 0;
  std::size_t reply_bytes_ = 0;
  Clock::time_point request_begin_;

  // Writing. writing_ is on its way, outgoing_ comes after it.
  std::vector<Outgoing> outgoing_;
  std::vector<Outgoing> writing_;
  std::size_t writing_index_ = 0;
  std::size_t writing_offset_ = 0;
  bool write_in_flight_ = false;

  Clock::time_point read_deadline_ = kNever;
  Clock::time_point write_deadline_ = kNever;
  Clock::time_point timer_at_ = kNever;  // what the timer waits for
};

}  // namespace liquidgemm::server
