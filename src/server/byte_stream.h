// A connection, plain or TLS, as a session sees it. Internal to the transport: brings in Asio.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::server {

// All of it on the strand that is the socket's executor; what is called back is called there.
class ByteStream {
 public:
  using Error = boost::system::error_code;
  using Transferred = std::function<void(Error, std::size_t)>;
  using Done = std::function<void(Error)>;

  virtual ~ByteStream() = default;
  virtual boost::asio::ip::tcp::socket& socket() = 0;
  virtual void handshake(Done done) = 0;  // plain: done at once
  virtual void read_some(boost::asio::mutable_buffer buffer, Transferred done) = 0;
  virtual void write_some(const std::vector<boost::asio::const_buffer>& buffers,
                          Transferred done) = 0;
  // Tells the other side that nothing more comes.
  virtual void shutdown(Done done) = 0;
  void close();
};

std::unique_ptr<ByteStream> make_plain_stream(boost::asio::ip::tcp::socket socket);
std::unique_ptr<ByteStream> make_tls_stream(boost::asio::ip::tcp::socket socket,
                                            boost::asio::ssl::context& context);

// TLS 1.2 or newer, with a PEM certificate chain and its key.
Result<std::unique_ptr<boost::asio::ssl::context>> make_tls_context(const std::string& keyfile,
                                                                    const std::string& certfile);

}  // namespace liquidgemm::server
