// One HTTP/1.1 request out of a stream of bytes, strictly: what two readers could understand in two
// ways is refused. No socket is needed, so a fuzzer can drive it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http_limits.h"

namespace liquidgemm::server {

// Why a request is refused.
struct HttpError {
  int status = 400;
  std::string message;
  std::string code;  // of OpenAI's error object
};

// The request line and those header fields that the server looks at.
struct RequestHead {
  std::string method;
  std::string path;   // as it came, nothing decoded
  std::string query;  // behind the question mark, as it came
  std::string content_type;
  std::string content_encoding;
  std::string authorization;
  std::string origin;
  std::string request_id;
  std::string wanted_method;  // Access-Control-Request-Method
  std::string wanted_fields;  // Access-Control-Request-Headers
  std::string expect;
  std::optional<std::uint64_t> content_length;
  bool is_http_1_1 = true;
  bool keep_alive = true;
};

class HttpParser {
 public:
  // kHead: not complete yet. kBody: head() is known and the body is to come. kFailed: error().
  enum class State { kHead, kBody, kDone, kFailed };

  explicit HttpParser(const HttpLimits& limits);
  ~HttpParser();

  // Takes what it understands and says how much that was; what is left must come again, with more
  // behind it. Stops at the end of the head, so that a request can be refused before its body, and
  // at the end of the request. Never wants more than header_bytes to be left.
  std::size_t feed(std::string_view bytes);

  State state() const { return state_; }
  // Whether anything of the request has come.
  bool begun() const { return begun_; }
  const RequestHead& head() const { return head_; }
  const HttpError& error() const { return error_; }
  std::size_t body_size() const;
  // At kDone.
  std::string take_body();

 private:
  struct Impl;
  void fail(int status, std::string message, std::string code);
  bool read_head();  // false: failed
  bool read_target(std::string_view target);

  std::unique_ptr<Impl> impl_;
  std::size_t header_bytes_;
  std::size_t header_fields_;
  std::size_t body_bytes_;
  State state_ = State::kHead;
  bool begun_ = false;
  bool skipped_line_ = false;
  bool chunked_ = false;
  std::size_t head_size_ = 0;
  RequestHead head_;
  HttpError error_;
};

}  // namespace liquidgemm::server
