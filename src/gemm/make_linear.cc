// From a weight in checkpoint form to the kernel that runs it.
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <string>

#include "base/status_macros.h"
#include "gemm/cpu/linear.h"
#include "gemm/gemm.h"
#include "gemm/numerics.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {
namespace {

using Kind = WeightView::Kind;

struct KernelSet {
  const cpu::IntegerKernel& liquid4;
  const cpu::IntegerKernel& int8;
  const cpu::FloatKernel& floats;
};

// check_isa has said yes: on another architecture only the scalar set can be asked for.
KernelSet kernels_for(Isa isa) {
#if defined(LIQUIDGEMM_X86_KERNELS)
  if (isa == Isa::kAvx512Vnni) {
    return {cpu::kLiquid4Avx512, cpu::kInt8Avx512, cpu::kFloatAvx512};
  }
  if (isa == Isa::kAvx2) return {cpu::kLiquid4Avx2, cpu::kInt8Avx2, cpu::kFloatAvx2};
#endif
  (void)isa;
  return {cpu::kLiquid4Scalar, cpu::kInt8Scalar, cpu::kFloatScalar};
}

Status missing(const WeightView& weight, const char* what) {
  return invalid_argument(weight.name + ": the view has no " + what);
}

Status check_pointers(const WeightView& weight) {
  switch (weight.kind) {
    case Kind::kLiquid4:
      if (!weight.packed) return missing(weight, "packed codes");
      if (!weight.step || !weight.offset) return missing(weight, "group steps or offsets");
      break;
    case Kind::kInt8:
      if (!weight.int8) return missing(weight, "INT8 values");
      break;
    case Kind::kFloat:
      if (!weight.f32) return missing(weight, "float values");
      return ok_status();
  }
  return weight.channel_scale ? ok_status() : missing(weight, "channel scales");
}

std::span<const std::uint8_t> bytes(const std::uint8_t* data, std::int64_t begin,
                                    std::int64_t count) {
  return {data + begin, static_cast<std::size_t>(count)};
}

// The reader's checks again, on the data that will be packed: a kernel relies on q * s + a <= 255.
Status check_data(const WeightView& weight, ThreadPool& pool) {
  if (weight.kind == Kind::kFloat) return ok_status();
  const std::span<const float> scales(weight.channel_scale, static_cast<std::size_t>(weight.n));
  if (weight.kind == Kind::kInt8) return check_int8_scales(scales, weight.name);

  const std::int64_t groups = (weight.k + weight.group_size - 1) / weight.group_size;
  const std::int64_t row_bytes = weight.k / 2;
  std::mutex mutex;
  Status first;
  std::int64_t first_row = std::numeric_limits<std::int64_t>::max();
  pool.parallel_for(weight.n, 1, [&](std::int64_t begin, std::int64_t end, int) {
    const std::int64_t rows = end - begin;
    Status status = check_liquid_rows(
        bytes(weight.packed, begin * row_bytes, rows * row_bytes),
        bytes(weight.step, begin * groups, rows * groups),
        bytes(weight.offset, begin * groups, rows * groups),
        scales.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)), rows,
        weight.k, weight.group_size, weight.name, begin);
    // Of several faults the one that lies first is reported, whatever the number of threads.
    std::lock_guard lock(mutex);
    if (!status.ok() && begin < first_row) {
      first_row = begin;
      first = status;
    }
  });
  return first;
}

}  // namespace

Status can_implement(const WeightView& weight, Isa isa) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_isa(isa));
  const std::string shape = std::to_string(weight.n) + " x " + std::to_string(weight.k);
  constexpr std::int64_t kMaxDimension = std::numeric_limits<std::int32_t>::max();
  if (weight.n < 1 || weight.k < 1 || weight.n > kMaxDimension || weight.k > kMaxDimension) {
    return invalid_argument(weight.name + ": a linear layer of shape " + shape +
                            ", expected both between 1 and 2147483647");
  }
  if (weight.kind != Kind::kFloat && weight.k > numerics::kMaxK) {
    return unsupported(weight.name + ": K is " + std::to_string(weight.k) +
                       ", but INT32 sums are exact only up to K = " +
                       std::to_string(numerics::kMaxK) + "; leave this layer unquantised");
  }
  if (weight.kind == Kind::kLiquid4) {
    const int group = weight.group_size;
    if (group != 32 && group != 64 && group != 128) {
      return invalid_argument(weight.name + ": the group size is " + std::to_string(group) +
                              ", expected 32, 64 or 128");
    }
    if (weight.k % 2 != 0) {
      return invalid_argument(weight.name + ": K is " + std::to_string(weight.k) +
                              ", but two 4-bit weights share a byte: expected an even K");
    }
  }
  return check_pointers(weight);
}

Result<std::unique_ptr<CpuLinear>> make_linear(const WeightView& weight, Isa isa,
                                               ThreadPool& pool) {
  LIQUIDGEMM_RETURN_IF_ERROR(can_implement(weight, isa));
  LIQUIDGEMM_RETURN_IF_ERROR(check_data(weight, pool));
  const KernelSet kernels = kernels_for(isa);
  if (weight.kind == Kind::kFloat) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(cpu::PackedWeights packed,
                                cpu::pack_weights(weight, kernels.floats.panel_rows, pool));
    return cpu::make_float_linear(weight, std::move(packed), kernels.floats, isa, pool);
  }
  const auto& kernel = weight.kind == Kind::kLiquid4 ? kernels.liquid4 : kernels.int8;
  LIQUIDGEMM_ASSIGN_OR_RETURN(cpu::PackedWeights packed,
                              cpu::pack_weights(weight, cpu::kPanelRows, pool));
  return cpu::make_integer_linear(weight, std::move(packed), kernel, isa, pool);
}

}  // namespace liquidgemm
