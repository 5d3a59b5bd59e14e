#include "server/http_session.h"

#include <openssl/rand.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <exception>
#include <utility>

#include "base/log.h"
#include "server/http_response.h"

namespace liquidgemm::server {
namespace {

namespace net = boost::asio;

constexpr std::size_t kIdleBuffer = 4u << 10;
constexpr std::size_t kBodyBuffer = 64u << 10;
constexpr std::size_t kMaxAhead = 64u << 10;  // read while a reply is being made
constexpr std::size_t kMaxLinger = 1u << 20;
constexpr std::chrono::seconds kLingerTime{2};
constexpr std::size_t kBuffersAtOnce = 16;

bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  });
}

std::string draw_id() {
  static constexpr char kDigits[] = "0123456789abcdef";
  unsigned char bytes[12] = {};
  ::RAND_bytes(bytes, sizeof bytes);
  std::string id = "req-";
  for (const unsigned char byte : bytes) {
    id += kDigits[byte >> 4];
    id += kDigits[byte & 15];
  }
  return id;
}

bool is_probe(const Route* route) { return route != nullptr && route->is_public; }

}  // namespace

HttpSession::HttpSession(std::unique_ptr<ByteStream> stream, SessionContext& context)
    : context_(context), stream_(std::move(stream)), timer_(stream_->socket().get_executor()) {
  Error ignored;
  const auto endpoint = stream_->socket().remote_endpoint(ignored);
  if (!ignored) peer_ = endpoint.address().to_string();
}

HttpSession::~HttpSession() {
  if (state_ == State::kClosed) return;
  release_body();
  if (exchange_ != nullptr) exchange_->client_gone();
}

// ---- From other threads
// --------------------------------------------------------------------------

void HttpSession::post_start(bool refused) {
  net::post(stream_->socket().get_executor(),
            [self = shared_from_this(), refused] { refused ? self->refuse() : self->start(); });
}

void HttpSession::post_reply(int status, std::string content_type, std::string body,
                             Headers headers, bool streamed) {
  net::post(stream_->socket().get_executor(),
            [self = shared_from_this(), status, content_type = std::move(content_type),
             body = std::move(body), headers = std::move(headers), streamed]() mutable {
              self->reply(status, content_type, std::move(body), std::move(headers), streamed);
            });
}

void HttpSession::post_bytes(std::string bytes, std::size_t counted, bool last) {
  net::post(stream_->socket().get_executor(),
            [self = shared_from_this(), bytes = std::move(bytes), counted, last]() mutable {
              if (self->state_ != State::kBusy) return;
              self->queue(std::move(bytes), counted);
              self->reply_queued_ = last;
              self->flush();
            });
}

void HttpSession::post_abort() {
  net::post(stream_->socket().get_executor(), [self = shared_from_this()] { self->close(); });
}

// ---- Reading
// -------------------------------------------------------------------------------------

void HttpSession::start() {
  if (state_ == State::kClosed) return;
  read_deadline_ = Clock::now() + context_.limits.header_timeout;
  arm_timer();
  stream_->handshake([self = shared_from_this()](Error error) {
    if (self->state_ == State::kClosed) return;
    if (error) return self->close();
    self->state_ = State::kReading;
    self->advance();
    self->read();
  });
}

void HttpSession::refuse() {
  if (state_ == State::kClosed) return;
  state_ = State::kReading;
  refuse_request({503, "the server has as many connections as it takes", "too_many_connections"},
                 {{"Retry-After", "1"}}, /*close=*/true);
  read();
}

void HttpSession::read() {
  if (reading_ || end_of_input_ || state_ == State::kClosed || in_.size() >= kMaxAhead) return;
  const bool body = parser_ && parser_->state() == HttpParser::State::kBody;
  const std::size_t wanted = body ? kBodyBuffer : kIdleBuffer;
  if (read_buffer_.size() != wanted) read_buffer_ = std::vector<char>(wanted);
  reading_ = true;
  stream_->read_some(net::buffer(read_buffer_),
                     [self = shared_from_this()](Error error, std::size_t size) {
                       self->reading_ = false;
                       self->on_read(error, size);
                     });
}

void HttpSession::on_read(Error error, std::size_t size) {
  if (state_ == State::kClosed) return;
  if (state_ == State::kLingering) {
    lingered_bytes_ += size;
    if (error || lingered_bytes_ > kMaxLinger) return close();
    return read();
  }
  if (error) return on_end_of_input(error);
  in_.append(read_buffer_.data(), size);
  advance();
  read();
}

// A client that has closed and one that has only stopped sending look alike. While an answer is
// being computed the client counts as gone (when the handler wants to know); an answer that is
// already there, or comes without computing, is still sent.
void HttpSession::on_end_of_input(Error error) {
  end_of_input_ = true;
  if (error != net::error::eof) return close();
  if (state_ == State::kReading) return advance();
  if (exchange_ != nullptr && !reply_queued_ && exchange_->client_half_closed()) close();
}

void HttpSession::advance() {
  while (state_ == State::kReading) {
    if (!parser_) parser_.emplace(context_.limits);
    const bool had_begun = parser_->begun();
    const std::size_t used = parser_->feed(in_);
    in_.erase(0, used);
    if (!had_begun && parser_->begun()) {
      request_begin_ = Clock::now();
      read_deadline_ = request_begin_ + context_.limits.header_timeout;
    }
    const HttpParser::State parsed = parser_->state();
    if (parsed == HttpParser::State::kFailed) {
      refuse_request(parser_->error(), {}, /*close=*/true);
      break;
    }
    if (parsed == HttpParser::State::kHead) break;
    if (!admitted_ && !admit()) break;
    if (parsed == HttpParser::State::kDone) {
      dispatch();
      break;
    }
    if (!charge_body()) break;
    if (in_.empty() || used == 0) break;
  }
  if (state_ != State::kReading) return;
  if (end_of_input_) return close();
  if (in_.empty() && in_.capacity() > kBodyBuffer) std::string().swap(in_);
  advance_deadline();
}

void HttpSession::advance_deadline() {
  if (!parser_->begun()) read_deadline_ = Clock::now() + context_.limits.idle_timeout;
  arm_timer();
}

// Looks at the head. False: the request was refused.
bool HttpSession::admit() {
  admitted_ = true;
  const RequestHead& head = parser_->head();
  id_ = is_id(head.request_id) ? head.request_id : draw_id();
  close_after_ = !head.keep_alive;
  decision_ = context_.router->decide(head);
  const bool has_body = parser_->state() == HttpParser::State::kBody;
  if (decision_.route == nullptr) {
    // Rather than reading a body that nobody wants, the connection ends.
    refuse_request(decision_.refusal, std::move(decision_.headers), has_body);
    return false;
  }
  if (has_body) {
    read_deadline_ = Clock::now() + context_.limits.body_timeout;
    if (!charge_body()) return false;
    // What the client waits for before it sends a large body.
    if (!head.expect.empty() && head.is_http_1_1 && in_.empty()) {
      queue("HTTP/1.1 100 Continue\r\n\r\n", 0);
      flush();
    }
  }
  return true;
}

// Counts the body among those of all connections; one that is announced counts from the start.
bool HttpSession::charge_body() {
  const std::size_t size =
      std::max<std::size_t>(parser_->head().content_length.value_or(0), parser_->body_size());
  if (size <= charged_) return true;
  const std::size_t more = size - charged_;
  charged_ = size;
  if (context_.body_bytes.fetch_add(more) + more <= context_.limits.total_body_bytes) return true;
  refuse_request({503, "the server is reading as many request bodies as it can hold", "busy"},
                 {{"Retry-After", "1"}}, /*close=*/true);
  return false;
}

void HttpSession::release_body() {
  context_.body_bytes -= charged_;
  charged_ = 0;
}

void HttpSession::dispatch() {
  const RequestHead& head = parser_->head();
  HttpRequest request{head.method,          head.path,         head.query,
                      parser_->take_body(), head.content_type, id_};
  if (decision_.head_only) request.method = "GET";
  begin_reply(0);
  exchange_ = std::make_shared<HttpExchange>(std::weak_ptr<ExchangeSession>(weak_from_this()),
                                             context_.gate, context_.limits.outgoing_bytes,
                                             head.is_http_1_1, decision_.head_only);
  ++context_.open_replies;
  release_body();
  const std::shared_ptr<const Route> route = decision_.route;
  std::shared_ptr<HttpReply> reply = make_reply(exchange_);
  try {
    route->handler(std::move(request), reply);
  } catch (const std::exception& error) {
    log_error(route->method + " " + route->path + ", " + id_ + ": " + error.what());
    reply->send(500, "application/json",
                error_json(500, "the server failed on this request", "internal_error"));
  }
  if (end_of_input_ && exchange_->client_half_closed()) post_abort();
}

// ---- Writing
// -------------------------------------------------------------------------------------

void HttpSession::begin_reply(int status) {
  state_ = State::kBusy;
  read_deadline_ = kNever;
  status_ = status;
  reply_bytes_ = 0;
  streamed_ = false;
  reply_queued_ = false;
}

void HttpSession::refuse_request(const HttpError& error, Headers headers, bool close) {
  if (id_.empty()) id_ = draw_id();
  if (request_begin_ == Clock::time_point()) request_begin_ = Clock::now();
  begin_reply(error.status);
  close_after_ = close_after_ || close;
  decision_.headers.clear();
  if (error.status == 204) return reply(204, "", "", std::move(headers), false);
  reply(error.status, "application/json", error_json(error.status, error.message, error.code),
        std::move(headers), false);
}

void HttpSession::reply(int status, const std::string& content_type, std::string body,
                        Headers headers, bool streamed) {
  if (state_ != State::kBusy || streamed_ || reply_queued_) return;
  const bool known = admitted_ && parser_.has_value();
  const bool is_http_1_1 = !known || parser_->head().is_http_1_1;
  const bool head_only = known && (decision_.head_only || parser_->head().method == "HEAD");
  if (context_.router->phase() == ServerPhase::kDraining) close_after_ = true;
  if (streamed && !is_http_1_1) close_after_ = true;  // its end is the end of the connection
  status_ = status;
  streamed_ = streamed;
  ResponseHead head{.status = status,
                    .content_type = content_type,
                    .content_length = std::nullopt,
                    .chunked = streamed && is_http_1_1,
                    .keep_alive = !close_after_,
                    .is_http_1_1 = is_http_1_1,
                    .request_id = id_};
  if (status == 204) body.clear();
  if (!streamed && status != 204) head.content_length = body.size();
  headers.insert(headers.end(), decision_.headers.begin(), decision_.headers.end());
  queue(head_bytes(head, headers), 0);
  if (!streamed) {
    if (!head_only && !body.empty()) queue(std::move(body), 0);
    reply_queued_ = true;
  }
  flush();
}

void HttpSession::queue(std::string bytes, std::size_t counted) {
  if (!bytes.empty()) outgoing_.push_back({std::move(bytes), counted});
}

void HttpSession::flush() {
  if (write_in_flight_ || state_ == State::kClosed) return;
  if (writing_index_ == writing_.size()) {
    writing_ = std::exchange(outgoing_, {});
    writing_index_ = 0;
    writing_offset_ = 0;
  }
  if (writing_.empty()) {
    write_deadline_ = kNever;
    if (state_ == State::kBusy && reply_queued_) reply_complete();
    return;
  }
  std::vector<net::const_buffer> buffers;
  std::size_t offset = writing_offset_;
  for (std::size_t i = writing_index_; i < writing_.size() && buffers.size() < kBuffersAtOnce;
       ++i) {
    buffers.emplace_back(writing_[i].bytes.data() + offset, writing_[i].bytes.size() - offset);
    offset = 0;
  }
  write_in_flight_ = true;
  write_deadline_ = Clock::now() + context_.limits.write_timeout;
  arm_timer();
  stream_->write_some(buffers, [self = shared_from_this()](Error error, std::size_t size) {
    self->write_in_flight_ = false;
    self->on_written(error, size);
  });
}

void HttpSession::on_written(Error error, std::size_t size) {
  if (state_ == State::kClosed) return;
  if (error) return close();
  reply_bytes_ += size;
  std::size_t counted = 0;
  while (size > 0) {
    Outgoing& front = writing_[writing_index_];
    const std::size_t left = front.bytes.size() - writing_offset_;
    if (size < left) {
      writing_offset_ += size;
      break;
    }
    size -= left;
    counted += front.counted;
    std::string().swap(front.bytes);
    ++writing_index_;
    writing_offset_ = 0;
  }
  if (counted > 0 && exchange_ != nullptr) exchange_->written(counted);
  flush();
}

void HttpSession::reply_complete() {
  log_request(/*aborted=*/false);
  if (exchange_ != nullptr) --context_.open_replies;
  exchange_ = nullptr;
  parser_.reset();
  release_body();
  if (close_after_) return linger();
  decision_ = {};
  id_.clear();
  admitted_ = false;
  request_begin_ = {};
  state_ = State::kReading;
  advance();
  read();
}

void HttpSession::log_request(bool aborted) {
  if (!context_.access_log) return;
  const bool known = parser_.has_value() && admitted_;
  const double ms =
      std::chrono::duration<double, std::milli>(Clock::now() - request_begin_).count();
  const std::string method = known ? parser_->head().method : "-";
  const std::string path = known ? parser_->head().path.substr(0, 256) : "-";
  // Probes come every few seconds and say nothing new.
  const LogLevel level = is_probe(decision_.route.get()) ? LogLevel::kDebug : LogLevel::kInfo;
  log_event(level, aborted ? "request cut off" : "request",
            {{"method", method},
             {"path", path},
             {"status", std::int64_t{status_}},
             {"bytes", static_cast<std::int64_t>(reply_bytes_)},
             {"ms", ms},
             {"id", id_},
             {"peer", peer_}});
}

// ---- The end
// -------------------------------------------------------------------------------------

void HttpSession::linger() {
  state_ = State::kLingering;
  std::string().swap(in_);
  read_deadline_ = Clock::now() + kLingerTime;
  arm_timer();
  stream_->shutdown([self = shared_from_this()](Error error) {
    if (self->state_ == State::kClosed) return;
    if (error || self->end_of_input_) return self->close();
    self->read();
  });
}

void HttpSession::close() {
  if (state_ == State::kClosed) return;
  if (state_ == State::kBusy) log_request(/*aborted=*/true);
  state_ = State::kClosed;
  const std::shared_ptr<HttpSession> self = shared_from_this();
  timer_.cancel();
  stream_->close();
  release_body();
  if (exchange_ != nullptr) {
    --context_.open_replies;
    exchange_->client_gone();
    exchange_ = nullptr;
  }
  context_.closed(self);
}

void HttpSession::arm_timer() {
  const Clock::time_point next = std::min(read_deadline_, write_deadline_);
  if (next >= timer_at_) return;  // when it fires, it is set anew
  timer_at_ = next;
  timer_.expires_at(next);
  timer_.async_wait([self = shared_from_this()](Error error) {
    if (!error) self->on_timer();
  });
}

void HttpSession::on_timer() {
  if (state_ == State::kClosed) return;
  timer_at_ = kNever;
  const Clock::time_point now = Clock::now();
  if (now >= write_deadline_) return close();
  if (now >= read_deadline_) {
    if (state_ != State::kReading || !parser_ || !parser_->begun()) return close();
    refuse_request({408, "the request did not come in time", "request_timeout"}, {},
                   /*close=*/true);
  }
  arm_timer();
}

}  // namespace liquidgemm::server
