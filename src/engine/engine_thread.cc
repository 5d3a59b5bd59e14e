#include "engine/engine_thread.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/log.h"

namespace liquidgemm {
namespace {

std::int64_t steady_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

struct EngineThread::State {
  State(Engine& the_engine, const EngineThreadOptions& the_options)
      : engine(the_engine),
        observer(the_options.observer),
        capacity(static_cast<std::size_t>(std::max<std::int64_t>(the_options.max_waiting, 0) +
                                          the_engine.max_sequences())),
        next_id(the_engine.next_id()),
        metrics(the_engine.metrics()) {}

  struct Submitted {
    RequestId id = 0;
    Request request;
    TimePoint arrival;
  };
  // From submit() until the last event was delivered.
  struct Live {
    std::shared_ptr<const Listener> listener;
    std::size_t index = 0;
    bool cancelled = false;
    std::optional<FinishReason> counts_as = {};  // when cancelled
  };
  struct Event {
    Update update;
    bool cancelled = false;  // the end of a request that was cancelled
  };

  void run_engine();
  void work(std::vector<Submitted>& arrived, const std::vector<RequestId>& gone,
            std::vector<Event>& events, std::optional<Status>& status);
  void step(std::vector<Event>& events, std::optional<Status>& status);
  void fail_all(std::vector<Event>& events);
  void run_delivery();
  void deliver(const Event& event);
  void watch(const Event& event, std::optional<FinishReason> counts_as);
  void cancel(const std::vector<RequestId>& ids, std::optional<FinishReason> counts_as = {});

  Engine& engine;
  EngineObserver* const observer;
  const std::size_t capacity;  // requests that may be alive
  std::atomic<std::int64_t> step_began{0};

  // The engine thread's own: requests whose end is not among the events yet.
  std::unordered_set<RequestId> held;

  mutable std::mutex mutex;  // guards all that follows
  std::condition_variable something_to_do;
  std::condition_variable something_to_deliver;
  std::condition_variable nothing_left;
  RequestId next_id;
  std::unordered_map<RequestId, Live> live;
  std::vector<Submitted> submitted;
  std::vector<RequestId> cancelled;
  std::vector<Event> undelivered;
  EngineMetrics metrics;
  Status last_step;
  bool draining = false;
  bool stopping = false;
  bool engine_ended = false;

  std::thread engine_thread;
  std::thread delivery_thread;
};

// ---- The engine thread -------------------------------------------------------------------------

void EngineThread::State::run_engine() {
  std::vector<Submitted> arrived;
  std::vector<RequestId> gone;
  std::vector<Event> events;
  while (true) {
    {
      std::unique_lock lock(mutex);
      something_to_do.wait(lock, [&] {
        return stopping || !submitted.empty() || !cancelled.empty() || !engine.idle();
      });
      if (stopping && submitted.empty() && cancelled.empty() && engine.idle()) break;
      arrived.swap(submitted);
      gone.swap(cancelled);
    }
    std::optional<Status> status;  // of the step, if there was one
    try {
      for (const Submitted& one : arrived) held.insert(one.id);
      work(arrived, gone, events, status);
    } catch (const std::exception& error) {
      status = internal_error(std::string("the engine's step: ") + error.what());
      fail_all(events);
    }
    arrived.clear();
    gone.clear();
    {
      const std::lock_guard lock(mutex);
      metrics = engine.metrics();
      // A backend that stays broken says so once.
      if (status && !status->ok() && last_step.ok()) log_error(status->to_string());
      if (status) last_step = std::move(*status);
      undelivered.insert(undelivered.end(), std::make_move_iterator(events.begin()),
                         std::make_move_iterator(events.end()));
    }
    if (!events.empty()) something_to_deliver.notify_one();
    events.clear();
  }
  const std::lock_guard lock(mutex);
  engine_ended = true;
  something_to_deliver.notify_one();
}

void EngineThread::State::work(std::vector<Submitted>& arrived, const std::vector<RequestId>& gone,
                               std::vector<Event>& events, std::optional<Status>& status) {
  for (Submitted& one : arrived) engine.add(one.id, std::move(one.request), one.arrival);
  for (const RequestId id : gone) {
    auto record = engine.cancel(id);
    if (!record) continue;  // it has ended, and its listener will not hear of it
    events.push_back({.update = {.request = id, .record = std::move(record)}, .cancelled = true});
    held.erase(id);
  }
  if (!engine.idle()) step(events, status);
}

void EngineThread::State::step(std::vector<Event>& events, std::optional<Status>& status) {
  step_began.store(steady_nanoseconds(), std::memory_order_relaxed);
  auto updates = engine.step();
  step_began.store(0, std::memory_order_relaxed);
  status = updates.status();
  if (!updates.ok()) {
    updates = engine.abandon_step();
    // A failure that holds no request would come back for ever.
    if (updates->empty()) return fail_all(events);
  }
  for (Update& update : *updates) {
    if (update.finish != FinishReason::kNone) held.erase(update.request);
    events.push_back({.update = std::move(update)});
  }
}

// Where nothing is known of what a step has done.
void EngineThread::State::fail_all(std::vector<Event>& events) {
  step_began.store(0, std::memory_order_relaxed);
  for (const RequestId id : held) {
    RequestRecord record = engine.cancel(id).value_or(RequestRecord{});
    events.push_back({.update = {.request = id, .finish = FinishReason::kError, .record = record}});
  }
  held.clear();
}

// ---- The delivery thread -----------------------------------------------------------------------

void EngineThread::State::run_delivery() {
  std::vector<Event> events;
  while (true) {
    {
      std::unique_lock lock(mutex);
      something_to_deliver.wait(lock, [&] { return engine_ended || !undelivered.empty(); });
      if (undelivered.empty()) return;
      events.swap(undelivered);
    }
    for (const Event& event : events) deliver(event);
    events.clear();
  }
}

// What a listener holds is let go without the lock: it may well call cancel().
void EngineThread::State::deliver(const Event& event) {
  const RequestId id = event.update.request;
  const bool last = event.cancelled || event.update.finish != FinishReason::kNone;
  std::shared_ptr<const Listener> listener;
  std::size_t index = 0;
  bool heard = false;
  std::optional<FinishReason> counts_as;
  {
    const std::lock_guard lock(mutex);
    const auto found = live.find(id);
    if (found == live.end()) return;
    counts_as = found->second.counts_as;
    index = found->second.index;
    heard = !found->second.cancelled;
    listener = last ? std::move(found->second.listener) : found->second.listener;
  }
  watch(event, counts_as);
  if (heard && *listener) {
    try {
      (*listener)(index, event.update);
    } catch (const std::exception& error) {
      log_error("request " + std::to_string(id) + ": its listener failed: " + error.what());
      if (!last) cancel({id});
    } catch (...) {
      log_error("request " + std::to_string(id) + ": its listener failed");
      if (!last) cancel({id});
    }
  }
  listener.reset();
  if (!last) return;
  const std::lock_guard lock(mutex);
  live.erase(id);
  if (live.empty()) nothing_left.notify_all();
}

void EngineThread::State::watch(const Event& event, std::optional<FinishReason> counts_as) {
  if (observer == nullptr) return;
  const Update& update = event.update;
  if (update.since_last_token) observer->next_token(*update.since_last_token);
  if (event.cancelled) {
    observer->ended(*update.record, counts_as);
  } else if (update.finish != FinishReason::kNone) {
    observer->ended(*update.record, update.finish);
  }
}

void EngineThread::State::cancel(const std::vector<RequestId>& ids,
                                 std::optional<FinishReason> counts_as) {
  const std::lock_guard lock(mutex);
  for (const RequestId id : ids) {
    const auto found = live.find(id);
    if (found == live.end() || found->second.cancelled) continue;
    found->second.cancelled = true;
    found->second.counts_as = counts_as;
    cancelled.push_back(id);
  }
  something_to_do.notify_one();
}

// ---- Everybody's -------------------------------------------------------------------------------

EngineThread::EngineThread(Engine& engine, const EngineThreadOptions& options)
    : state_(std::make_unique<State>(engine, options)) {
  State* state = state_.get();
  state->engine_thread = std::thread([state] { state->run_engine(); });
  state->delivery_thread = std::thread([state] { state->run_delivery(); });
}

EngineThread::~EngineThread() {
  std::vector<RequestId> left;
  {
    const std::lock_guard lock(state_->mutex);
    state_->draining = true;
    state_->stopping = true;
    for (const auto& [id, live] : state_->live) left.push_back(id);
  }
  state_->cancel(left);
  state_->engine_thread.join();
  state_->delivery_thread.join();
}

Result<std::vector<RequestId>> EngineThread::submit(std::vector<Request> requests,
                                                    Listener listener) {
  State& state = *state_;
  for (const Request& request : requests) {
    if (Status status = state.engine.check(request); !status.ok()) return status;
  }
  const TimePoint arrival = state.engine.now();
  const auto shared = std::make_shared<const Listener>(std::move(listener));
  std::vector<RequestId> ids;
  const std::lock_guard lock(state.mutex);
  if (state.draining) return unavailable("the server is stopping and takes no new requests");
  if (state.live.size() + requests.size() > state.capacity) {
    return resource_exhausted("the queue is full: " + std::to_string(state.live.size()) +
                              " requests run or wait, " + std::to_string(requests.size()) +
                              " more were asked for and at most " + std::to_string(state.capacity) +
                              " fit: try again later");
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const RequestId id = state.next_id++;
    state.live.emplace(id, State::Live{.listener = shared, .index = i});
    state.submitted.push_back({.id = id, .request = std::move(requests[i]), .arrival = arrival});
    ids.push_back(id);
  }
  state.something_to_do.notify_one();
  return ids;
}

void EngineThread::cancel(const std::vector<RequestId>& ids,
                          std::optional<FinishReason> counts_as) {
  state_->cancel(ids, counts_as);
}

TimePoint EngineThread::now() const { return state_->engine.now(); }

EngineMetrics EngineThread::metrics() const {
  const std::lock_guard lock(state_->mutex);
  EngineMetrics metrics = state_->metrics;
  metrics.waiting += static_cast<std::int64_t>(state_->submitted.size());
  return metrics;
}

std::chrono::nanoseconds EngineThread::step_age() const {
  const std::int64_t began = state_->step_began.load(std::memory_order_relaxed);
  if (began == 0) return std::chrono::nanoseconds::zero();
  return std::chrono::nanoseconds(std::max<std::int64_t>(steady_nanoseconds() - began, 0));
}

Status EngineThread::health() const {
  const std::lock_guard lock(state_->mutex);
  return state_->last_step;
}

void EngineThread::drain() {
  const std::lock_guard lock(state_->mutex);
  state_->draining = true;
}

bool EngineThread::wait_idle(std::chrono::nanoseconds timeout) {
  // So that no clock overflows.
  const std::chrono::nanoseconds most = std::chrono::hours(24 * 365);
  std::unique_lock lock(state_->mutex);
  return state_->nothing_left.wait_for(lock, std::min(timeout, most),
                                       [&] { return state_->live.empty(); });
}

}  // namespace liquidgemm
