#include "bench/serve_load.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <exception>

#include "base/status_macros.h"
#include "bench/serve_client.h"
#include "bench/serve_event_stream.h"

namespace liquidgemm::bench {
namespace {

namespace asio = boost::asio;

constexpr double kNeverSeconds = 1e9;  // a clock's nanoseconds have room for it

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

// Each request at once may need a connection.
void allow_many_sockets() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// One streamed answer while it arrives.
class AnswerReader {
 public:
  explicit AnswerReader(RequestRecord& record) : record_(record) {}

  Status take(double at, std::string_view bytes) {
    LIQUIDGEMM_RETURN_IF_ERROR(stream_.feed(bytes, events_));
    return read_events(at);
  }
  // What is wrong with the whole answer, which ended without an error of the connection.
  Status finish(const std::string& content_type) {
    LIQUIDGEMM_RETURN_IF_ERROR(stream_.finish(events_));
    LIQUIDGEMM_RETURN_IF_ERROR(read_events(last_));
    if (!complete_) {
      return corrupt(record_.outputs.empty() && content_type.rfind("text/event-stream", 0) != 0
                         ? "no stream of events came, but \"" + content_type + "\""
                         : "the stream ended without a finish reason or [DONE]");
    }
    if (record_.outputs.empty()) return corrupt("the stream ended without any output");
    return ok_status();
  }

 private:
  Status read_events(double at) {
    last_ = at;
    for (const std::string& data : events_) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(const AnswerEvent event, read_answer_event(data));
      if (!event.error.empty()) return corrupt("an error in the stream: " + event.error);
      if (event.output) record_.outputs.push_back(at);
      if (event.choice) record_.end = at;
      if (event.usage) record_.usage = *event.usage;
      complete_ = complete_ || event.finished || event.done;
    }
    events_.clear();
    return ok_status();
  }

  RequestRecord& record_;
  EventStream stream_;
  std::vector<std::string> events_;
  double last_ = 0.0;
  bool complete_ = false;
};

std::string status_line(const HttpClient::Reply& reply) {
  const std::string body = error_text(reply.body);
  return fmt::format("HTTP {} {}{}{}", reply.status, error_text(reply.reason),
                     body.empty() ? "" : ": ", body);
}

class Load {
 public:
  Load(const ServeTarget& target, const LoadOptions& options,
       const std::vector<std::string>& bodies, const std::atomic<bool>& interrupt,
       const std::function<void(std::int64_t)>& advance)
      : options_(options),
        bodies_(bodies),
        advance_(advance),
        records_(bodies.size()),
        client_(target, interrupt),
        timer_(client_.io()) {}

  Result<LoadRun> run() {
    client_.run(main(), [this] { timer_.cancel(); });
    LIQUIDGEMM_RETURN_IF_ERROR(status_);
    return LoadRun{seconds_, client_.stopped(), std::move(records_)};
  }

 private:
  double now() const { return since(HttpClient::Clock::now()); }
  double since(HttpClient::Clock::time_point at) const {
    return std::chrono::duration<double>(at - begin_).count();
  }

  asio::awaitable<void> main() {
    status_ = co_await client_.open();
    if (!status_.ok()) co_return;
    begin_ = HttpClient::Clock::now();
    for (std::size_t i = 0; i < bodies_.size() && !client_.stopped(); ++i) {
      const auto due =
          begin_ + std::chrono::duration_cast<HttpClient::Clock::duration>(
                       std::chrono::duration<double>(std::min(options_.due[i], kNeverSeconds)));
      // The end of a request may cut the wait short.
      while (due > HttpClient::Clock::now() && !client_.stopped()) {
        timer_.expires_at(due);
        co_await timer_.async_wait(kAsTuple);
      }
      if (client_.stopped()) break;
      records_[i].due = options_.due[i];
      waiting_.push_back(i);
      start_waiting();
    }
    // The last request wakes it up, and so does the interrupt, after which some are unsent.
    while (in_flight_ > 0 || (!waiting_.empty() && !client_.stopped())) {
      timer_.expires_at(HttpClient::Clock::time_point::max());
      co_await timer_.async_wait(kAsTuple);
    }
    seconds_ = now();
  }

  void start_waiting() {
    while (!waiting_.empty() && !client_.stopped() &&
           (options_.max_concurrency == 0 || in_flight_ < options_.max_concurrency)) {
      const std::size_t index = waiting_.front();
      waiting_.pop_front();
      ++in_flight_;
      asio::co_spawn(client_.io(), request(index), [this](std::exception_ptr error) {
        if (error) std::rethrow_exception(error);
        --in_flight_;
        start_waiting();
        if (in_flight_ == 0) timer_.cancel();
      });
    }
  }

  asio::awaitable<void> request(std::size_t index) {
    RequestRecord& record = records_[index];
    AnswerReader reader(record);
    const HttpClient::Request message = client_.request(options_.endpoint, bodies_[index]);
    const HttpClient::OnBody on_body = [&](HttpClient::Clock::time_point at,
                                           std::string_view bytes) {
      return reader.take(since(at), bytes);
    };
    record.sent = now();
    const HttpClient::Reply reply = co_await client_.exchange(
        message, std::chrono::duration<double>(options_.timeout_seconds), on_body);
    if (reply.stopped) {
      record.state = RequestState::kUnfinished;
      co_return;
    }
    record.error = reply.error;
    if (record.error.empty() && reply.status != 200) record.error = status_line(reply);
    if (record.error.empty()) record.error = reader.finish(reply.content_type).message();
    record.state = record.error.empty() ? RequestState::kDone : RequestState::kFailed;
    advance_(1);
  }

  const LoadOptions& options_;
  const std::vector<std::string>& bodies_;
  const std::function<void(std::int64_t)>& advance_;
  Status status_;
  HttpClient::Clock::time_point begin_;
  double seconds_ = 0.0;
  std::vector<RequestRecord> records_;
  std::deque<std::size_t> waiting_;
  std::int64_t in_flight_ = 0;
  // Coroutines that are destroyed with it see all of the above.
  HttpClient client_;
  asio::steady_timer timer_;
};

}  // namespace

Result<LoadRun> run_load(const ServeTarget& target, const LoadOptions& options,
                         const std::vector<std::string>& bodies, const std::atomic<bool>& interrupt,
                         const std::function<void(std::int64_t)>& advance) {
  if (bodies.size() != options.due.size()) {
    return internal_error("a load needs a time for each request");
  }
  allow_many_sockets();
  return Load(target, options, bodies, interrupt, advance).run();
}

Result<std::string> http_get(const ServeTarget& target, const std::string& endpoint,
                             const std::atomic<bool>& interrupt, double timeout_seconds) {
  constexpr std::size_t kMostBytes = 16 << 20;
  HttpClient client(target, interrupt);
  Status status;
  std::string body;
  // Named, because a temporary closure would not outlive the coroutine's first suspension.
  const auto get = [&]() -> asio::awaitable<void> {
    status = co_await client.open();
    if (!status.ok()) co_return;
    const HttpClient::Request message = client.request(endpoint, "");
    const HttpClient::OnBody on_body = [&](HttpClient::Clock::time_point, std::string_view bytes) {
      body.append(bytes);
      return body.size() <= kMostBytes ? ok_status() : corrupt("the answer is too long");
    };
    const HttpClient::Reply reply =
        co_await client.exchange(message, std::chrono::duration<double>(timeout_seconds), on_body);
    const std::string where = "GET http://" + target.authority() + target.path(endpoint) + ": ";
    if (reply.stopped) {
      status = cancelled("interrupted");
    } else if (!reply.error.empty()) {
      status = io_error(where + reply.error);
    } else if (reply.status != 200) {
      status = io_error(where + status_line(reply));
    }
  };
  client.run(get(), {});
  LIQUIDGEMM_RETURN_IF_ERROR(status);
  return body;
}

}  // namespace liquidgemm::bench
