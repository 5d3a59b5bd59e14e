// An engine on a thread of its own, for callers on many threads.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/engine.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

// Watches all requests, those cancelled too: what metrics are made of. Called on the delivery
// thread; does not throw.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  // A request got a token, from its second on, so long after the one before.
  virtual void next_token(std::chrono::nanoseconds since_last) = 0;
  // A request ended. Empty: it was cancelled, and cancel() was not told what that counts as.
  virtual void ended(const RequestRecord& record, std::optional<FinishReason> finish) = 0;
};

struct EngineThreadOptions {
  // Requests queued beside the Engine::max_sequences() that run; more are refused.
  std::int64_t max_waiting = 1024;
  EngineObserver* observer = nullptr;  // outlives the engine thread; null: nobody
};

// submit() hands over requests and returns; what becomes of them is told on one delivery thread,
// beside the engine's, so that a slow listener never delays a step. Updates of one request come in
// order; the last one has a finish reason, unless the request was cancelled: then none follows
// cancel() but the one already under way. A listener that throws is asked nothing more: its request
// is cancelled. Listeners may call every function but wait_idle() and the destructor.
class EngineThread {
 public:
  // `index` counts as in the submitted vector.
  using Listener = std::function<void(std::size_t index, const Update& update)>;

  // The engine outlives this object and is touched by nobody else meanwhile.
  explicit EngineThread(Engine& engine, const EngineThreadOptions& options = {});
  // Cancels what is left.
  ~EngineThread();

  // All of them or none (a request with n answers is n requests). Errors: those of Engine::check,
  // which name the field; kResourceExhausted when the queue is full; kUnavailable while stopping.
  Result<std::vector<RequestId>> submit(std::vector<Request> requests, Listener listener);
  // Their pages are free before the next step. Unknown or finished ids are passed over.
  // `counts_as`: what the observer is told, where this is a good end, as at a stop string.
  void cancel(const std::vector<RequestId>& ids, std::optional<FinishReason> counts_as = {});

  TimePoint now() const;  // of the engine's clock, which deadlines go by
  // As of the end of the last step.
  EngineMetrics metrics() const;
  // How long the step now running has taken; zero between steps. The watchdog's measure.
  std::chrono::nanoseconds step_age() const;
  // The last step failed (the message says how); requests that it held ended with kError.
  Status health() const;

  // No new requests from now on (submit says kUnavailable).
  void drain();
  // True once nothing runs or waits and every update was delivered, or false after the timeout.
  bool wait_idle(std::chrono::nanoseconds timeout);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace liquidgemm
