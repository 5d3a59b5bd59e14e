// From a weight in checkpoint form to the kernel that runs it.
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "base/status_macros.h"
#include "gemm/cpu/linear.h"
#include "gemm/gemm.h"
#include "gemm/numerics.h"

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

bool can_stack(std::span<const WeightView> parts) {
  for (const WeightView& part : parts) {
    const WeightView& first = parts.front();
    if (part.kind != first.kind || part.k != first.k) return false;
    if (part.kind == Kind::kLiquid4 && part.group_size != first.group_size) return false;
  }
  return !parts.empty();
}

Result<std::unique_ptr<CpuLinear>> make_linear(std::span<const WeightView> parts, Isa isa,
                                               ThreadPool& pool, HugePageMemory* memory) {
  if (!can_stack(parts)) {
    return invalid_argument(
        "make_linear: expected matrices of one kind, one K and one group size, to be run as one");
  }
  WeightView whole = parts.front();  // its name and shape, for messages; the data stays in parts
  whole.n = 0;
  for (const WeightView& part : parts) {
    LIQUIDGEMM_RETURN_IF_ERROR(can_implement(part, isa));
    whole.n += part.n;
  }
  LIQUIDGEMM_RETURN_IF_ERROR(can_implement(whole, isa));
  const KernelSet kernels = kernels_for(isa);
  if (whole.kind == Kind::kFloat) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(cpu::PackedWeights packed,
                                cpu::pack_weights(parts, kernels.floats.panel_rows, pool, memory));
    return cpu::make_float_linear(whole, std::move(packed), kernels.floats, isa, pool);
  }
  const auto& kernel = whole.kind == Kind::kLiquid4 ? kernels.liquid4 : kernels.int8;
  LIQUIDGEMM_ASSIGN_OR_RETURN(cpu::PackedWeights packed,
                              cpu::pack_weights(parts, cpu::kPanelRows, pool, memory));
  return cpu::make_integer_linear(whole, std::move(packed), kernel, isa, pool);
}

Result<std::unique_ptr<CpuLinear>> make_linear(const WeightView& weight, Isa isa,
                                               ThreadPool& pool) {
  return make_linear(std::span(&weight, 1), isa, pool);
}

}  // namespace liquidgemm
