#include "server/http_response.h"

#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/json.h"
#include "server/api_error.h"

namespace liquidgemm::server {
namespace {

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool is_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
  });
}

void add_field(std::string& out, std::string_view name, std::string_view value) {
  if (!is_token(name) || !is_value(value)) return;
  out.append(name).append(": ").append(value).append("\r\n");
}

std::string date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text, size};
}

std::string_view error_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 429: return "rate_limit_error";
    case 503: return "service_unavailable_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

std::string_view status_text(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    default: return "Status";
  }
}

std::string head_bytes(const ResponseHead& head, const Headers& headers) {
  std::string out = head.is_http_1_1 ? "HTTP/1.1 " : "HTTP/1.0 ";
  out += std::to_string(head.status) + " ";
  out.append(status_text(head.status)).append("\r\n");
  add_field(out, "Date", date());
  if (!head.content_type.empty()) {
    add_field(out, "Content-Type", head.content_type);
    add_field(out, "X-Content-Type-Options", "nosniff");
  }
  if (head.content_length) add_field(out, "Content-Length", std::to_string(*head.content_length));
  if (head.chunked) add_field(out, "Transfer-Encoding", "chunked");
  if (!head.keep_alive) {
    add_field(out, "Connection", "close");
  } else if (!head.is_http_1_1) {
    add_field(out, "Connection", "keep-alive");
  }
  if (!head.request_id.empty()) add_field(out, "X-Request-Id", head.request_id);
  for (const auto& [name, value] : headers) add_field(out, name, value);
  out += "\r\n";
  return out;
}

std::string chunk_bytes(std::string_view data) {
  char size[20];
  const auto end = std::to_chars(size, size + sizeof size, data.size(), 16).ptr;
  std::string out;
  out.reserve(data.size() + 24);
  out.append(size, end).append("\r\n").append(data).append("\r\n");
  return out;
}

std::string error_json(int status, std::string_view message, std::string_view code) {
  return json::dump(error_body({.status = status,
                                .message = std::string(message),
                                .type = std::string(error_type(status)),
                                .code = std::string(code)}));
}

}  // namespace liquidgemm::server
