// A client that sends exactly the bytes it is told to, over a real socket.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace liquidgemm::testing {

struct RawReply {
  int status = 0;                             // 0: the connection ended before a whole reply
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;                           // chunks joined
  bool complete = false;
  std::string field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
  }
};

class RawClient {
 public:
  explicit RawClient(int port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  RawClient(RawClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_), in_(other.in_) {}
  RawClient(const RawClient&) = delete;
  ~RawClient() { close(); }

  bool connected() const { return connected_; }
  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void stop_sending() { ::shutdown(fd_, SHUT_WR); }

  // False: the other side has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  // More bytes into the buffer. False: the end, or nothing came in time.
  bool receive(int timeout_ms = 10'000) {
    pollfd waiting{fd_, POLLIN, 0};
    if (::poll(&waiting, 1, timeout_ms) <= 0) return false;
    char buffer[65536];
    const ssize_t size = ::recv(fd_, buffer, sizeof buffer, 0);
    if (size <= 0) {
      ended_ = true;
      return false;
    }
    in_.append(buffer, static_cast<std::size_t>(size));
    return true;
  }
  // Whether the server has ended the connection, waiting for it.
  bool ended(int timeout_ms = 10'000) {
    while (!ended_ && receive(timeout_ms)) {
    }
    return ended_;
  }
  std::string& buffer() { return in_; }

  // Waits until the text is in the buffer.
  bool wait_for(std::string_view text) {
    while (in_.find(text) == std::string::npos) {
      if (!receive()) return false;
    }
    return true;
  }

  RawReply reply(bool head_only = false) {
    RawReply reply;
    if (!wait_for("\r\n\r\n")) return reply;
    const std::size_t end = in_.find("\r\n\r\n");
    const std::string head = in_.substr(0, end + 2);
    in_.erase(0, end + 4);
    std::size_t line = head.find("\r\n") + 2;
    if (head.rfind("HTTP/1.", 0) != 0) return reply;
    const int status = std::atoi(head.c_str() + 9);
    while (line < head.size()) {
      const std::size_t next = head.find("\r\n", line);
      const std::size_t colon = head.find(": ", line);
      std::string name = head.substr(line, colon - line);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      reply.fields[name] = head.substr(colon + 2, next - colon - 2);
      line = next + 2;
    }
    reply.status = status;
    if (head_only || status == 204 || status == 100) {
      reply.complete = true;
    } else if (reply.field("transfer-encoding") == "chunked") {
      read_chunks(reply);
    } else if (!reply.field("content-length").empty()) {
      const auto size = static_cast<std::size_t>(std::stoull(reply.field("content-length")));
      while (in_.size() < size && receive()) {
      }
      reply.complete = in_.size() >= size;
      reply.body = in_.substr(0, size);
      in_.erase(0, size);
    } else {
      while (receive()) {
      }
      reply.complete = ended_;
      reply.body = std::exchange(in_, "");
    }
    return reply;
  }

  RawReply ask(std::string_view bytes) {
    send(bytes);
    return reply();
  }

 private:
  void read_chunks(RawReply& reply) {
    while (true) {
      if (!wait_for("\r\n")) return;
      const std::size_t line = in_.find("\r\n");
      const std::size_t size = std::strtoull(in_.c_str(), nullptr, 16);
      while (in_.size() < line + 2 + size + 2) {
        if (!receive()) return;
      }
      reply.body += in_.substr(line + 2, size);
      in_.erase(0, line + 2 + size + 2);
      if (size == 0) {
        reply.complete = true;
        return;
      }
    }
  }

  int fd_ = -1;
  bool connected_ = false;
  bool ended_ = false;
  std::string in_;
};

inline std::string get_bytes(std::string_view path, std::string_view more = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(more) + "\r\n";
}

inline std::string post_bytes(std::string_view path, std::string_view body,
                              std::string_view more = "") {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(more) + "\r\n" + std::string(body);
}

// Whether the condition becomes true within the time.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds time = std::chrono::seconds(10)) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    ::usleep(1000);
  }
  return true;
}

}  // namespace liquidgemm::testing
