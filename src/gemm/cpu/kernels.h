// The border between the drivers (plain C++, compiled for the baseline machine) and the kernels
// (one file for each instruction set, compiled with its own flags).
//
// Only plain structs and function pointers cross it. A kernel file includes nothing else but
// intrinsics: an inline function or a template shared with the rest of the program would be
// compiled twice, and the linker might keep the copy with the wide instructions for everybody.
#pragma once

#include <cstdint>

namespace liquidgemm::cpu {

// Output rows (n) of one panel of INT8 or 4-bit weights. packed_weights.h draws the panels.
inline constexpr int kPanelRows = 32;

// Tokens of INT8 that lie interleaved, and k of one token that lie together where a kernel wants
// whole lines. packed_activations.h draws the tiles.
inline constexpr std::int64_t kQuad = 4;
inline constexpr std::int64_t kLine = 64;

// The orders of INT8 activations that packed_activations.h draws.
enum class ActivationOrder { kQuads, kWideWords, kLines };

// How far ahead of its loads a kernel that streams weights from memory asks for them. The hardware
// looks ahead too, but stops at the end of each 4 KiB page and waits for loads that stand behind
// the arithmetic; a core then holds fewer lines under way than it could. A request for what lies
// past the weights does no harm.
inline constexpr std::int64_t kPrefetchBytes = 4096;

// One GEMM with INT32 sums over a block of tokens. The tokens are cut into `tiles` tiles of nearly
// equal height: tile t holds tokens m * t / tiles up to m * (t + 1) / tiles (excluded), at most
// IntegerKernel::max_tile of them. packed_activations.h draws the tiles.
struct IntegerJob {
  // Weights.
  const std::uint8_t* panels;
  std::int64_t panel_bytes;
  std::int64_t n;              // real rows; the last panel may be partly padding
  std::int64_t k;              // padded: a multiple of 8 (4-bit) or 4 (INT8)
  std::int64_t group_size;     // 4-bit only
  const float* channel_scale;  // padded with zeros to whole panels
  const std::uint8_t* next;    // the calling thread's panels of the product after this, or null

  // Activations, in tiles.
  const void* x;                   // in the order that the kernel says
  const std::int16_t* group_sums;  // only for m <= IntegerKernel::sums_up_to
  std::int64_t m;
  std::int64_t tiles;
  const float* row_scale;       // [m]
  const std::int32_t* row_sum;  // [m]

  // Output: INT32 sums or floats, the other pointer is null. Row stride ld_out.
  std::int32_t* sums;
  float* out;
  std::int64_t ld_out;
  const float* bias;  // [n] or null
};

struct IntegerKernel {
  // Computes panels panel_begin .. panel_end - 1 for all tokens of the job. `scratch` is the
  // worker's own: 64-byte aligned, scratch_bytes(k) bytes, or none without that function.
  void (*run)(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end,
              void* scratch);
  int max_tile;
  ActivationOrder order;
  std::int64_t sums_up_to;  // jobs of at most this many tokens need group_sums
  std::int64_t (*scratch_bytes)(std::int64_t k);
};

// One GEMM in float. Tiles as above; panels have FloatKernel::panel_rows rows.
struct FloatJob {
  const void* panels;  // float, or binary16 for a kernel of FP16 weights
  std::int64_t n;
  std::int64_t k;
  std::int64_t block;  // numerics::kFloatBlock
  const float* x;
  std::int64_t m;
  std::int64_t tiles;
  float* out;
  std::int64_t ld_out;
  const float* bias;
};

struct FloatKernel {
  // `scratch` holds m * scratch_per_token floats.
  void (*run)(const FloatJob& job, std::int64_t panel_begin, std::int64_t panel_end,
              float* scratch);
  int max_tile;
  int panel_rows;
  int scratch_per_token;
};

// Rows to INT8. `finite` and `largest` come first, the scales are plain code, then the values:
// the split keeps the contract's divisions in one place (quantize_rows.cc).
struct QuantizeKernel {
  // max |x|; false when x holds a NaN or an infinity (then `largest` is unspecified).
  bool (*largest)(const float* x, std::int64_t k, float* largest);
  // clamp(rint(x * reciprocal), -127, 127), and their sum.
  std::int32_t (*quantize)(const float* x, std::int64_t k, float reciprocal, std::int8_t* x8);
};

extern const IntegerKernel kLiquid4Scalar;
extern const IntegerKernel kInt8Scalar;
extern const FloatKernel kFloatScalar;
extern const FloatKernel kFp16Scalar;
extern const QuantizeKernel kQuantizeScalar;

#if defined(LIQUIDGEMM_X86_KERNELS)
extern const IntegerKernel kLiquid4Avx2;
extern const IntegerKernel kInt8Avx2;
extern const FloatKernel kFloatAvx2;
extern const FloatKernel kFp16Avx2;
extern const QuantizeKernel kQuantizeAvx2;

extern const IntegerKernel kLiquid4Avx512;
extern const IntegerKernel kInt8Avx512;
extern const FloatKernel kFloatAvx512;
extern const FloatKernel kFp16Avx512;
extern const QuantizeKernel kQuantizeAvx512;

extern const IntegerKernel kLiquid4Amx;
extern const IntegerKernel kInt8Amx;
#endif

}  // namespace liquidgemm::cpu
