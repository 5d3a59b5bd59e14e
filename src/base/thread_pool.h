// A pool of pinned threads that all do the same job on different parts.
//
// Work is split statically: which worker does which part depends on the part and the worker count
// alone, never on timing. Workers spin for a moment after a job (the next one usually comes within
// microseconds) and then sleep.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace liquidgemm {

class ThreadPool {
 public:
  // threads = 0: one for each CPU this process may run on.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls job(worker) once on every worker 0 .. threads()-1 and returns when all are done. The
  // calling thread is worker 0. Not reentrant: one caller at a time, no job starts another.
  void run(const std::function<void(int worker)>& job);

  // Cuts 0 .. count-1 into threads() contiguous ranges whose bounds are multiples of grain
  // (but for the end) and calls body(begin, end, worker) for every range that is not empty.
  void parallel_for(std::int64_t count, std::int64_t grain,
                    const std::function<void(std::int64_t, std::int64_t, int)>& body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The CPUs that this process may run on (its affinity mask), at least 1.
int available_cpus();

}  // namespace liquidgemm
