// Runs the probes of this machine.
#pragma once

#include "base/thread_pool.h"
#include "bench/cpu/ceiling.h"
#include "bench/cpu/probes.h"
#include "gemm/cpu/aligned_buffer.h"
#include "gemm/gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench::cpu {

// The probes with the 256 MiB that they read.
class Probes {
 public:
  // Far more than any cache here holds of it from one pass to the next.
  static constexpr std::int64_t kBytes = std::int64_t{256} << 20;

  // Memory is read with every instruction set of the machine, because it is no faster or slower for
  // what a product is restricted to; the operations are those of `isa`. The pool outlives this.
  static Result<Probes> make(Isa isa, ThreadPool& pool);

  // About a second, on one thread and on all of the pool's. May be called again: the best figure of
  // all calls stays.
  void run(CpuCeilings& ceilings);
  // After run(), by the probes that were the fastest on all threads: bytes a second of one more
  // pass over the data, and operations a second for about 10 ms. What they give at this moment,
  // where another gives more or less; and one more repetition of those probes.
  double read_now(CpuCeilings& ceilings) const;
  double operations_now(CpuCeilings& ceilings) const;

 private:
  Probes(Isa isa, ThreadPool& pool) : isa_(isa), pool_(&pool) {}

  Isa isa_;
  ThreadPool* pool_;
  liquidgemm::cpu::AlignedBuffer data_;
  // The best so far.
  template <typename Probe>
  struct Fastest {
    const Probe* probe = nullptr;
    double rate = 0.0;
    void take(const Probe& other, double rate_of_other) {
      if (rate_of_other > rate) *this = {&other, rate_of_other};
    }
  };
  Fastest<ReadProbe> read_;
  Fastest<OperationProbe> operations_;
};

// The same once, where nothing else is asked of them.
Status run_probes(Isa isa, ThreadPool& pool, CpuCeilings& ceilings);

}  // namespace liquidgemm::bench::cpu
