// One request and its reply: what handlers on any thread and the session on its strand share. Knows
// no socket, so a handler may keep its reply for longer than the server lives.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "server/http.h"

namespace liquidgemm::server {

// What an exchange asks of its session. Any thread; each returns at once.
class ExchangeSession {
 public:
  virtual ~ExchangeSession() = default;
  // The whole reply, or (streamed) its head.
  virtual void post_reply(int status, std::string content_type, std::string body, Headers headers,
                          bool streamed) = 0;
  // More bytes of a streamed reply; `counted` of them were added to the exchange's queue.
  virtual void post_bytes(std::string bytes, std::size_t counted, bool last) = 0;
  virtual void post_abort() = 0;
};

// Open while the server's threads run. Held shared around every call into a session, so that none
// is under way when the sockets go.
struct ExchangeGate {
  std::shared_mutex mutex;
  bool open = true;
};

class HttpExchange {
 public:
  HttpExchange(std::weak_ptr<ExchangeSession> session, std::shared_ptr<ExchangeGate> gate,
               std::size_t outgoing_bytes, bool chunked, bool head_only)
      : session_(std::move(session)),
        gate_(std::move(gate)),
        outgoing_bytes_(outgoing_bytes),
        chunked_(chunked),
        head_only_(head_only) {}

  // The handler's side.
  void send(int status, std::string_view content_type, std::string body, Headers headers);
  void begin_stream(std::string_view content_type, Headers headers);
  bool write(std::string chunk);
  void end();
  void on_disconnect(std::function<void()> callback);
  void abandon();  // the reply was destroyed

  // The session's side.
  void client_gone();
  // The client has stopped sending. True: the handler listens for that, so the client counts as
  // gone; otherwise the reply is still sent if it comes.
  bool client_half_closed();
  void written(std::size_t counted);

 private:
  enum class Phase { kOpen, kStreaming, kEnded };

  template <typename Call>
  void with_session(Call call);
  // Locked; gives the callback to be run when unlocked.
  std::function<void()> take_gone();

  const std::weak_ptr<ExchangeSession> session_;
  const std::shared_ptr<ExchangeGate> gate_;
  const std::size_t outgoing_bytes_;
  const bool chunked_;
  const bool head_only_;

  std::mutex mutex_;
  Phase phase_ = Phase::kOpen;
  bool gone_ = false;
  bool half_closed_ = false;
  std::size_t queued_ = 0;  // handed over, not yet taken by the client
  std::function<void()> on_disconnect_;
};

// The reply that a handler gets.
std::shared_ptr<HttpReply> make_reply(std::shared_ptr<HttpExchange> exchange);

}  // namespace liquidgemm::server
