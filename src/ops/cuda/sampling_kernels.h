// What the parts of sample_rows and score_rows share.
#pragma once

#include <cstdint>

#include "ops/cuda/sampling.h"

namespace liquidgemm::cuda {

// Clusters of the kernels that hold rows in shared memory; each takes rows until none is left. With
// two blocks on a multiprocessor about as many run at once on a Hopper GPU.
inline constexpr int kRowClusters = 32;

// The samples that the first look does not settle.
struct DrawItem {
  std::int32_t sample;
  float max;  // of the row as the model gave it
};

// Entry i: what the thread blocks that read parts of sample i's row agree on (zero between
// launches), and the i-th item of the list. Together, so that what must be zero lies at the same
// place for every max_count.
struct ScanRecord {
  // The largest logit's key above, the complement of its token below.
  unsigned long long best;
  std::uint32_t flags;
  std::uint32_t arrived;
  DrawItem item;
};

// Zero between launches.
struct DrawHeader {
  std::uint32_t listed;
  std::uint32_t finished;  // clusters
  std::uint32_t unused[2];
};

//   DrawHeader | ScanRecord [max_count]
struct SampleWorkspace {
  DrawHeader* header;
  ScanRecord* records;
};

// Launches; the errors are the caller's to ask for.
void launch_scan(const CudaSampleArguments& arguments, const SampleWorkspace& workspace,
                 CudaStream stream);
void launch_draw(const CudaSampleArguments& arguments, const SampleWorkspace& workspace,
                 CudaStream stream);
void launch_score(const CudaScoreArguments& arguments, CudaStream stream);
// Lets the kernels that hold rows use the shared memory that they may need.
Status prepare_draw();
Status prepare_score();

}  // namespace liquidgemm::cuda
