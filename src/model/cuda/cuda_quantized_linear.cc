#include "model/cuda/cuda_quantized_linear.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "base/status_macros.h"

namespace liquidgemm {
namespace {

using cuda::DeviceBuffer;

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// How parts are held together.
struct Stack {
  std::vector<std::int64_t> first_row;  // of each part
  CudaGemmDesc desc;                    // n with padding

  bool is_int8() const { return desc.group_size == kInt8Weights; }
};

Stack stack_of(std::span<const WeightView> parts, bool gated) {
  Stack stack;
  CudaGemmDesc& desc = stack.desc;
  desc.k = parts.front().k;
  desc.group_size = parts.front().group_size;
  desc.output = CudaOutput::kFloat32;
  for (const WeightView& part : parts) {
    if (part.kind != WeightView::Kind::kLiquid4 || part.group_size != desc.group_size) {
      desc.group_size = kInt8Weights;
    }
    stack.first_row.push_back(desc.n);
    desc.n += gated ? round_up(part.n, 8) : part.n;
  }
  desc.n = round_up(desc.n, 8);
  desc.gated = gated;
  return stack;
}

template <typename T>
Status upload(DeviceBuffer& buffer, std::int64_t offset, const T* from, std::int64_t count) {
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpy(buffer.as<T>() + offset, from,
                                             static_cast<std::size_t>(count) * sizeof(T),
                                             cudaMemcpyHostToDevice));
  return ok_status();
}

Result<DeviceBuffer> allocate(std::int64_t bytes) {
  return DeviceBuffer::allocate(static_cast<std::size_t>(bytes), "weights");
}

// The checkpoint's form of stacked parts: LiquidQuant's, or levels of INT8.
struct WeightUpload {
  DeviceBuffer packed, step, offset, int8, scale;
};

Status upload_liquid(std::span<const WeightView> parts, const Stack& stack, WeightUpload& to) {
  const auto [n, k] = std::pair(stack.desc.n, stack.desc.k);
  const std::int64_t groups = (k + stack.desc.group_size - 1) / stack.desc.group_size;
  const std::int64_t half = k / 2;
  LIQUIDGEMM_ASSIGN_OR_RETURN(to.packed, allocate(n * half));
  LIQUIDGEMM_ASSIGN_OR_RETURN(to.step, allocate(n * groups));
  LIQUIDGEMM_ASSIGN_OR_RETURN(to.offset, allocate(n * groups));
  LIQUIDGEMM_ASSIGN_OR_RETURN(to.scale, allocate(n * 4));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const WeightView& part = parts[i];
    const std::int64_t row = stack.first_row[i];
    LIQUIDGEMM_RETURN_IF_ERROR(upload(to.packed, row * half, part.packed, part.n * half));
    LIQUIDGEMM_RETURN_IF_ERROR(upload(to.step, row * groups, part.step, part.n * groups));
    LIQUIDGEMM_RETURN_IF_ERROR(upload(to.offset, row * groups, part.offset, part.n * groups));
    LIQUIDGEMM_RETURN_IF_ERROR(upload(to.scale, row, part.channel_scale, part.n));
  }
  return ok_status();
}

// INT8 levels of a part: as they are, or q * s + a - 128.
std::vector<std::int8_t> int8_levels(const WeightView& part) {
  const auto values = static_cast<std::size_t>(part.n * part.k);
  if (part.kind == WeightView::Kind::kInt8) return {part.int8, part.int8 + values};
  const std::int64_t groups = (part.k + part.group_size - 1) / part.group_size;
  std::vector<std::int8_t> levels(values);
  for (std::int64_t row = 0; row < part.n; ++row) {
    for (std::int64_t k = 0; k < part.k; ++k) {
      const std::int64_t at = row * part.k + k;
      const int code = part.packed[at / 2] >> (at % 2 * 4) & 15;
      const std::int64_t group = row * groups + k / part.group_size;
      levels[static_cast<std::size_t>(at)] =
          static_cast<std::int8_t>(code * part.step[group] + part.offset[group] - 128);
    }
  }
  return levels;
}

// Padding rows have levels of 0 and a scale of 1.
Status upload_int8(std::span<const WeightView> parts, const Stack& stack, WeightUpload& to) {
  const auto [n, k] = std::pair(stack.desc.n, stack.desc.k);
  LIQUIDGEMM_ASSIGN_OR_RETURN(to.int8, allocate(n * k));
  LIQUIDGEMM_ASSIGN_OR_RETURN(to.scale, allocate(n * 4));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(to.int8.bytes(), 0, to.int8.size()));
  const std::vector<float> ones(static_cast<std::size_t>(n), 1.0f);
  LIQUIDGEMM_RETURN_IF_ERROR(upload(to.scale, 0, ones.data(), n));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::vector<std::int8_t> values = int8_levels(parts[i]);
    const std::int64_t row = stack.first_row[i];
    LIQUIDGEMM_RETURN_IF_ERROR(
        upload(to.int8, row * k, values.data(), static_cast<std::int64_t>(values.size())));
    LIQUIDGEMM_RETURN_IF_ERROR(upload(to.scale, row, parts[i].channel_scale, parts[i].n));
  }
  return ok_status();
}

// Every reader checks the data; the device's repacking does for LiquidQuant, but it knows the stack
// alone. This names the part.
Status check_parts(std::span<const WeightView> parts) {
  for (const WeightView& part : parts) {
    const std::span<const float> scale(part.channel_scale, static_cast<std::size_t>(part.n));
    if (part.kind == WeightView::Kind::kInt8) {
      LIQUIDGEMM_RETURN_IF_ERROR(check_int8_scales(scale, part.name));
      continue;
    }
    const auto groups =
        static_cast<std::size_t>(part.n * ((part.k + part.group_size - 1) / part.group_size));
    LIQUIDGEMM_RETURN_IF_ERROR(check_liquid_rows(
        {part.packed, static_cast<std::size_t>(part.n * part.k / 2)}, {part.step, groups},
        {part.offset, groups}, scale, part.n, part.k, part.group_size, part.name));
  }
  return ok_status();
}

// Plans of all layers alike.
std::shared_ptr<std::map<std::int64_t, CudaGemmPlan>> shared_plans(const CudaGemmDesc& desc,
                                                                   int device) {
  using Key = std::array<std::int64_t, 6>;
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<std::map<std::int64_t, CudaGemmPlan>>> all;
  const std::lock_guard lock(mutex);
  auto& known = all[{desc.n, desc.k, desc.group_size, desc.bias, desc.gated, device}];
  auto plans = known.lock();
  if (!plans) known = plans = std::make_shared<std::map<std::int64_t, CudaGemmPlan>>();
  return plans;
}

}  // namespace

std::size_t CudaQuantizedLinear::bytes_of(std::span<const WeightView> forms, bool gated) {
  return packed_weight_bytes(stack_of(forms, gated).desc);
}

Result<std::unique_ptr<CudaLinear>> CudaQuantizedLinear::make(std::span<const LoadedMatrix> parts,
                                                              bool gated, const CudaDevice& device,
                                                              cudaStream_t stream) {
  std::vector<WeightView> views;
  for (const LoadedMatrix& part : parts) views.push_back(part.view());
  Stack stack = stack_of(views, gated);
  auto linear = std::make_unique<CudaQuantizedLinear>();
  linear->device_ = &device;
  linear->width_ = gated ? stack.desc.n / 2 : stack.desc.n;
  if (!parts.front().bias.empty()) {
    stack.desc.bias = true;
    std::vector<float> bias(static_cast<std::size_t>(stack.desc.n), 0.0f);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      std::copy(parts[i].bias.begin(), parts[i].bias.end(), bias.begin() + stack.first_row[i]);
    }
    LIQUIDGEMM_ASSIGN_OR_RETURN(linear->bias_, allocate(stack.desc.n * 4));
    LIQUIDGEMM_RETURN_IF_ERROR(upload(linear->bias_, 0, bias.data(), stack.desc.n));
  }
  linear->desc_ = stack.desc;
  linear->plans_ = shared_plans(stack.desc, device.index);
  const std::string& name = views.front().name;
  if (const Status status = can_implement(stack.desc, device); !status.ok()) {
    return status.with_context(name);
  }
  // The levels of what is packed as INT8 are not looked at again.
  if (stack.is_int8()) LIQUIDGEMM_RETURN_IF_ERROR(check_parts(views));

  WeightUpload source;
  LIQUIDGEMM_RETURN_IF_ERROR(stack.is_int8() ? upload_int8(views, stack, source)
                                             : upload_liquid(views, stack, source));
  LIQUIDGEMM_ASSIGN_OR_RETURN(linear->packed_,
                              allocate(static_cast<std::int64_t>(packed_weight_bytes(stack.desc))));
  const Status packed = pack_weights(stack.desc,
                                     {.packed = source.packed.as<std::uint8_t>(),
                                      .group_step = source.step.as<std::uint8_t>(),
                                      .group_offset = source.offset.as<std::uint8_t>(),
                                      .int8 = source.int8.as<std::int8_t>(),
                                      .channel_scale = source.scale.as<float>(),
                                      .name = name},
                                     linear->packed_.bytes(), stream);
  if (!packed.ok()) {
    LIQUIDGEMM_RETURN_IF_ERROR(check_parts(views));
    return packed;
  }
  return std::unique_ptr<CudaLinear>(std::move(linear));
}

Result<const CudaGemmPlan*> CudaQuantizedLinear::plan(std::int64_t m) {
  const auto found = plans_->find(m);
  if (found != plans_->end()) return &found->second;
  LIQUIDGEMM_ASSIGN_OR_RETURN(CudaGemmPlan made, CudaGemmPlan::make(desc_, m, *device_));
  return &plans_->emplace(m, std::move(made)).first->second;
}

Result<std::size_t> CudaQuantizedLinear::workspace_bytes(std::int64_t m) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const CudaGemmPlan* made, plan(m));
  return made->workspace_bytes();
}

std::string CudaQuantizedLinear::describe() const {
  if (desc_.group_size == kInt8Weights) return "int8, w8a8 sm90";
  return "liquid4 g" + std::to_string(desc_.group_size) + ", w4a8 sm90";
}

Status CudaQuantizedLinear::run(const CudaRows& x, const CudaOutputRows& out, void* workspace,
                                cudaStream_t stream) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const CudaGemmPlan* made, plan(x.m));
  CudaGemmArguments arguments;
  arguments.weights = packed_.bytes();
  arguments.x8 = x.x8;
  arguments.ld_x = x.ld;
  arguments.x_scale = x.scale;
  arguments.x_sum = x.sum;
  arguments.bias = desc_.bias ? bias_.as<float>() : nullptr;
  arguments.y = out.y;
  arguments.y_amax = out.amax;
  arguments.ld_y = width_;
  arguments.workspace = workspace;
  // No kernel of a step writes weights or workspace but the linear layers, and never two of them
  // follow each other.
  arguments.programmatic_launch = true;
  return made->launch(arguments, stream);
}

}  // namespace liquidgemm
