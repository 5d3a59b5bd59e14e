// Launching a kernel whose blocks may start before the kernel before it on the stream has ended
// (programmatic dependent launch): that hides the launch, which is most of what a small kernel
// takes.
//
// Such a kernel begins with begin_early_launch(), before it reads or writes anything that
// another kernel writes or reads.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstring>
#include <utility>

#include "gemm/cuda/ptx/thread.h"

namespace liquidgemm::cuda {

// The next kernel may start, and this one goes on when the one before has ended.
__device__ __forceinline__ void begin_early_launch() {
  ptx::launch_dependents();
  ptx::wait_for_previous_kernel();
}

// `cluster` neighbouring blocks are a cluster.
template <typename... Parameters, typename... Arguments>
void launch_early_clusters(void (*kernel)(Parameters...), dim3 grid, unsigned threads,
                           unsigned cluster, std::size_t shared_bytes, cudaStream_t stream,
                           Arguments&&... arguments) {
  cudaLaunchAttribute attributes[2];
  std::memset(attributes, 0, sizeof attributes);
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = cluster;
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = cluster > 1 ? 2 : 1;
  // The runtime remembers a failure until launch_status() asks.
  static_cast<void>(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...));
}

template <typename... Parameters, typename... Arguments>
void launch_early(void (*kernel)(Parameters...), dim3 grid, unsigned threads,
                  std::size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  launch_early_clusters(kernel, grid, threads, 1, shared_bytes, stream,
                        std::forward<Arguments>(arguments)...);
}

}  // namespace liquidgemm::cuda
