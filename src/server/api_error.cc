#include "server/api_error.h"

#include <fmt/format.h>

#include <utility>

#include "model/checkpoint/printable.h"

namespace liquidgemm::server {
namespace {

constexpr int kRetryAfterSeconds = 1;

json::Value text_or_null(const std::string& text) {
  return text.empty() ? json::Value(nullptr) : json::Value(text);
}

// "max_tokens" of "max_tokens: expected ...".
std::string leading_field(const std::string& message) {
  const std::size_t end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyz_");
  if (end == std::string::npos || end == 0 || message[end] != ':') return "";
  return message.substr(0, end);
}

}  // namespace

ApiError bad_request(std::string param, std::string message) {
  return {.status = 400, .message = std::move(message), .param = std::move(param)};
}

ApiError unknown_model(std::string_view name) {
  return {.status = 404,
          .message = "model: " + printable(name) +
                     " is not served here; GET /v1/models lists "
                     "what is",
          .param = "model",
          .code = "model_not_found"};
}

ApiError server_error(std::string message) {
  return {.status = 500, .message = std::move(message), .type = "server_error"};
}

ApiError server_busy(std::string message) {
  return {.status = 429,
          .message = std::move(message),
          .type = "rate_limit_error",
          .code = "queue_full",
          .retry_after_seconds = kRetryAfterSeconds};
}

ApiError server_stopping(std::string message) {
  return {.status = 503,
          .message = std::move(message),
          .type = "service_unavailable_error",
          .retry_after_seconds = kRetryAfterSeconds};
}

// Whoever asks the same again would wait as long for the same.
ApiError request_too_slow(std::chrono::milliseconds limit) {
  return {.status = 504,
          .message = fmt::format("the request was ended: waiting and answering may take {} s here "
                                 "(--request-timeout); ask for less (max_tokens), or when there "
                                 "is less to do",
                                 1e-3 * static_cast<double>(limit.count())),
          .type = "timeout_error",
          .code = "deadline_exceeded",
          .no_retry = true};
}

ApiError from_status(const Status& status, std::string param) {
  switch (status.code()) {
    case StatusCode::kResourceExhausted: return server_busy(status.message());
    case StatusCode::kUnavailable:
    case StatusCode::kCancelled: return server_stopping(status.message());
    case StatusCode::kOk:
    case StatusCode::kIo:
    case StatusCode::kInternal: return server_error(status.message());
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kCorrupt:
    case StatusCode::kUnsupported: break;
  }
  if (param.empty()) param = leading_field(status.message());
  return bad_request(std::move(param), status.message());
}

json::Object error_body(const ApiError& error) {
  return {{"error", json::Object{{"message", error.message},
                                 {"type", error.type},
                                 {"param", text_or_null(error.param)},
                                 {"code", text_or_null(error.code)}}}};
}

void send_error(HttpReply& reply, const ApiError& error) {
  Headers headers;
  if (error.retry_after_seconds > 0) {
    headers.emplace_back("Retry-After", std::to_string(error.retry_after_seconds));
  }
  // OpenAI's clients ask again after most errors unless they are told otherwise.
  if (error.no_retry) headers.emplace_back("X-Should-Retry", "false");
  reply.send(error.status, "application/json", json::dump(error_body(error)), std::move(headers));
}

}  // namespace liquidgemm::server
