#include "server/worker_queue.h"

#include <algorithm>

namespace liquidgemm::server {

WorkerQueue::WorkerQueue(int threads, std::size_t max_jobs, std::size_t max_bytes)
    : max_jobs_(max_jobs), max_bytes_(max_bytes) {
  for (int i = 0; i < std::max(threads, 1); ++i) threads_.emplace_back([this] { run(); });
}

WorkerQueue::~WorkerQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  something_to_do_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerQueue::push(std::size_t bytes, std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= max_jobs_ || bytes > max_bytes_ - bytes_) return false;
    bytes_ += bytes;
    jobs_.emplace_back(bytes, std::move(job));
  }
  something_to_do_.notify_one();
  return true;
}

void WorkerQueue::run() {
  while (true) {
    std::pair<std::size_t, std::function<void()>> job;
    {
      std::unique_lock lock(mutex_);
      something_to_do_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.second();
    job.second = nullptr;  // what it holds goes before its bytes are counted free
    const std::lock_guard lock(mutex_);
    bytes_ -= job.first;
  }
}

}  // namespace liquidgemm::server
