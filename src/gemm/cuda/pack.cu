// Repacks a weight from checkpoint form into the layout of layout.h, and checks the contract of
// what it reads: the kernels rely on q * s + a <= 255.
//
// One thread block fills one layout block. Of codes, the 64 row segments of 64 bytes come in as
// 16-byte loads, lie in shared memory while the fragments are put together, and leave as 16-byte
// stores that are contiguous over the thread block. INT8 weights are read where they belong.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/desc_check.h"
#include "gemm/cuda/layout.h"

namespace liquidgemm {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kSegmentBytes = kBlockColumns / 2;  // one row of a block in checkpoint form
// Eight rows and four lanes then read 32 different banks.
constexpr int kSegmentStride = kSegmentBytes + 16;

// The largest n is below 2^31 and K below 2^17, so one 64-bit word holds a violation, ordered by
// row, then channel scale before groups, then group. A group of a row has one violation at most,
// so the smallest word is the same whatever the order of the thread blocks.
//
//   bits 32 ..  row of the checkpoint      bits 20 .. 31  0: channel scale, else group + 1
//   bits 16 .. 19  largest code, bits 8 .. 15  step, bits 0 .. 7  offset
using Violation = unsigned long long;
constexpr Violation kNoViolation = ~Violation{0};

__device__ Violation violation(std::int64_t row, std::int64_t group, int code, int step,
                               int offset) {
  return static_cast<Violation>(row) << 32 | static_cast<Violation>(group + 1) << 20 |
         static_cast<Violation>(code) << 16 | static_cast<Violation>(step) << 8 |
         static_cast<Violation>(offset);
}

struct PackArguments {
  const std::int8_t* int8;
  const std::uint8_t* codes;
  const std::uint8_t* step;
  const std::uint8_t* offset;
  const float* channel_scale;
  std::uint8_t* packed;
  Violation* first_violation;
  std::int64_t n, k;
  bool gated;
};

// The four nibbles of `codes` into the low nibbles of four bytes.
__device__ std::uint32_t spread_nibbles(std::uint32_t codes) {
  codes = (codes | codes << 8) & 0x00FF00FFu;
  return (codes | codes << 4) & 0x0F0F0F0Fu;
}

// Largest of the `bytes` (a multiple of 16) codes pairs at `segment`.
__device__ int largest_code(const std::uint8_t* segment, int bytes) {
  std::uint32_t largest = 0;
  for (int i = 0; i < bytes; i += 4) {
    const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(segment + i);
    largest = __vmaxu4(largest, word & 0x0F0F0F0Fu);
    largest = __vmaxu4(largest, word >> 4 & 0x0F0F0F0Fu);
  }
  const std::uint32_t half = __vmaxu4(largest, largest >> 16);
  return static_cast<int>(max(half & 0xFFu, half >> 8 & 0xFFu));
}

// Scales of the 64 rows of a row block, by its first threads.
template <int kGroupSize>
__device__ void pack_channel_scales(const PackArguments& arguments, std::int64_t first_row,
                                    Violation& found) {
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread >= kBlockRows) return;
  const std::int64_t source = source_row(first_row + thread, arguments.n, arguments.gated);
  float scale = 0.0f;
  if (source >= 0) {
    scale = arguments.channel_scale[source];
    const std::uint32_t bits = __float_as_uint(scale);
    const bool positive_and_normal = bits >= 0x00800000u && bits < 0x7F800000u;
    if (!positive_and_normal) found = min(found, violation(source, -1, 0, 0, 0));
  }
  float* scales = reinterpret_cast<float*>(
      arguments.packed + channel_scale_offset(arguments.n, arguments.k, kGroupSize));
  scales[first_row + thread] = scale;
}

// INT8 weights; each thread puts its own fragments together.
__global__ __launch_bounds__(kThreads) void pack_int8_kernel(PackArguments arguments) {
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t k_block = blockIdx.x;
  const bool aligned = arguments.k % 4 == 0;
  Violation found = kNoViolation;
  for (std::int64_t row_block = blockIdx.y; row_block < row_blocks(arguments.n);
       row_block += gridDim.y) {
    const std::int64_t first_row = row_block * kBlockRows;
    std::uint8_t* block =
        arguments.packed + (row_block * gridDim.x + k_block) * block_bytes(kInt8Weights);
    std::int64_t sources[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i * 8;
      sources[i] = source_row(first_row + row, arguments.n, arguments.gated);
    }
#pragma unroll
    for (int step = 0; step < kBlockColumns / 32; ++step) {
      std::uint32_t fragments[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int64_t source = sources[i % 2];
        const std::int64_t column =
            k_block * kBlockColumns + step * 32 + i / 2 * 16 + thread % 4 * 4;
        const std::int8_t* weights = arguments.int8 + source * arguments.k + column;
        std::uint32_t word = 0;
        if (source >= 0 && aligned && column < arguments.k) {
          word = *reinterpret_cast<const std::uint32_t*>(weights);
        } else if (source >= 0) {
          for (int b = 0; b < 4 && column + b < arguments.k; ++b) {
            word |= (static_cast<std::uint32_t>(weights[b]) & 0xFFu) << (8 * b);
          }
        }
        fragments[i] = word;
      }
      *reinterpret_cast<uint4*>(block + step * kFragmentBytes + thread * 16) =
          make_uint4(fragments[0], fragments[1], fragments[2], fragments[3]);
    }
    if (k_block == 0) pack_channel_scales<kInt8Weights>(arguments, first_row, found);
  }
  if (found != kNoViolation) atomicMin(arguments.first_violation, found);
}

template <int kGroupSize>
__global__ __launch_bounds__(kThreads) void pack_kernel(PackArguments arguments) {
  constexpr int kGroups = step_words(kGroupSize);  // of one row in a block
  __shared__ alignas(16) std::uint8_t segments[kBlockRows * kSegmentStride];
  __shared__ std::uint16_t steps[kBlockRows * kGroups];  // step, offset << 8

  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t k_blocks = gridDim.x;
  const std::int64_t k_block = blockIdx.x;
  const std::int64_t row_bytes = arguments.k / 2;
  const std::int64_t groups = (arguments.k + kGroupSize - 1) / kGroupSize;
  Violation found = kNoViolation;

  for (std::int64_t row_block = blockIdx.y; row_block < row_blocks(arguments.n);
       row_block += gridDim.y) {
    const std::int64_t first_row = row_block * kBlockRows;
    std::uint8_t* block =
        arguments.packed + (row_block * k_blocks + k_block) * block_bytes(kGroupSize);

    constexpr int kChunks = kSegmentBytes / 16;
    for (int i = thread; i < kBlockRows * kChunks; i += kThreads) {
      const int row = i / kChunks;
      const std::int64_t source = source_row(first_row + row, arguments.n, arguments.gated);
      // K is a multiple of 32: sixteen bytes of codes are all inside or all padding.
      const std::int64_t byte = k_block * kSegmentBytes + i % kChunks * 16;
      uint4 codes = {0, 0, 0, 0};
      if (source >= 0 && byte < row_bytes) {
        codes = *reinterpret_cast<const uint4*>(arguments.codes + source * row_bytes + byte);
      }
      *reinterpret_cast<uint4*>(segments + row * kSegmentStride + i % kChunks * 16) = codes;
    }
    __syncthreads();

    for (int i = thread; i < kBlockRows * kGroups; i += kThreads) {
      const int row = i / kGroups;
      const std::int64_t source = source_row(first_row + row, arguments.n, arguments.gated);
      const std::int64_t group = k_block * kGroups + i % kGroups;
      int step = 1;
      int offset = 0;
      if (source >= 0 && group < groups) {
        step = arguments.step[source * groups + group];
        offset = arguments.offset[source * groups + group];
        if (step < 1 || step > 16) {
          found = min(found, violation(source, group, 0, step, offset));
        } else if (15 * step + offset > 255) {
          // The padding of a short last group holds code 0 and changes nothing here.
          const std::uint8_t* codes =
              segments + row * kSegmentStride + i % kGroups * (kGroupSize / 2);
          const int code = largest_code(codes, kGroupSize / 2);
          if (code * step + offset > 255) {
            found = min(found, violation(source, group, code, step, offset));
          }
        }
      }
      steps[i] = static_cast<std::uint16_t>(step | offset << 8);
    }

    // The A fragments of this thread, one half of 64 columns after the other.
    const int warp = thread / 32;
    const int lane_row = thread % 32 / 4;
    const int lane_column = thread % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = 16 * warp + lane_row + i % 2 * 8;
        const int column = half * 64 + i / 2 * 32 + 4 * lane_column;
        const std::uint8_t* codes = segments + row * kSegmentStride + column / 2;
        const std::uint32_t low = *reinterpret_cast<const std::uint16_t*>(codes);
        const std::uint32_t high = *reinterpret_cast<const std::uint16_t*>(codes + 8);
        words[i] = spread_nibbles(low) | spread_nibbles(high) << 4;
      }
      *reinterpret_cast<uint4*>(block + half * kHalfBlockBytes + thread * 16) =
          make_uint4(words[0], words[1], words[2], words[3]);
    }
    __syncthreads();

    if (thread < kRowPairs * kGroups) {
      const int pair = thread / kGroups;
      const int row = pair / 8 * 16 + pair % 8;
      const std::uint32_t upper = steps[row * kGroups + thread % kGroups];
      const std::uint32_t lower = steps[(row + 8) * kGroups + thread % kGroups];
      *reinterpret_cast<std::uint32_t*>(block + 2 * kHalfBlockBytes + thread * 4) =
          upper | lower << 16;
    }

    if (k_block == 0) pack_channel_scales<kGroupSize>(arguments, first_row, found);
  }
  if (found != kNoViolation) atomicMin(arguments.first_violation, found);
}

// Device memory in the stream's order, given back in the stream's order.
class StreamMemory {
 public:
  StreamMemory(std::size_t bytes, cudaStream_t stream)
      : stream_(stream),
        status_(cuda_status(cudaMallocAsync(&data_, bytes, stream), "cudaMallocAsync")) {}
  ~StreamMemory() {
    if (data_ != nullptr) static_cast<void>(cudaFreeAsync(data_, stream_));
  }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  const Status& status() const { return status_; }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  cudaStream_t stream_;
  Status status_;
};

bool aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

Status check_pointers(const CudaGemmDesc& desc, const CudaWeightSource& source,
                      const void* packed) {
  const auto refused = [&](const char* what) {
    return invalid_argument(source.name + ": " + what);
  };
  if (desc.group_size == kInt8Weights) {
    if (source.int8 == nullptr) return refused("the source has no INT8 weights");
    if (!aligned(source.int8, 4)) return refused("the INT8 weights are not 4-byte aligned");
  } else {
    if (source.packed == nullptr) return refused("the source has no packed codes");
    if (source.group_step == nullptr) return refused("the source has no group steps");
    if (source.group_offset == nullptr) return refused("the source has no group offsets");
    if (!aligned(source.packed, 16)) return refused("the packed codes are not 16-byte aligned");
  }
  if (source.channel_scale == nullptr) return refused("the source has no channel scales");
  if (packed == nullptr) return refused("there is no memory for the packed weight");
  if (!aligned(source.channel_scale, alignof(float))) {
    return refused("the channel scales are not 4-byte aligned");
  }
  if (!aligned(packed, 256)) {
    return refused("the memory for the packed weight is not 256-byte aligned");
  }
  return ok_status();
}

// The words of check_liquid_rows (src/quant) for the same fault.
Status describe_violation(Violation found, const CudaWeightSource& source, cudaStream_t stream) {
  const auto row = static_cast<std::int64_t>(found >> 32);
  const auto group = static_cast<std::int64_t>(found >> 20 & 0xFFF) - 1;
  const int code = static_cast<int>(found >> 16 & 0xF);
  const int step = static_cast<int>(found >> 8 & 0xFF);
  const int offset = static_cast<int>(found & 0xFF);
  const std::string place = source.name + ": row " + std::to_string(row);
  if (group < 0) {
    float scale = 0.0f;
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(&scale, source.channel_scale + row,
                                                    sizeof(scale), cudaMemcpyDeviceToHost, stream));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
    return corrupt(place + ": weight_scale is " + std::to_string(scale) +
                   ", expected a finite, positive and normal number");
  }
  if (step < 1 || step > 16) {
    return corrupt(place + ", group " + std::to_string(group) + ": group_scale is " +
                   std::to_string(step) + ", expected 1 to 16");
  }
  return corrupt(place + ", group " + std::to_string(group) + ": code " + std::to_string(code) +
                 " * group_scale " + std::to_string(step) + " + group_offset " +
                 std::to_string(offset) + " is above 255");
}

Status launch_pack(int group_size, dim3 grid, const PackArguments& arguments, cudaStream_t stream) {
  if (group_size == kInt8Weights) {
    pack_int8_kernel<<<grid, kThreads, 0, stream>>>(arguments);
  } else if (group_size == 32) {
    pack_kernel<32><<<grid, kThreads, 0, stream>>>(arguments);
  } else if (group_size == 64) {
    pack_kernel<64><<<grid, kThreads, 0, stream>>>(arguments);
  } else {
    pack_kernel<128><<<grid, kThreads, 0, stream>>>(arguments);
  }
  return launch_status("pack_weights");
}

}  // namespace
}  // namespace cuda

Status pack_weights(const CudaGemmDesc& desc, const CudaWeightSource& source, void* packed,
                    CudaStream stream) {
  using namespace cuda;
  if (Status status = check_desc(desc); !status.ok()) return status.with_context(source.name);
  LIQUIDGEMM_RETURN_IF_ERROR(check_pointers(desc, source, packed));
  Violation found = kNoViolation;
  {
    const StreamMemory first_violation(sizeof(Violation), stream);
    LIQUIDGEMM_RETURN_IF_ERROR(first_violation.status());
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(first_violation.data(), 0xFF, sizeof(Violation), stream));

    PackArguments arguments;
    arguments.int8 = source.int8;
    arguments.codes = source.packed;
    arguments.step = source.group_step;
    arguments.offset = source.group_offset;
    arguments.channel_scale = source.channel_scale;
    arguments.packed = static_cast<std::uint8_t*>(packed);
    arguments.first_violation = static_cast<Violation*>(first_violation.data());
    arguments.n = desc.n;
    arguments.k = desc.k;
    arguments.gated = desc.gated;
    // Blocks of the same rows run next to each other: their segments share DRAM pages.
    constexpr std::int64_t kMaxGridY = 65535;
    const dim3 grid(static_cast<unsigned>(column_blocks(desc.k)),
                    static_cast<unsigned>(std::min(row_blocks(desc.n), kMaxGridY)));
    LIQUIDGEMM_RETURN_IF_ERROR(launch_pack(desc.group_size, grid, arguments, stream));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(&found, first_violation.data(), sizeof(found),
                                                    cudaMemcpyDeviceToHost, stream));
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  }
  return found == kNoViolation ? ok_status() : describe_violation(found, source, stream);
}

}  // namespace liquidgemm
