#include "bench/cpu/run_probes.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <span>

#include "base/status_macros.h"

namespace liquidgemm::bench::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kWarmUpSeconds = 0.2;  // clocks and memory are slow for about 0.1 s after idling
constexpr double kOperationSeconds = 10e-3;
constexpr int kRepetitions = 2;

std::atomic<std::uint64_t> kept;  // results go somewhere, or the loops could be left out

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

const ProbeSet& probes_of(Isa isa) {
#if defined(LIQUIDGEMM_X86_PROBES)
  if (isa == Isa::kAmxInt8) return kAmxProbes;
  if (isa == Isa::kAvx512Vnni) return kAvx512Probes;
  if (isa == Isa::kAvx2) return kAvx2Probes;
#endif
  (void)isa;
  return kScalarProbes;
}

// The seconds that `job` takes on the calling thread alone, or on every thread of the pool.
double time(ThreadPool& pool, int threads, const std::function<void(int)>& job) {
  const auto begin = Clock::now();
  if (threads == 1) {
    job(0);
  } else {
    pool.run(job);
  }
  return seconds_since(begin);
}

// Bytes a second of one pass over the data, in equal parts for the threads.
double read_rate(const ReadProbe& probe, const char* data, ThreadPool& pool, int threads) {
  const std::int64_t part = Probes::kBytes / threads / kReadGrain * kReadGrain;
  const double seconds = time(pool, threads, [&](int worker) {
    kept.fetch_xor(probe.read(data + worker * part, part), std::memory_order_relaxed);
  });
  return static_cast<double>(part) * threads / seconds;
}

double operation_rate(const OperationProbe& probe, ThreadPool& pool, int threads,
                      std::int64_t iterations = 64) {
  // As many iterations as fill the time: doubled until they do.
  double seconds = 0.0;
  while (true) {
    seconds = time(pool, threads, [&](int) { probe.run(iterations); });
    if (seconds >= kOperationSeconds) break;
    iterations *= 2;
  }
  return static_cast<double>(iterations) * static_cast<double>(probe.operations) * threads /
         seconds;
}

}  // namespace

Result<Probes> Probes::make(Isa isa, ThreadPool& pool) {
  Probes probes(isa, pool);
  if (!probes.data_.reserve(kBytes)) {
    return resource_exhausted("no memory for the 256 MiB that the read bandwidth is measured on");
  }
  char* data = probes.data_.as<char>();
  pool.parallel_for(kBytes, kReadGrain, [&](std::int64_t begin, std::int64_t end, int) {
    std::memset(data + begin, 1, static_cast<std::size_t>(end - begin));
  });
  return probes;
}

void Probes::run(CpuCeilings& ceilings) {
  const char* data = data_.as<char>();
  const auto begin = Clock::now();
  while (seconds_since(begin) < kWarmUpSeconds) {
    read_rate(kScalarProbes.reads[0], data, *pool_, pool_->threads());
  }
  // A slow spell of the machine meets one repetition of every probe, not all of one.
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    for (const int threads : {1, pool_->threads()}) {
      for (const Isa known : kIsas) {
        if (!check_isa(known).ok()) continue;
        const ProbeSet& set = probes_of(known);
        for (const ReadProbe& probe : std::span(set.reads, set.read_count)) {
          const double rate = read_rate(probe, data, *pool_, threads);
          ceilings.read.take(probe.name, threads, rate);
          if (threads == pool_->threads()) read_.take(probe, rate);
        }
      }
      const ProbeSet& set = probes_of(isa_);
      for (const OperationProbe& probe : std::span(set.operations, set.operation_count)) {
        const double rate = operation_rate(probe, *pool_, threads);
        ceilings.operations.take(probe.name, threads, rate);
        if (threads == pool_->threads()) operations_.take(probe, rate);
      }
      if (pool_->threads() == 1) break;
    }
  }
}

double Probes::read_now(CpuCeilings& ceilings) const {
  const double rate = read_rate(*read_.probe, data_.as<char>(), *pool_, pool_->threads());
  ceilings.read.take(read_.probe->name, pool_->threads(), rate);
  return rate;
}

double Probes::operations_now(CpuCeilings& ceilings) const {
  const OperationProbe& probe = *operations_.probe;
  const int threads = pool_->threads();
  // They fill the time at once, unless this is the best rate yet.
  const double iterations =
      operations_.rate * kOperationSeconds / (static_cast<double>(probe.operations) * threads);
  const double rate =
      operation_rate(probe, *pool_, threads, static_cast<std::int64_t>(iterations) + 1);
  ceilings.operations.take(probe.name, threads, rate);
  return rate;
}

Status run_probes(Isa isa, ThreadPool& pool, CpuCeilings& ceilings) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(Probes probes, Probes::make(isa, pool));
  probes.run(ceilings);
  return ok_status();
}

}  // namespace liquidgemm::bench::cpu
