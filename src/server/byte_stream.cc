#include "server/byte_stream.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <boost/asio/ssl/stream.hpp>
#include <utility>

namespace liquidgemm::server {
namespace {

namespace net = boost::asio;
using net::ip::tcp;

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(tcp::socket socket) : socket_(std::move(socket)) {}

  tcp::socket& socket() override { return socket_; }
  void handshake(Done done) override { done({}); }
  void read_some(net::mutable_buffer buffer, Transferred done) override {
    socket_.async_read_some(buffer, std::move(done));
  }
  void write_some(const std::vector<net::const_buffer>& buffers, Transferred done) override {
    socket_.async_write_some(buffers, std::move(done));
  }
  void shutdown(Done done) override {
    Error error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    done(error);
  }

 private:
  tcp::socket socket_;
};

class TlsStream final : public ByteStream {
 public:
  TlsStream(tcp::socket socket, net::ssl::context& context) : stream_(std::move(socket), context) {}

  tcp::socket& socket() override { return stream_.next_layer(); }
  void handshake(Done done) override {
    stream_.async_handshake(net::ssl::stream_base::server, std::move(done));
  }
  void read_some(net::mutable_buffer buffer, Transferred done) override {
    stream_.async_read_some(buffer, std::move(done));
  }
  void write_some(const std::vector<net::const_buffer>& buffers, Transferred done) override {
    stream_.async_write_some(buffers, std::move(done));
  }
  void shutdown(Done done) override { stream_.async_shutdown(std::move(done)); }

 private:
  net::ssl::stream<tcp::socket> stream_;
};

// The latest of OpenSSL's errors, in its words.
std::string openssl_reason() {
  const unsigned long code = ::ERR_get_error();
  const char* reason = code == 0 ? nullptr : ::ERR_reason_error_string(code);
  ::ERR_clear_error();
  return reason == nullptr ? "not readable" : reason;
}

}  // namespace

void ByteStream::close() {
  Error ignored;
  socket().close(ignored);
}

std::unique_ptr<ByteStream> make_plain_stream(tcp::socket socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

std::unique_ptr<ByteStream> make_tls_stream(tcp::socket socket, net::ssl::context& context) {
  return std::make_unique<TlsStream>(std::move(socket), context);
}

Result<std::unique_ptr<net::ssl::context>> make_tls_context(const std::string& keyfile,
                                                            const std::string& certfile) {
  auto context = std::make_unique<net::ssl::context>(net::ssl::context::tls_server);
  SSL_CTX* raw = context->native_handle();
  ::SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  ::SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  ::SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);  // idle connections keep no buffers
  ::SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  // A key that is protected by a passphrase is an error: nobody is there to type it.
  ::SSL_CTX_set_default_passwd_cb(raw, [](char*, int, int, void*) { return 0; });
  ::ERR_clear_error();
  if (::SSL_CTX_use_certificate_chain_file(raw, certfile.c_str()) != 1) {
    return invalid_argument(certfile + ": not a PEM certificate chain (" + openssl_reason() + ")");
  }
  if (::SSL_CTX_use_PrivateKey_file(raw, keyfile.c_str(), SSL_FILETYPE_PEM) != 1) {
    return invalid_argument(keyfile + ": not a PEM private key of " + certfile +
                            " without a passphrase (" + openssl_reason() + ")");
  }
  if (::SSL_CTX_check_private_key(raw) != 1) {
    return invalid_argument(keyfile + " is not the key of " + certfile);
  }
  return context;
}

}  // namespace liquidgemm::server
