#include "server/http_server.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "base/log.h"
#include "base/status_macros.h"
#include "server/http_session.h"

namespace liquidgemm::server {
namespace {

namespace net = boost::asio;
using net::ip::tcp;

// Connections beyond the limit that are told so; still more are closed without a word.
constexpr std::size_t kRefusedAtOnce = 64;
constexpr std::chrono::milliseconds kAcceptPause{100};
constexpr std::chrono::seconds kStopTime{2};

struct Listener {
  explicit Listener(net::io_context& io)
      : acceptor(net::make_strand(io)), pause(acceptor.get_executor()) {}
  tcp::acceptor acceptor;
  net::steady_timer pause;
};

std::string address_text(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? "[" + address + "]" : address;
}

Status listen_error(const std::string& host, int port, const boost::system::error_code& error) {
  const std::string where = "port " + std::to_string(port) + " of " + host;
  if (error == net::error::address_in_use) {
    return io_error(where + " is in use by another program; stop that one, or choose another " +
                    "port with --port (0: any free one)");
  }
  if (error == net::error::access_denied) {
    return io_error(where + ": this user may not open it; ports from 1024 on need no privilege " +
                    "(--port 8000)");
  }
  if (error ==
          net::error::make_error_code(net::error::basic_errors::address_family_not_supported) ||
      error.value() == EADDRNOTAVAIL) {
    return io_error(host + " is not an address of this machine (--host 127.0.0.1: this machine " +
                    "only; 0.0.0.0: all of its addresses)");
  }
  return io_error(where + ": " + error.message());
}

}  // namespace

struct HttpServer::Impl {
  Impl(ApiKeys keys, AllowedOrigins origins) : router(std::move(keys), std::move(origins)) {}

  Status listen(const HttpServerOptions& options);
  void accept(Listener& listener);
  void accepted(tcp::socket socket);
  void stop();

  HttpRouter router;
  SessionContext context;
  std::unique_ptr<net::ssl::context> tls;
  std::string url;
  int port = 0;
  bool loopback = true;

  // Sessions are in here until they are closed.
  mutable std::mutex mutex;
  std::unordered_set<std::shared_ptr<HttpSession>> sessions;
  std::unordered_set<std::shared_ptr<HttpSession>> refused;  // over the limit, being told so

  // After everything that handlers in it use.
  net::io_context io;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::vector<std::thread> threads;
};

Status HttpServer::Impl::listen(const HttpServerOptions& options) {
  boost::system::error_code error;
  tcp::resolver resolver(io);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return io_error("--host " + options.host + ": no such address or name (" + error.message() +
                    ")");
  }
  port = options.port;
  std::vector<tcp::endpoint> opened;
  for (const auto& entry : found) {
    tcp::endpoint endpoint(entry.endpoint().address(), static_cast<unsigned short>(port));
    if (std::find(opened.begin(), opened.end(), endpoint) != opened.end()) continue;
    auto listener = std::make_unique<Listener>(io);
    tcp::acceptor& acceptor = listener->acceptor;
    acceptor.open(endpoint.protocol(), error);
    // A name may have an address of a family that this machine does not use.
    if (error && !opened.empty()) continue;
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error && endpoint.address().is_v6()) acceptor.set_option(net::ip::v6_only(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(net::socket_base::max_listen_connections, error);
    if (error && error.value() == EADDRNOTAVAIL && !opened.empty()) continue;
    if (error) return listen_error(options.host, port, error);
    port = acceptor.local_endpoint().port();
    loopback = loopback && endpoint.address().is_loopback();
    if (opened.empty()) {
      url = std::string(tls ? "https://" : "http://") + address_text(endpoint) + ":" +
            std::to_string(port);
    }
    opened.push_back(acceptor.local_endpoint());
    listeners.push_back(std::move(listener));
  }
  return ok_status();
}

void HttpServer::Impl::accept(Listener& listener) {
  listener.acceptor.async_accept(
      net::make_strand(io), [this, &listener](boost::system::error_code error, tcp::socket socket) {
        if (error == net::error::operation_aborted || !listener.acceptor.is_open()) return;
        if (!error) {
          accepted(std::move(socket));
          return accept(listener);
        }
        // Most likely no file descriptors are left; those that are in use will come back.
        log_warning("a connection could not be accepted: " + error.message());
        listener.pause.expires_after(kAcceptPause);
        listener.pause.async_wait([this, &listener](boost::system::error_code stopped) {
          if (!stopped) accept(listener);
        });
      });
}

void HttpServer::Impl::accepted(tcp::socket socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(net::socket_base::keep_alive(true), ignored);
  const std::lock_guard<std::mutex> lock(mutex);
  const bool full = sessions.size() >= context.limits.connections;
  if (full && (tls || refused.size() >= kRefusedAtOnce)) return;
  auto session = std::make_shared<HttpSession>(
      tls ? make_tls_stream(std::move(socket), *tls) : make_plain_stream(std::move(socket)),
      context);
  (full ? refused : sessions).insert(session);
  session->post_start(full);
}

void HttpServer::Impl::stop() {
  for (const auto& listener : listeners) {
    net::post(listener->acceptor.get_executor(), [&listener = *listener] {
      boost::system::error_code ignored;
      listener.acceptor.close(ignored);
      listener.pause.cancel();
    });
  }
  const auto end = std::chrono::steady_clock::now() + kStopTime;
  while (std::chrono::steady_clock::now() < end) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (sessions.empty() && refused.empty()) break;
      for (const auto* set : {&sessions, &refused}) {
        for (const auto& session : *set) session->post_abort();
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  {
    const std::unique_lock<std::shared_mutex> lock(context.gate->mutex);
    context.gate->open = false;
  }
  io.stop();
  for (std::thread& thread : threads) thread.join();
  const std::lock_guard<std::mutex> lock(mutex);
  sessions.clear();
  refused.clear();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { impl_->stop(); }

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerOptions& options,
                                                      std::vector<Route> routes) {
  auto impl = std::make_unique<Impl>(options.keys, options.origins);
  if (options.ssl_keyfile.empty() != options.ssl_certfile.empty()) {
    return invalid_argument("--ssl-keyfile and --ssl-certfile are needed together");
  }
  if (!options.ssl_keyfile.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(impl->tls,
                                make_tls_context(options.ssl_keyfile, options.ssl_certfile));
  }
  Impl& server = *impl;
  server.router.set_routes(std::move(routes));
  server.context.limits = options.limits;
  server.context.access_log = options.access_log;
  server.context.router = &server.router;
  server.context.gate = std::make_shared<ExchangeGate>();
  server.context.closed = [&server](const std::shared_ptr<HttpSession>& session) {
    const std::lock_guard<std::mutex> lock(server.mutex);
    if (server.sessions.erase(session) == 0) server.refused.erase(session);
  };
  LIQUIDGEMM_RETURN_IF_ERROR(server.listen(options));
  for (const auto& listener : server.listeners) server.accept(*listener);
  for (int i = 0; i < std::max(1, options.threads); ++i) {
    server.threads.emplace_back([&server] {
      const auto work = net::make_work_guard(server.io);
      while (!server.io.stopped()) {
        // Out of memory in one session must not end the others.
        try {
          server.io.run();
        } catch (const std::exception& error) {
          log_error(std::string("a connection failed: ") + error.what());
        }
      }
    });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

int HttpServer::port() const { return impl_->port; }
std::string HttpServer::url() const { return impl_->url; }
bool HttpServer::only_loopback() const { return impl_->loopback; }
void HttpServer::set_routes(std::vector<Route> routes) {
  impl_->router.set_routes(std::move(routes));
}
void HttpServer::set_phase(ServerPhase phase) { impl_->router.set_phase(phase); }

std::size_t HttpServer::connections() const {
  const std::lock_guard<std::mutex> lock(impl_->mutex);
  return impl_->sessions.size();
}

std::int64_t HttpServer::open_replies() const { return impl_->context.open_replies; }

bool HttpServer::wait_idle(std::chrono::milliseconds timeout) const {
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (open_replies() > 0) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace liquidgemm::server
