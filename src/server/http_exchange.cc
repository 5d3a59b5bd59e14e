#include "server/http_exchange.h"

#include <utility>

#include "server/http_response.h"

namespace liquidgemm::server {
namespace {

class Reply final : public HttpReply {
 public:
  explicit Reply(std::shared_ptr<HttpExchange> exchange) : exchange_(std::move(exchange)) {}
  ~Reply() override { exchange_->abandon(); }

  void send(int status, std::string_view content_type, std::string body, Headers headers) override {
    exchange_->send(status, content_type, std::move(body), std::move(headers));
  }
  void begin_stream(std::string_view content_type, Headers headers) override {
    exchange_->begin_stream(content_type, std::move(headers));
  }
  bool write(std::string chunk) override { return exchange_->write(std::move(chunk)); }
  void end() override { exchange_->end(); }
  void on_disconnect(std::function<void()> callback) override {
    exchange_->on_disconnect(std::move(callback));
  }

 private:
  const std::shared_ptr<HttpExchange> exchange_;
};

}  // namespace

std::shared_ptr<HttpReply> make_reply(std::shared_ptr<HttpExchange> exchange) {
  return std::make_shared<Reply>(std::move(exchange));
}

template <typename Call>
void HttpExchange::with_session(Call call) {
  const std::shared_lock<std::shared_mutex> lock(gate_->mutex);
  if (!gate_->open) return;
  if (const std::shared_ptr<ExchangeSession> session = session_.lock()) call(*session);
}

std::function<void()> HttpExchange::take_gone() {
  gone_ = true;
  return std::exchange(on_disconnect_, nullptr);
}

void HttpExchange::send(int status, std::string_view content_type, std::string body,
                        Headers headers) {
  std::function<void()> dropped;  // destroyed unlocked: it may own a reply
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ != Phase::kOpen || gone_) return;
    phase_ = Phase::kEnded;
    dropped = std::exchange(on_disconnect_, nullptr);
  }
  with_session([&](ExchangeSession& session) {
    session.post_reply(status, std::string(content_type), std::move(body), std::move(headers),
                       /*streamed=*/false);
  });
}

void HttpExchange::begin_stream(std::string_view content_type, Headers headers) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ != Phase::kOpen || gone_) return;
    phase_ = Phase::kStreaming;
  }
  with_session([&](ExchangeSession& session) {
    session.post_reply(200, std::string(content_type), {}, std::move(headers), /*streamed=*/true);
  });
}

bool HttpExchange::write(std::string chunk) {
  const std::size_t size = chunk.size();
  std::function<void()> callback;
  bool too_slow = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ != Phase::kStreaming || gone_ || head_only_) return false;
    if (size == 0) return true;  // an empty chunk would end the stream
    too_slow = queued_ > outgoing_bytes_;
    if (too_slow) {
      callback = take_gone();
    } else {
      queued_ += size;
    }
  }
  if (too_slow) {
    with_session([](ExchangeSession& session) { session.post_abort(); });
    if (callback) callback();
    return false;
  }
  with_session([&](ExchangeSession& session) {
    session.post_bytes(chunked_ ? chunk_bytes(chunk) : std::move(chunk), size, /*last=*/false);
  });
  return true;
}

void HttpExchange::end() {
  std::function<void()> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ != Phase::kStreaming || gone_) return;
    phase_ = Phase::kEnded;
    dropped = std::exchange(on_disconnect_, nullptr);
  }
  with_session([&](ExchangeSession& session) {
    session.post_bytes(chunked_ && !head_only_ ? std::string(kLastChunk) : std::string(), 0,
                       /*last=*/true);
  });
}

void HttpExchange::on_disconnect(std::function<void()> callback) {
  bool half_closed = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ == Phase::kEnded) return;
    if (!gone_ && !half_closed_) {
      on_disconnect_ = std::move(callback);
      return;
    }
    half_closed = !gone_;
    gone_ = true;
  }
  if (half_closed) with_session([](ExchangeSession& session) { session.post_abort(); });
  if (callback) callback();
}

void HttpExchange::abandon() {
  Phase phase;
  std::function<void()> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ == Phase::kEnded || gone_) return;
    phase = std::exchange(phase_, Phase::kEnded);
    dropped = std::exchange(on_disconnect_, nullptr);
  }
  with_session([&](ExchangeSession& session) {
    if (phase == Phase::kOpen) {
      session.post_reply(500, "application/json",
                         error_json(500, "the request ended without an answer", "no_answer"), {},
                         /*streamed=*/false);
    } else {
      session.post_abort();
    }
  });
}

void HttpExchange::client_gone() {
  std::function<void()> callback;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ == Phase::kEnded || gone_) return;
    callback = take_gone();
  }
  if (callback) callback();
}

bool HttpExchange::client_half_closed() {
  const std::lock_guard<std::mutex> lock(mutex_);
  half_closed_ = true;
  return on_disconnect_ != nullptr;
}

void HttpExchange::written(std::size_t counted) {
  const std::lock_guard<std::mutex> lock(mutex_);
  queued_ -= counted;
}

}  // namespace liquidgemm::server
