// Errors as the OpenAI API reports them: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/json.h"
#include "liquidgemm/status.h"
#include "server/http.h"

namespace liquidgemm::server {

struct ApiError {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param = {};       // the field at fault; empty: null
  std::string code = {};        // empty: null
  int retry_after_seconds = 0;  // over 0: told to the client
  bool no_retry = false;        // the client is told not to ask again by itself
};

// 400: `message` says what is wrong with the field `param` (empty: with the whole).
ApiError bad_request(std::string param, std::string message);
ApiError unknown_model(std::string_view name);  // 404
ApiError server_error(std::string message);     // 500
ApiError server_busy(std::string message);      // 429 with Retry-After
ApiError server_stopping(std::string message);  // 503 with Retry-After
// 504: the request took longer than it may.
ApiError request_too_slow(std::chrono::milliseconds limit);

// An error of another layer. Without `param`, a message that begins with a field's name and a colon
// gives it.
ApiError from_status(const Status& status, std::string param = {});

json::Object error_body(const ApiError& error);
void send_error(HttpReply& reply, const ApiError& error);

}  // namespace liquidgemm::server
