// A reply that keeps what it is told, and a client that can go away.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/http.h"

namespace liquidgemm::server {

class RecordingReply : public HttpReply {
 public:
  void send(int status, std::string_view content_type, std::string body, Headers headers) override {
    const std::lock_guard lock(mutex_);
    ++replies_;
    status_ = status;
    content_type_ = content_type;
    body_ = std::move(body);
    headers_ = std::move(headers);
    ended_ = true;
    changed_.notify_all();
  }
  void begin_stream(std::string_view content_type, Headers headers) override {
    const std::lock_guard lock(mutex_);
    ++replies_;
    status_ = 200;
    content_type_ = content_type;
    headers_ = std::move(headers);
  }
  bool write(std::string chunk) override {
    const std::lock_guard lock(mutex_);
    if (gone_ || chunks_.size() >= most_chunks_) return false;
    chunks_.push_back(std::move(chunk));
    changed_.notify_all();
    return true;
  }
  void end() override {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  void on_disconnect(std::function<void()> callback) override {
    bool gone = false;
    {
      const std::lock_guard lock(mutex_);
      gone = gone_;
      if (!gone) callback_ = std::move(callback);
    }
    if (gone) callback();
  }

  // The client goes.
  void disconnect() {
    std::function<void()> callback;
    {
      const std::lock_guard lock(mutex_);
      gone_ = true;
      callback = std::move(callback_);
    }
    if (callback) callback();
  }
  // From so many chunks on, write() says that the client has gone.
  void set_most_chunks(std::size_t count) { most_chunks_ = count; }

  bool wait_end(std::chrono::seconds timeout = std::chrono::seconds(60)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [&] { return ended_; });
  }
  bool wait_chunks(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60),
                             [&] { return chunks_.size() >= count; });
  }

  int status() const { return locked(status_); }
  int replies() const { return locked(replies_); }
  bool ended() const { return locked(ended_); }
  std::string body() const { return locked(body_); }
  std::string content_type() const { return locked(content_type_); }
  Headers headers() const { return locked(headers_); }
  std::vector<std::string> chunks() const { return locked(chunks_); }

  json::Object object() const {
    auto parsed = json::parse(body(), "body");
    return parsed.ok() && parsed->is_object() ? parsed->as_object() : json::Object();
  }
  // The streamed events' data, "[DONE]" too.
  std::vector<std::string> events() const {
    std::string text;
    for (const std::string& chunk : chunks()) text += chunk;
    std::vector<std::string> result;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = text.find("\n\n", at);
      if (end == std::string::npos || text.compare(at, 6, "data: ") != 0)
        return {"broken: " + text};
      result.push_back(text.substr(at + 6, end - at - 6));
      at = end + 2;
    }
    return result;
  }

 private:
  template <typename T>
  T locked(const T& value) const {
    const std::lock_guard lock(mutex_);
    return value;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int replies_ = 0;
  int status_ = 0;
  bool ended_ = false;
  bool gone_ = false;
  std::size_t most_chunks_ = 1u << 30;
  std::string body_;
  std::string content_type_;
  Headers headers_;
  std::vector<std::string> chunks_;
  std::function<void()> callback_;
};

}  // namespace liquidgemm::server
