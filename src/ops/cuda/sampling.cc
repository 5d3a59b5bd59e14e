#include "ops/cuda/sampling.h"

#include <cmath>
#include <limits>
#include <string>

#include "base/status_macros.h"
#include "gemm/cuda/cuda_status.h"
#include "ops/cuda/sampling_kernels.h"

namespace liquidgemm {
namespace {

// What sample_rows and score_rows have in common.
template <typename Arguments>
Status check_rows(const char* call, const Arguments& arguments) {
  const auto refused = [&](const std::string& what) {
    return invalid_argument(std::string(call) + ": " + what);
  };
  if (arguments.vocabulary < 1 || arguments.vocabulary > kMaxCudaVocabulary) {
    return refused("the vocabulary is " + std::to_string(arguments.vocabulary) +
                   ", expected 1 to " + std::to_string(kMaxCudaVocabulary));
  }
  if (arguments.max_count < 1 || arguments.max_count > kMaxCudaSamples) {
    return refused("max_count is " + std::to_string(arguments.max_count) + ", expected 1 to " +
                   std::to_string(kMaxCudaSamples));
  }
  if (arguments.logits == nullptr) return refused("logits is null");
  if (arguments.rows < 1) return refused("there are no rows");
  if (arguments.ld < arguments.vocabulary) {
    return refused("ld is " + std::to_string(arguments.ld) + ", less than the vocabulary of " +
                   std::to_string(arguments.vocabulary));
  }
  return ok_status();
}

cuda::SampleWorkspace split(void* workspace) {
  auto* header = static_cast<cuda::DrawHeader*>(workspace);
  return {header, reinterpret_cast<cuda::ScanRecord*>(header + 1)};
}

}  // namespace

Status prepare_sampling() {
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::prepare_draw());
  return cuda::prepare_score();
}

std::size_t sample_workspace_bytes(std::int32_t max_count) {
  return sizeof(cuda::DrawHeader) + static_cast<std::size_t>(max_count) * sizeof(cuda::ScanRecord);
}

Status sample_rows(const CudaSampleArguments& arguments, CudaStream stream) {
  constexpr const char* kCall = "sample_rows";
  LIQUIDGEMM_RETURN_IF_ERROR(check_rows(kCall, arguments));
  if (arguments.samples == nullptr || arguments.sampled == nullptr ||
      arguments.workspace == nullptr) {
    return invalid_argument("sample_rows: samples, sampled or workspace is null");
  }
  if (reinterpret_cast<std::uintptr_t>(arguments.workspace) % 16 != 0) {
    return invalid_argument("sample_rows: the workspace is not 16-byte aligned");
  }
  const cuda::SampleWorkspace workspace = split(arguments.workspace);
  cuda::launch_scan(arguments, workspace, stream);
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status(kCall));
  if (arguments.plain_greedy) return ok_status();
  cuda::launch_draw(arguments, workspace, stream);
  return cuda::launch_status(kCall);
}

Status score_rows(const CudaScoreArguments& arguments, CudaStream stream) {
  constexpr const char* kCall = "score_rows";
  LIQUIDGEMM_RETURN_IF_ERROR(check_rows(kCall, arguments));
  if (arguments.scores == nullptr || arguments.out == nullptr) {
    return invalid_argument("score_rows: scores or out is null");
  }
  cuda::launch_score(arguments, stream);
  return cuda::launch_status(kCall);
}

void token_score(const CudaRowScore& row, TokenScore& score) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  score.count = 0;
  if (std::isnan(row.max) || std::isnan(row.logit)) {
    score.logprob = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const double log_total = std::log(row.total);
  const auto logprob = [&](float x) {
    if (row.max == kInfinity) return x == row.max ? static_cast<float>(-log_total) : -kInfinity;
    // The device's largest logit is never -0: where the CPU has -0 - -0, here is -0 - 0.
    const double below = (static_cast<double>(x) - static_cast<double>(row.max)) + 0.0;
    return static_cast<float>(below - log_total);
  };
  score.logprob = logprob(row.logit);
  score.count = row.count;
  for (std::int32_t i = 0; i < row.count; ++i) {
    const CudaRowScore::Entry& entry = row.top[i];
    score.top[static_cast<std::size_t>(i)] = {entry.token, logprob(entry.logit)};
  }
}

}  // namespace liquidgemm
