// Runs the probes of this machine.
#pragma once

#include "base/thread_pool.h"
#include "bench/cpu/ceiling.h"
#include "gemm/gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench::cpu {

// About a second, on one thread and on all of the pool's. Memory is read with every instruction set
// of the machine, because it is no faster or slower for what a product is restricted to; the
// operations are those of `isa`. May be called again: the best figure of all calls stays.
Status run_probes(Isa isa, ThreadPool& pool, CpuCeilings& ceilings);

}  // namespace liquidgemm::bench::cpu
