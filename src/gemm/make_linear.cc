// From a weight in checkpoint form to the kernel that runs it.
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "base/status_macros.h"
#include "gemm/cpu/linear.h"
#include "gemm/gemm.h"
#include "gemm/numerics.h"
#include "gemm/packed.h"

namespace liquidgemm {
namespace {

using Kind = WeightView::Kind;

struct KernelSet {
  const cpu::IntegerKernel& liquid4;
  const cpu::IntegerKernel& int8;
  const cpu::FloatKernel& floats;
  const cpu::FloatKernel& fp16;
};

// check_isa has said yes: on another architecture only the scalar set can be asked for.
KernelSet kernels_for(Isa isa) {
#if defined(LIQUIDGEMM_X86_KERNELS)
  if (isa == Isa::kAmxInt8) {
    return {cpu::kLiquid4Amx, cpu::kInt8Amx, cpu::kFloatAvx512, cpu::kFp16Avx512};
  }
  if (isa == Isa::kAvx512Vnni) {
    return {cpu::kLiquid4Avx512, cpu::kInt8Avx512, cpu::kFloatAvx512, cpu::kFp16Avx512};
  }
  if (isa == Isa::kAvx2) {
    return {cpu::kLiquid4Avx2, cpu::kInt8Avx2, cpu::kFloatAvx2, cpu::kFp16Avx2};
  }
#endif
  (void)isa;
  return {cpu::kLiquid4Scalar, cpu::kInt8Scalar, cpu::kFloatScalar, cpu::kFp16Scalar};
}

// Of the sums, and so of the activations.
bool is_float(Kind kind) { return kind == Kind::kFloat || kind == Kind::kFp16; }

const cpu::FloatKernel& float_kernel(const WeightView& weight, const KernelSet& kernels) {
  return weight.kind == Kind::kFp16 ? kernels.fp16 : kernels.floats;
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
    case Kind::kFp16:
      if (!weight.f16) return missing(weight, "FP16 values");
      return ok_status();
  }
  return weight.channel_scale ? ok_status() : missing(weight, "channel scales");
}

// All that can_implement asks, but for the pointers.
Status check_form(const WeightView& weight, Isa isa) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_isa(isa));
  const std::string shape = std::to_string(weight.n) + " x " + std::to_string(weight.k);
  constexpr std::int64_t kMaxDimension = std::numeric_limits<std::int32_t>::max();
  if (weight.n < 1 || weight.k < 1 || weight.n > kMaxDimension || weight.k > kMaxDimension) {
    return invalid_argument(weight.name + ": a linear layer of shape " + shape +
                            ", expected both between 1 and 2147483647");
  }
  if (!is_float(weight.kind) && weight.k > numerics::kMaxK) {
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
  return ok_status();
}

// The parts as one matrix: its name and shape; the data stays in the parts.
Result<WeightView> stack(std::span<const WeightView> parts, Isa isa) {
  if (!can_stack(parts)) {
    return invalid_argument(
        "make_linear: expected matrices of one kind, one K and one group size, to be run as one");
  }
  WeightView whole = parts.front();
  whole.n = 0;
  for (const WeightView& part : parts) {
    LIQUIDGEMM_RETURN_IF_ERROR(check_form(part, isa));
    whole.n += part.n;
  }
  LIQUIDGEMM_RETURN_IF_ERROR(check_form(whole, isa));
  return whole;
}

int panel_rows(const WeightView& whole, const KernelSet& kernels) {
  return is_float(whole.kind) ? float_kernel(whole, kernels).panel_rows : cpu::kPanelRows;
}

Result<std::unique_ptr<CpuLinear>> with_kernel(const WeightView& whole, cpu::PackedWeights packed,
                                               const KernelSet& kernels, Isa isa,
                                               ThreadPool& pool) {
  if (is_float(whole.kind)) {
    return cpu::make_float_linear(whole, std::move(packed), float_kernel(whole, kernels), isa,
                                  pool);
  }
  const auto& kernel = whole.kind == Kind::kLiquid4 ? kernels.liquid4 : kernels.int8;
  return cpu::make_integer_linear(whole, std::move(packed), kernel, isa, pool);
}

}  // namespace

Status can_implement(const WeightView& weight, Isa isa) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_form(weight, isa));
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
  LIQUIDGEMM_ASSIGN_OR_RETURN(const WeightView whole, stack(parts, isa));
  for (const WeightView& part : parts) LIQUIDGEMM_RETURN_IF_ERROR(check_pointers(part));
  const KernelSet kernels = kernels_for(isa);
  LIQUIDGEMM_ASSIGN_OR_RETURN(cpu::PackedWeights packed,
                              cpu::pack_weights(parts, panel_rows(whole, kernels), pool, memory));
  return with_kernel(whole, std::move(packed), kernels, isa, pool);
}

Result<PackedLayout> packed_layout(std::span<const WeightView> parts, Isa isa) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const WeightView whole, stack(parts, isa));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const cpu::PackedWeights sizes,
                              cpu::lay_out_packed(whole, panel_rows(whole, kernels_for(isa))));
  return PackedLayout{sizes.panels, sizes.panel_bytes};
}

Result<std::unique_ptr<CpuLinear>> read_linear(std::span<const WeightView> parts, Isa isa,
                                               ThreadPool& pool, HugePageMemory* memory,
                                               PackedReader& reader) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const WeightView whole, stack(parts, isa));
  const KernelSet kernels = kernels_for(isa);
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      cpu::PackedWeights packed,
      cpu::read_packed_weights(whole, panel_rows(whole, kernels), pool, memory, reader));
  return with_kernel(whole, std::move(packed), kernels, isa, pool);
}

Result<std::unique_ptr<CpuLinear>> make_linear(const WeightView& weight, Isa isa,
                                               ThreadPool& pool) {
  return make_linear(std::span(&weight, 1), isa, pool);
}

}  // namespace liquidgemm
