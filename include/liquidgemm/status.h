// Status and Result<T>: how every call of the library reports failure.
//
// Nothing in the library throws across its interface and nothing aborts on bad input. A message
// says what was wrong, where (file, tensor, field), what was expected and, where it helps, what
// to do.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace liquidgemm {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,    // the caller passed something that can never work
  kNotFound,           // a file, tensor or token that should exist does not
  kCorrupt,            // a file breaks its format or the numeric contract
  kUnsupported,        // well formed, but not something this build or machine can do
  kResourceExhausted,  // memory, disk, KV pages or a documented limit ran out
  kCancelled,          // the user interrupted the work
  kUnavailable,        // not now, as while stopping: the same call may work later
  kIo,                 // the operating system refused a read or a write
  kInternal,           // a bug in this library
};

// The name of a code as it is printed, for example "invalid argument".
std::string_view status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "corrupt: model.safetensors: ..." or "ok".
  std::string to_string() const;
  // The same code, with "context: " put before the message. Ok stays ok.
  Status with_context(std::string_view context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status ok_status() { return {}; }
Status invalid_argument(std::string message);
Status not_found(std::string message);
Status corrupt(std::string message);
Status unsupported(std::string message);
Status resource_exhausted(std::string message);
Status cancelled(std::string message);
Status unavailable(std::string message);
Status io_error(std::string message);
Status internal_error(std::string message);

// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                  // NOLINT
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace liquidgemm
