// A few threads that take jobs in order, from a queue that is bounded in number and bytes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace liquidgemm::server {

class WorkerQueue {
 public:
  WorkerQueue(int threads, std::size_t max_jobs, std::size_t max_bytes);
  // Jobs that have not begun are dropped.
  ~WorkerQueue();

  // False: the queue is full. `bytes` is what the job holds on to. Jobs do not throw.
  bool push(std::size_t bytes, std::function<void()> job);

 private:
  void run();

  const std::size_t max_jobs_;
  const std::size_t max_bytes_;
  std::mutex mutex_;
  std::condition_variable something_to_do_;
  std::deque<std::pair<std::size_t, std::function<void()>>> jobs_;
  std::size_t bytes_ = 0;  // of waiting and running jobs
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace liquidgemm::server
