#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "base/arena.h"

namespace liquidgemm {
namespace {

TEST(ThreadPool, EveryWorkerRunsEveryJobOnce) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    // Plain counters: the pool itself must order the workers' writes before run() returns.
    std::vector<int> calls(static_cast<std::size_t>(threads));
    for (int job = 0; job < 300; ++job) {
      if (job % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // all asleep
      pool.run([&](int worker) { ++calls[static_cast<std::size_t>(worker)]; });
    }
    EXPECT_EQ(calls, std::vector<int>(static_cast<std::size_t>(threads), 300));
  }
}

TEST(ThreadPool, RangesCoverEverythingOnceAtMultiplesOfTheGrain) {
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (const std::int64_t grain : {1, 4, 32}) {
      for (std::int64_t count = 0; count < 140; ++count) {
        std::vector<int> seen(static_cast<std::size_t>(count));
        std::mutex mutex;
        pool.parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end, int worker) {
          std::lock_guard lock(mutex);
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end % grain == 0 || end == count);
          EXPECT_LT(worker, threads);
          for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
        ASSERT_EQ(seen, std::vector<int>(static_cast<std::size_t>(count), 1));
      }
    }
  }
}

TEST(ThreadPool, StartsAndStopsWithoutWork) {
  for (int round = 0; round < 20; ++round) ThreadPool pool(3);
}

TEST(Arena, HandsOutAlignedZeroedPiecesThatDoNotOverlap) {
  Arena arena;
  char* small = nullptr;
  double* large = nullptr;
  const auto lay_out = [&] {
    small = arena.take<char>(3);
    large = arena.take<double>(1000);
  };
  lay_out();
  ASSERT_TRUE(arena.commit("a test").ok());
  lay_out();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(small) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large) % 64, 0u);
  EXPECT_GE(reinterpret_cast<char*>(large) - small, 3);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(large[i], 0.0);
}

TEST(Arena, MoreThanTheMachineGivesIsAnError) {
  Arena arena;
  arena.take<char>(std::int64_t{1} << 60);
  const Status status = arena.commit("a test");
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("a test"), std::string::npos);
}

}  // namespace
}  // namespace liquidgemm
