#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace liquidgemm {
namespace {

// About 50 us of polling before a thread sleeps.
constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
#endif
  if (cpus.empty()) cpus.resize(std::max(1u, std::thread::hardware_concurrency()), -1);
  return cpus;
}

void pin_to(int cpu) {
#if defined(__linux__)
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#else
  (void)cpu;
#endif
}

}  // namespace

int available_cpus() { return static_cast<int>(allowed_cpus().size()); }

struct ThreadPool::Impl {
  std::vector<std::thread> workers;
  int threads = 1;

  // A job is published by raising `generation`; a worker reports by lowering `pending`.
  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> pending{0};
  std::atomic<int> sleepers{0};
  const std::function<void(int)>* job = nullptr;
  bool stop = false;
  std::mutex mutex;
  std::condition_variable wake;

  void work(int worker, int cpu) {
    pin_to(cpu);
    std::uint64_t seen = 0;
    while (true) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen && ++spins < kSpins) relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return generation.load() != seen; });
        sleepers.fetch_sub(1);
      }
      seen = generation.load(std::memory_order_acquire);
      if (stop) return;
      (*job)(worker);
      pending.fetch_sub(1, std::memory_order_release);
    }
  }

  void publish() {
    generation.fetch_add(1);
    // A worker that is about to sleep holds the mutex while it checks `generation`, so it either
    // sees the new value or is counted here.
    std::lock_guard lock(mutex);
    if (sleepers.load() > 0) wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  const std::vector<int> cpus = allowed_cpus();
  impl_->threads = threads > 0 ? threads : static_cast<int>(cpus.size());
  // More threads than CPUs (tests do this): leave the placement to the system.
  const bool pin = impl_->threads <= static_cast<int>(cpus.size());
  for (int worker = 1; worker < impl_->threads; ++worker) {
    const int cpu = pin ? cpus[static_cast<std::size_t>(worker)] : -1;
    impl_->workers.emplace_back([this, worker, cpu] { impl_->work(worker, cpu); });
  }
}

ThreadPool::~ThreadPool() {
  impl_->stop = true;
  impl_->publish();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::threads() const { return impl_->threads; }

void ThreadPool::run(const std::function<void(int)>& job) {
  if (impl_->threads == 1) {
    job(0);
    return;
  }
  impl_->job = &job;
  impl_->pending.store(impl_->threads - 1, std::memory_order_relaxed);
  impl_->publish();
  job(0);
  int spins = 0;
  while (impl_->pending.load(std::memory_order_acquire) > 0) {
    if (++spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::parallel_for(std::int64_t count, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t, int)>& body) {
  if (count <= 0) return;
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t grains = (count + grain - 1) / grain;
  if (impl_->threads == 1 || grains == 1) {
    body(0, count, 0);
    return;
  }
  const std::int64_t parts = impl_->threads;
  run([&](int worker) {
    const std::int64_t begin = grains * worker / parts * grain;
    const std::int64_t end = std::min(grains * (worker + 1) / parts * grain, count);
    if (begin < end) body(begin, end, worker);
  });
}

}  // namespace liquidgemm
