#include "model/cuda/float_product.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/status_macros.h"
#include "gemm/cuda/handles.h"

namespace liquidgemm {
namespace {

constexpr int kCandidates = 16;    // algorithms that are tried, those first that cuBLASLt advises
constexpr int kReplays = 3;        // of each, the shortest counts
constexpr double kHopeless = 1.3;  // times as long as the best: replayed once only
constexpr int kMostLaunches = 16;  // of one replay
constexpr double kReplayBytes = 256e6;     // of weights, more than the L2 cache holds
constexpr double kReplaySeconds = 200e-6;  // at least, within kMostLaunches
// A first guess of the time, only to choose how many launches are timed together.
constexpr double kGuessBytes = 4e12;
constexpr double kGuessOperations = 8e14;

struct Clock {
  cuda::Event begin, end;

  Result<double> replay(const cuda::GraphExec& graph, cudaStream_t stream) const {
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventRecord(begin.get(), stream));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaGraphLaunch(graph.get(), stream));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventRecord(end.get(), stream));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(end.get()));
    float milliseconds = 0.0f;
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
    return 1e-3 * static_cast<double>(milliseconds);
  }
};

int launches_of(const cuda::CublasShape& shape) {
  const double weights = 2.0 * static_cast<double>(shape.n) * static_cast<double>(shape.k);
  const double seconds =
      std::max(weights / kGuessBytes, weights * static_cast<double>(shape.m) / kGuessOperations);
  const double wanted =
      std::max(kReplaySeconds / seconds, seconds < kReplaySeconds ? kReplayBytes / weights : 0.0);
  return static_cast<int>(std::clamp(std::ceil(wanted), 2.0, double{kMostLaunches}));
}

}  // namespace

Result<std::unique_ptr<cuda::CublasProduct>> FloatProduct::make(std::int64_t m,
                                                                int candidates) const {
  cuda::CublasShape shape = shape_;
  shape.m = m;
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto product, library_.make(shape, candidates));
  if (product->candidates() > 0) return product;
  return unsupported("cuBLASLt has no algorithm for N " + std::to_string(shape.n) + ", K " +
                     std::to_string(shape.k) + ", M " + std::to_string(m) + " in f16");
}

Result<FloatProduct::Choice> FloatProduct::try_all(std::int64_t m, const void* x, void* y,
                                                   cudaStream_t stream) const {
  Choice choice;
  LIQUIDGEMM_ASSIGN_OR_RETURN(choice.product, make(m, kCandidates));
  Clock clock;
  LIQUIDGEMM_ASSIGN_OR_RETURN(clock.begin, cuda::make_event());
  LIQUIDGEMM_ASSIGN_OR_RETURN(clock.end, cuda::make_event());
  cuda::CublasShape shape = shape_;
  shape.m = m;
  const int launches = launches_of(shape);
  double best = std::numeric_limits<double>::infinity();
  std::size_t next = 0;
  for (int candidate = 0; candidate < choice.product->candidates(); ++candidate) {
    const auto launch = [&] {
      const Layer& layer = layers_[next++ % layers_.size()];
      return choice.product->launch(
          candidate, {.w = layer.weights, .x = x, .y = y, .bias = layer.bias}, stream);
    };
    // What runs first loads its kernels.
    const Status first = launch();
    if (first.code() == StatusCode::kUnsupported) continue;
    LIQUIDGEMM_RETURN_IF_ERROR(first);
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
    const auto launch_all = [&] {
      for (int i = 0; i < launches; ++i) LIQUIDGEMM_RETURN_IF_ERROR(launch());
      return ok_status();
    };
    LIQUIDGEMM_ASSIGN_OR_RETURN(const cuda::GraphExec graph, cuda::capture(stream, launch_all));
    for (int i = 0; i < kReplays; ++i) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, clock.replay(graph, stream));
      if (seconds < best) {
        best = seconds;
        choice.candidate = candidate;
      } else if (seconds > kHopeless * best) {
        break;
      }
    }
  }
  if (std::isfinite(best)) return choice;
  return unsupported("cuBLASLt refuses all of its algorithms for N " + std::to_string(shape.n) +
                     ", K " + std::to_string(shape.k) + ", M " + std::to_string(m) + " in f16");
}

Status FloatProduct::tune(std::span<const std::int64_t> rows, const void* x, void* y,
                          cudaStream_t stream) {
  for (const std::int64_t m : rows) {
    if (tried_.count(m) > 0) continue;
    LIQUIDGEMM_ASSIGN_OR_RETURN(Choice choice, try_all(m, x, y, stream));
    tried_.emplace(m, std::move(choice));
  }
  return ok_status();
}

Result<const FloatProduct::Choice*> FloatProduct::choice(std::int64_t m) {
  auto tried = tried_.lower_bound(m);
  if (tried != tried_.end() && tried->first == m) return &tried->second;
  if (const auto found = between_.find(m); found != between_.end()) return &found->second;
  Choice choice;
  if (tried == tried_.end() && !tried_.empty()) tried = std::prev(tried);
  if (tried != tried_.end()) {
    const Choice& other = tried->second;
    LIQUIDGEMM_ASSIGN_OR_RETURN(choice.product,
                                library_.make_like(*other.product, other.candidate, m));
  }
  if (!choice.product || choice.product->candidates() == 0) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(choice.product, make(m, 1));
  }
  return &between_.emplace(m, std::move(choice)).first->second;
}

}  // namespace liquidgemm
