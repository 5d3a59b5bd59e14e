#include "server/http_parser.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>

namespace liquidgemm::server {
namespace {

namespace http = boost::beast::http;

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

bool is_visible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

struct HttpParser::Impl {
  http::request_parser<http::string_body> beast;

  std::size_t count(http::field name) const { return beast.get().count(name); }
  std::string text(http::field name) const { return std::string(view(beast.get()[name])); }
};

HttpParser::HttpParser(const HttpLimits& limits)
    : impl_(std::make_unique<Impl>()),
      header_bytes_(limits.header_bytes),
      header_fields_(limits.header_fields),
      body_bytes_(limits.body_bytes) {
  impl_->beast.header_limit(static_cast<std::uint32_t>(header_bytes_));
  impl_->beast.body_limit(limits.body_bytes);
}

HttpParser::~HttpParser() = default;

void HttpParser::fail(int status, std::string message, std::string code) {
  state_ = State::kFailed;
  error_ = {status, std::move(message), std::move(code)};
}

std::size_t HttpParser::feed(std::string_view bytes) {
  std::size_t used = 0;
  // Some clients end a body with an empty line that is not part of it.
  if (!begun_ && !skipped_line_ && bytes.substr(0, 2) == "\r\n") {
    skipped_line_ = true;
    used = 2;
  }
  if (!begun_ && !skipped_line_ && bytes == "\r") return 0;
  while (used < bytes.size() && (state_ == State::kHead || state_ == State::kBody)) {
    begun_ = true;
    // Beast takes lines of any length as long as they come in one piece. In pieces of a fixed size
    // it does not depend on the network how long they may be.
    std::string_view piece = bytes.substr(used);
    if (state_ == State::kHead || chunked_) piece = piece.substr(0, header_bytes_);
    boost::beast::error_code error;
    const std::size_t taken =
        impl_->beast.put(boost::asio::const_buffer(piece.data(), piece.size()), error);
    used += taken;
    if (state_ == State::kHead) head_size_ += taken;
    if (error == http::error::need_more) {
      if (taken == 0 && piece.size() >= header_bytes_) {
        fail(400, "a chunk's header or the trailer is too long", "bad_request");
      } else if (taken == 0 || used == bytes.size()) {
        break;
      }
    } else if (error == http::error::header_limit || head_size_ > header_bytes_) {
      fail(
          431,
          "the request line and header are longer than " + std::to_string(header_bytes_) + " bytes",
          "header_too_large");
    } else if (error == http::error::body_limit) {
      fail(413, "the body is longer than " + std::to_string(body_bytes_) + " bytes",
           "request_too_large");
    } else if (error) {
      fail(400, "this is not a valid HTTP/1.1 request: " + error.message(), "bad_request");
    } else if (state_ == State::kHead && impl_->beast.is_header_done()) {
      state_ = impl_->beast.is_done() ? State::kDone : State::kBody;
      chunked_ = impl_->beast.chunked();
      impl_->beast.eager(true);
      read_head();
      break;
    } else if (impl_->beast.is_done()) {
      state_ = State::kDone;
    }
  }
  return used;
}

bool HttpParser::read_head() {
  const auto& request = impl_->beast.get();
  const auto fields = static_cast<std::size_t>(std::distance(request.begin(), request.end()));
  const auto refuse = [&](std::string message) {
    fail(400, std::move(message), "bad_request");
    return false;
  };
  if (fields > header_fields_) {
    fail(431, "the header has more than " + std::to_string(header_fields_) + " fields",
         "header_too_large");
    return false;
  }
  for (const http::field name :
       {http::field::host, http::field::content_length, http::field::transfer_encoding,
        http::field::authorization, http::field::content_type, http::field::content_encoding,
        http::field::origin, http::field::expect}) {
    if (impl_->count(name) > 1) {
      return refuse("the header field " + std::string(view(http::to_string(name))) +
                    " occurs more than once");
    }
  }
  head_.is_http_1_1 = request.version() == 11;
  if (request.version() != 11 && request.version() != 10) {
    return refuse("only HTTP/1.1 and HTTP/1.0 are spoken here");
  }
  if (head_.is_http_1_1 && impl_->count(http::field::host) == 0) {
    return refuse("the header field Host is missing");
  }
  if (impl_->count(http::field::transfer_encoding) > 0) {
    // A length beside the chunks, or a coding that an old client cannot mean: somebody in between
    // may see another end of the request than we do.
    if (impl_->count(http::field::content_length) > 0) {
      return refuse("Content-Length and Transfer-Encoding exclude each other");
    }
    if (!head_.is_http_1_1) return refuse("HTTP/1.0 has no Transfer-Encoding");
    if (!equals_ignoring_case(view(request[http::field::transfer_encoding]), "chunked")) {
      return refuse("Transfer-Encoding: expected chunked and nothing else");
    }
  }
  if (impl_->count(http::field::content_length) > 0) {
    const std::string_view length = view(request[http::field::content_length]);
    if (length.empty() || length.find_first_not_of("0123456789") != std::string_view::npos) {
      return refuse("Content-Length: expected digits");
    }
    const auto value = impl_->beast.content_length();
    if (value) head_.content_length = *value;
  }
  head_.method = std::string(view(request.method_string()));
  if (!read_target(view(request.target()))) {
    return refuse("the request target must be a path, such as /v1/models");
  }
  head_.content_type = impl_->text(http::field::content_type);
  head_.content_encoding = impl_->text(http::field::content_encoding);
  head_.authorization = impl_->text(http::field::authorization);
  head_.origin = impl_->text(http::field::origin);
  head_.expect = impl_->text(http::field::expect);
  head_.request_id = std::string(view(request["X-Request-Id"]));
  head_.wanted_method = impl_->text(http::field::access_control_request_method);
  head_.wanted_fields = impl_->text(http::field::access_control_request_headers);
  head_.keep_alive = impl_->beast.keep_alive();
  return true;
}

// origin-form, or absolute-form as clients of proxies send it. Nothing is decoded or normalised:
// a path is known byte for byte or not at all.
bool HttpParser::read_target(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equals_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    const std::size_t slash = target.find('/');
    if (slash == std::string_view::npos || slash == 0) return false;
    target.remove_prefix(slash);
  }
  if (target == "*" && head_.method == "OPTIONS") {
    head_.path = target;
    return true;
  }
  if (target.empty() || target[0] != '/' || !is_visible(target)) return false;
  if (target.find('#') != std::string_view::npos) return false;
  const std::size_t question = target.find('?');
  head_.path = target.substr(0, question);
  if (question != std::string_view::npos) head_.query = target.substr(question + 1);
  return true;
}

std::size_t HttpParser::body_size() const { return impl_->beast.get().body().size(); }

std::string HttpParser::take_body() { return std::move(impl_->beast.get().body()); }

}  // namespace liquidgemm::server
