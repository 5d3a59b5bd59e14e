#include "bench/cuda/ablation.h"

#include <algorithm>

#include "base/status_macros.h"

namespace liquidgemm::bench {
namespace {

using cuda::KernelEntry;
using cuda::Schedule;

const KernelEntry* find_tokens(std::span<const KernelEntry> table, std::int64_t tokens) {
  for (const KernelEntry& entry : table) {
    if (entry.tokens == tokens) return &entry;
  }
  return nullptr;
}

Schedule with_tile(Schedule schedule, int tokens, int blocks, int groups) {
  schedule.tokens = tokens;
  schedule.blocks = blocks;
  schedule.groups = groups;
  schedule.depth = 1;
  schedule.stages = 0;
  schedule.workers = 0;
  return schedule;
}

}  // namespace

Result<std::vector<AblationPlan>> plan_ablation(const CudaGemmDesc& desc, std::int64_t m,
                                                const CudaDevice& device) {
  const KernelEntry* subtract = find_tokens(subtract_kernels(), m);
  const KernelEntry* by_xor = find_tokens(xor_kernels(), m);
  const KernelEntry* one_group = find_tokens(one_group_kernels(), m);
  if (desc.group_size != kAblationGroupSize || desc.gated || subtract == nullptr ||
      by_xor == nullptr || one_group == nullptr) {
    return unsupported("the variants of the ablation are compiled for groups of " +
                       std::to_string(kAblationGroupSize) +
                       ", layers without gates and tiles of 16, 64 and 128 tokens");
  }
  const Schedule division = cuda::choose_schedule(desc, m, device);
  std::vector<AblationPlan> plans;
  const auto add = [&](const char* variant, const Schedule& schedule,
                       const KernelEntry* kernel) -> Status {
    const std::string tile = std::to_string(64 * schedule.blocks * schedule.groups) + " x " +
                             std::to_string(schedule.tokens);
    const bool known = std::any_of(plans.begin(), plans.end(), [&](const AblationPlan& other) {
      return other.variant == variant && other.tile == tile;
    });
    if (known) return ok_status();
    AblationPlan& made = plans.emplace_back();
    made.variant = variant;
    made.tile = tile;
    return cuda::make_plan(desc, m, device, schedule, kernel, made.plan);
  };
  const auto add_serving = [&](const Schedule& schedule) {
    return add("unsigned", schedule, cuda::find_kernel(schedule, desc.group_size));
  };
  for (const KernelEntry* kernel : {subtract, by_xor}) {
    const Schedule schedule = with_tile(division, kernel->tokens, kernel->blocks, kernel->groups);
    LIQUIDGEMM_RETURN_IF_ERROR(add_serving(schedule));
    LIQUIDGEMM_RETURN_IF_ERROR(add(kernel == subtract ? "qserve" : "xor", schedule, kernel));
  }
  // Against it: a warp group for each of its row blocks.
  LIQUIDGEMM_RETURN_IF_ERROR(
      add_serving(with_tile(division, one_group->tokens, 1, one_group->blocks)));
  LIQUIDGEMM_RETURN_IF_ERROR(
      add("one group", with_tile(division, one_group->tokens, one_group->blocks, 1), one_group));
  return plans;
}

}  // namespace liquidgemm::bench
