// Linear layers: Y[M, N] = W[N, K] * X[M, K]^T with INT32 sums, or in float.
//
// Desc -> can_implement -> make_linear (packs once) -> run (no allocation, any M).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/huge_page_memory.h"
#include "base/thread_pool.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

// The instruction sets a CPU kernel may be written for, weakest first.
enum class Isa { kScalar, kAvx2, kAvx512Vnni, kAmxInt8 };
inline constexpr Isa kIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAmxInt8};
std::string_view isa_name(Isa isa);    // "scalar", "avx2", "avx512-vnni", "amx-int8"
std::vector<std::string> isa_names();  // of kIsas
Result<Isa> parse_isa(std::string_view name);
// The best one this machine (and operating system) runs: it runs all weaker ones too.
Isa best_isa();
// Error when the machine lacks it: forcing an ISA is never silently something else.
Status check_isa(Isa isa);

// One matrix in checkpoint form, borrowed.
struct WeightView {
  enum class Kind { kLiquid4, kInt8, kFloat, kFp16 };
  Kind kind = Kind::kLiquid4;
  std::string name;  // the module, for messages
  std::int64_t n = 0;
  std::int64_t k = 0;
  // kLiquid4: packed [n, k/2] (low nibble = even k), step and offset [n, ceil(k / group_size)].
  int group_size = 64;
  const std::uint8_t* packed = nullptr;
  const std::uint8_t* step = nullptr;
  const std::uint8_t* offset = nullptr;
  // kInt8: [n, k].
  const std::int8_t* int8 = nullptr;
  // kLiquid4 and kInt8: [n].
  const float* channel_scale = nullptr;
  // kFloat: [n, k].
  const float* f32 = nullptr;
  // kFp16: [n, k] of binary16, at any address.
  const std::uint8_t* f16 = nullptr;
};

// Quantised rows (tokens), as the contract makes them.
struct QuantizedRows {
  std::int64_t m = 0;
  std::int64_t k = 0;
  const std::int8_t* x8 = nullptr;    // [m, k], row stride ld
  std::int64_t ld = 0;                // >= k
  const float* scale = nullptr;       // [m]
  const std::int32_t* sum = nullptr;  // [m], sum of x8 over k
};

struct PackedView;  // gemm/packed.h

// A packed weight matrix and the kernels that run it. Immutable once it is set up: any number of
// threads may use it.
class CpuLinear {
 public:
  virtual ~CpuLinear() = default;

  std::int64_t n() const { return n_; }
  std::int64_t k() const { return k_; }
  virtual bool takes_float() const = 0;  // false: takes QuantizedRows
  virtual std::size_t packed_bytes() const = 0;
  virtual std::string describe() const = 0;  // "liquid4 g64 avx512-vnni", ...
  // What its kernels read; lives as long as this object.
  virtual PackedView packed() const = 0;

  // A hint, before the first product: the weights that are read after these. The kernels of 4-bit
  // weights ask the memory for the first of them while they read their own last ones. `next` may go
  // before this one.
  virtual void followed_by(const CpuLinear& next) { (void)next; }

  // The k weights of one row as floats: the value as stored, times its scale. A model whose head is
  // its embedding keeps that table once, and reads the embeddings here.
  virtual void weight_row(std::int64_t row, float* out) const = 0;

  // INT32 sums sum_k (q*s + a - 128) * x8 (or w8 * x8), exact on every ISA. out [m, n], stride n.
  virtual void accumulate(const QuantizedRows& x, std::int32_t* out, ThreadPool& pool) const = 0;

  // out[m, n] = float(acc) * (s_x * s_ch) (+ bias), row stride ld_out.
  virtual void run(const QuantizedRows& x, const float* bias, float* out, std::int64_t ld_out,
                   ThreadPool& pool) const = 0;
  // Float rows [m, k], stride ld_x, in the contract's summation order, which does not depend on m.
  // kFp16: the rows are rounded to binary16 first.
  virtual void run_float(const float* x, std::int64_t m, std::int64_t ld_x, const float* bias,
                         float* out, std::int64_t ld_out, ThreadPool& pool) const = 0;

 protected:
  std::int64_t n_ = 0;
  std::int64_t k_ = 0;
};

// Ok, or the reason: K over numerics::kMaxK, a group size that is not 32, 64 or 128, K odd, ...
Status can_implement(const WeightView& weight, Isa isa);

// Whether matrices can be run as one, stacked along N: the same kind, K and group size.
bool can_stack(std::span<const WeightView> parts);

// Checks the data (check_liquid_rows), packs it for `isa`. The views are not needed afterwards; the
// packed weights lie in `memory`, or without one in memory of their own. `parts` are stacked along
// N and can_stack.
Result<std::unique_ptr<CpuLinear>> make_linear(std::span<const WeightView> parts, Isa isa,
                                               ThreadPool& pool, HugePageMemory* memory = nullptr);
Result<std::unique_ptr<CpuLinear>> make_linear(const WeightView& weight, Isa isa, ThreadPool& pool);

// ---- The oracle (reference.cc): plain loops over the checkpoint form ----------------------------

void reference_accumulate(const WeightView& weight, const QuantizedRows& x, std::int32_t* out);
void reference_run(const WeightView& weight, const QuantizedRows& x, const float* bias, float* out,
                   std::int64_t ld_out);
void reference_run_float(const WeightView& weight, const float* x, std::int64_t m,
                         std::int64_t ld_x, const float* bias, float* out, std::int64_t ld_out);
// One row: x8, scale and sum. Returns false when the row holds a NaN or an infinity.
bool reference_quantize_row(const float* x, std::int64_t k, std::int8_t* x8, float* scale,
                            std::int32_t* sum);

}  // namespace liquidgemm
