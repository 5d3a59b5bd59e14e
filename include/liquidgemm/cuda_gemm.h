// The W4A8 linear layer on a Hopper GPU (compute capability 9.0):
//
//   Y[M, N] = dequant(W)[N, K] * X8[M, K]^T        INT32 sums, exact (docs/numerics.md)
//
// and the same with INT8 weights, for layers that stay in 8 bits.
//
// CudaGemmDesc -> can_implement -> CudaWeights (packed once) -> CudaGemmPlan (once for each M)
// -> launch (no allocation, no synchronisation, no environment read; may be captured in a graph).
//
// A build without the CUDA toolkit has the same interface; every call then returns kUnsupported.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "liquidgemm/status.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace liquidgemm {

using CudaStream = CUstream_st*;

// What a plan needs to know of a GPU.
struct CudaDevice {
  int index = 0;
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  std::size_t shared_bytes_per_block = 0;  // the opt-in limit
  double clock_hertz = 0;                  // of the multiprocessors, at most
  double memory_bytes_per_second = 0;      // by clock and width of the memory; 0: not known
  int driver_version = 0;                  // 13000 is CUDA 13.0
  // clusters[c]: how many clusters of c blocks, each block alone on a multiprocessor, run at once.
  // Fewer than multiprocessors / c, because a cluster lies in one part of the chip. 0: not known.
  std::array<int, 9> clusters{};
};

// The device, made current for this thread. kUnsupported when there is no driver, no such device
// or this build has no CUDA; the message says which.
Result<CudaDevice> open_cuda_device(int index = 0);

enum class CudaOutput {
  kFloat16,
  kBFloat16,
  kFloat32,
  kInt32,  // the bare sums, corrected for the offset of 128: for tests
};
std::string_view cuda_output_name(CudaOutput output);  // "f16", "bf16", "f32", "i32"

// In the place of a group size: weights of 8 bits, a scale a channel.
inline constexpr int kInt8Weights = 0;

struct CudaGemmDesc {
  std::int64_t n = 0;   // output channels, a multiple of 8
  std::int64_t k = 0;   // input channels, at most 66,311; a multiple of 32 but for INT8 weights
  int group_size = 64;  // 32, 64 or 128 along K, the last group may be short; or kInt8Weights
  CudaOutput output = CudaOutput::kFloat16;
  bool bias = false;
  // The weight is n/2 gate rows, then n/2 up rows; y[m, n/2] = SiLU(gate) * up. n a multiple of 16.
  // With CudaOutput::kInt32 the sums come out as [m, n]: gates, then ups.
  bool gated = false;
};

// Ok, or the reason why this device or these shapes are refused.
Status can_implement(const CudaGemmDesc& desc, const CudaDevice& device);

// One weight in checkpoint form (docs/format.md), in device memory, borrowed. LiquidQuant weights
// have the first three fields, INT8 weights the fourth.
struct CudaWeightSource {
  const std::uint8_t* packed = nullptr;        // [n, k/2], low nibble = even k
  const std::uint8_t* group_step = nullptr;    // [n, ceil(k / group_size)], 1 .. 16
  const std::uint8_t* group_offset = nullptr;  // [n, ceil(k / group_size)]
  const std::int8_t* int8 = nullptr;           // [n, k]
  const float* channel_scale = nullptr;        // [n]
  std::string name;                            // the tensor, for messages
};

// Bytes of the kernels' own layout: codes, steps and offsets, channel scales, padding included.
std::size_t packed_weight_bytes(const CudaGemmDesc& desc);

// Repacks into `packed` (device memory of packed_weight_bytes, 256-byte aligned) and checks the
// contract on the way: 1 <= step <= 16, largest code of a group * step + offset <= 255, channel
// scale finite, positive and normal. Anything else is kCorrupt, naming tensor, row and
// group. Waits for `stream`.
Status pack_weights(const CudaGemmDesc& desc, const CudaWeightSource& source, void* packed,
                    CudaStream stream);

// Each row's largest magnitude ("amax"), gathered by the product that makes the rows, so that
// quantising them needs no look at all of a row first: the bits of floats, ordered like the floats
// themselves, NaN above all. A row has kCudaAmaxParts of them, and the largest counts; products
// raise whichever they like, which keeps them out of each other's way.
inline constexpr int kCudaAmaxParts = 8;
struct CudaRowAmax {
  std::uint32_t* parts = nullptr;  // [kCudaAmaxParts][stride], zero before; or null
  std::int64_t stride = 0;         // at least m; best a multiple of 32
};

struct CudaGemmArguments {
  const void* weights = nullptr;        // what pack_weights wrote
  const std::int8_t* x8 = nullptr;      // [m, k], row stride ld_x bytes; 16-byte aligned
  std::int64_t ld_x = 0;                // a multiple of 16, >= k
  const float* x_scale = nullptr;       // [m]
  const std::int32_t* x_sum = nullptr;  // [m], sum of x8 over k
  const float* bias = nullptr;          // [n], when the desc has one
  void* y = nullptr;                    // [m, n] (gated: [m, n/2]); 16-byte aligned
  std::int64_t ld_y = 0;                // row stride in elements, a multiple of 8
  void* workspace = nullptr;            // workspace_bytes() of the plan, zero before the first use
  CudaRowAmax y_amax = {};              // raised to what y has; gated kFloat32 alone
  // Lets the weights load before the previous kernel of the stream has ended. The previous kernel
  // must not write the weights, the bias or the workspace.
  bool programmatic_launch = false;
};

class CudaGemmPlan {
 public:
  // `m`: tokens, 1 or more. `schedule`: empty, or what describe() printed as schedule.
  static Result<CudaGemmPlan> make(const CudaGemmDesc& desc, std::int64_t m,
                                   const CudaDevice& device, std::string_view schedule = "");

  CudaGemmPlan();
  ~CudaGemmPlan();
  CudaGemmPlan(CudaGemmPlan&&) noexcept;
  CudaGemmPlan& operator=(CudaGemmPlan&&) noexcept;

  // Bytes of device memory that two launches at once must not share. Zeroed once by the caller;
  // every launch leaves the part that must be zero as it found it, so all plans of a device can
  // take turns with one workspace, as large as the largest asks for.
  std::size_t workspace_bytes() const;
  // "w4a8 sm90 128x64 ..., schedule ...".
  std::string describe() const;
  // The part of describe() that make() takes back.
  std::string schedule() const;

  Status launch(const CudaGemmArguments& arguments, CudaStream stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// ---- Activations -------------------------------------------------------------------------------

enum class CudaFloat { kFloat16, kBFloat16, kFloat32 };

// Per token: m = max|x|, s_x = m / 127, x8 = rint(x * (127 / m)), the sum of x8. A row that is not
// finite: x8 = 0, scale NaN. Bit-equal to the CPU's.
struct CudaQuantizeArguments {
  const void* x = nullptr;  // [m, k], row stride ld_x elements, 16-byte aligned rows
  std::int64_t ld_x = 0;
  CudaFloat type = CudaFloat::kFloat16;
  std::int64_t m = 0;
  std::int64_t k = 0;         // a multiple of 8
  std::int8_t* x8 = nullptr;  // [m, k], row stride ld_x8 bytes
  std::int64_t ld_x8 = 0;
  float* scale = nullptr;       // [m]
  std::int32_t* sum = nullptr;  // [m]
  // Of x, float32, where it is known (quantize_rows alone). Many blocks then share a row, and
  // `sum`, zero before, is added to.
  CudaRowAmax amax = {};
};
Status quantize_rows(const CudaQuantizeArguments& arguments, CudaStream stream);

// residual += x (x may be null: nothing is added), rounded to the residual's type; then
// RMSNorm(residual) * norm_weight in float, quantised as above. k at most 65,536.
struct CudaAddNormQuantizeArguments {
  CudaQuantizeArguments rows;    // rows.x is what is added
  void* residual = nullptr;      // [m, k], read and written
  std::int64_t ld_residual = 0;  // elements
  CudaFloat residual_type = CudaFloat::kFloat16;
  const float* norm_weight = nullptr;  // [k]
  float epsilon = 1e-5f;
  // Set to zero on the way: what the kernels behind this one gather in.
  std::uint32_t* cleared = nullptr;
  std::int64_t cleared_words = 0;
};
Status add_norm_quantize_rows(const CudaAddNormQuantizeArguments& arguments, CudaStream stream);

}  // namespace liquidgemm
