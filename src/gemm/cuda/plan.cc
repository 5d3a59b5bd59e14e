#include "gemm/cuda/plan.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/desc_check.h"
#include "gemm/cuda/layout.h"
#include "gemm/cuda/ptx/cache_policy.h"

namespace liquidgemm {
namespace cuda {
namespace {

template <int kGroupSize>
const KernelEntry* find_kernel(const Schedule& schedule) {
  for (const auto table :
       {kernels<8, kGroupSize>, kernels<16, kGroupSize>, kernels<32, kGroupSize>,
        kernels<64, kGroupSize>, kernels<96, kGroupSize>, kernels<128, kGroupSize>,
        kernels<160, kGroupSize>, kernels<192, kGroupSize>, kernels<224, kGroupSize>,
        kernels<256, kGroupSize>}) {
    for (const KernelEntry& entry : table()) {
      if (entry.tokens == schedule.tokens && entry.blocks == schedule.blocks &&
          entry.groups == schedule.groups && entry.depth == schedule.depth) {
        return &entry;
      }
    }
  }
  return nullptr;
}

// The driver's encoder of tensor maps, without linking to the driver.
using EncodeTiled = decltype(&cuTensorMapEncodeTiled);
Result<EncodeTiled> find_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  LIQUIDGEMM_RETURN_IF_ERROR(cuda_status(error, "cudaGetDriverEntryPoint"));
  if (function == nullptr || found != cudaDriverEntryPointSuccess) {
    return unsupported("CUDA: the driver has no cuTensorMapEncodeTiled");
  }
  return reinterpret_cast<EncodeTiled>(function);
}

// A tensor of kRank dimensions in boxes, the innermost first; strides in bytes, of the others.
template <std::size_t kRank>
Status encode_map(EncodeTiled encode, const void* data, CUtensorMapDataType type,
                  const std::array<std::int64_t, kRank>& extents,
                  const std::array<std::int64_t, kRank - 1>& strides,
                  const std::array<int, kRank>& box, CUtensorMapSwizzle swizzle, CUtensorMap& map) {
  std::array<cuuint64_t, kRank> extent;
  std::array<cuuint64_t, kRank - 1> stride;
  std::array<cuuint32_t, kRank> boxes, step;
  std::copy(extents.begin(), extents.end(), extent.begin());
  std::copy(strides.begin(), strides.end(), stride.begin());
  std::copy(box.begin(), box.end(), boxes.begin());
  step.fill(1);
  const CUresult code =
      encode(&map, type, kRank, const_cast<void*>(data), extent.data(), stride.data(), boxes.data(),
             step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code == CUDA_SUCCESS) return ok_status();
  return internal_error("w4a8 gemm: cuTensorMapEncodeTiled returned " + std::to_string(code));
}

bool aligned(const void* pointer, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

// Ahead of the kernel before, weights are asked for at three quarters of what memory can deliver,
// but for as many bytes at once as it takes to keep it busy (measured, docs/gpu.md). A ring that
// holds little does not keep it long, and mostly has no time to fill. `stage_bytes` of weights, by
// each of `blocks`.
void set_pace(const CudaDevice& device, int stage_bytes, int blocks, W4A8Parameters& p) {
  constexpr int kBurstBytes = 24 << 10, kSmallRing = 64 << 10;
  constexpr double kShareOfMemory = 0.75;
  p.burst =
      p.stages * stage_bytes <= kSmallRing ? p.stages : std::max(1, kBurstBytes / stage_bytes);
  if (device.memory_bytes_per_second <= 0) return;
  const double seconds =
      static_cast<double>(stage_bytes) * blocks / (kShareOfMemory * device.memory_bytes_per_second);
  p.pace = static_cast<int>(seconds * device.clock_hertz);
}

}  // namespace

const KernelEntry* find_kernel(const Schedule& schedule, int group_size) {
  switch (group_size) {
    case kInt8Weights: return find_kernel<kInt8Weights>(schedule);
    case 32: return find_kernel<32>(schedule);
    case 64: return find_kernel<64>(schedule);
    default: return find_kernel<128>(schedule);
  }
}

Status make_plan(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device,
                 const Schedule& schedule, const KernelEntry* kernel, KernelPlan& plan) {
  plan.desc = desc;
  plan.schedule = schedule;
  plan.kernel = kernel;
  LIQUIDGEMM_ASSIGN_OR_RETURN(plan.work, divide_work(schedule, desc, m, device));
  if (kernel == nullptr) {
    return invalid_argument("schedule " + format_schedule(schedule) +
                            ": no kernel has these tokens, blocks, groups and depth");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(plan.encode, find_encoder());
  // The attribute is the kernel's, not the plan's: always the most, or a later plan with fewer
  // stages would take it away from this one.
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(plan.kernel->kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(device.shared_bytes_per_block)));

  W4A8Parameters& p = plan.parameters;
  p.n = static_cast<int>(desc.n);
  p.m = static_cast<int>(m);
  p.row_blocks = static_cast<int>(row_blocks(desc.n));
  p.column_blocks = static_cast<int>(column_blocks(desc.k));
  p.row_tiles = plan.work.row_tiles;
  p.token_tiles = plan.work.token_tiles;
  const TileSizes sizes = tile_sizes(schedule, desc.group_size);
  // Boxes end where the tensors do (w4a8_pipeline.cuh).
  const int w_blocks = std::min(sizes.tile_blocks(), p.row_blocks);
  p.last_row_block = p.row_blocks - w_blocks;
  p.last_token = std::max(p.m - schedule.tokens, 0);
  // Shares of multicast begin where the swizzle does.
  const int shares = schedule.multicast == 1 ? 1 : 8 * schedule.multicast;
  const int rows = std::min(schedule.tokens, p.m);
  p.x_rows = (rows + shares - 1) / shares * shares / schedule.multicast;
  p.stage_bytes = schedule.multicast * p.x_rows * kBlockColumns +
                  w_blocks * static_cast<int>(block_bytes(desc.group_size));
  p.by_token_tiles = Divisor(p.token_tiles);
  p.by_column_blocks = Divisor(p.column_blocks);
  p.stages = plan.work.stages;
  set_pace(device, w_blocks * static_cast<int>(block_bytes(desc.group_size)), plan.work.grid, p);
  p.split = schedule.split;
  p.split_share = p.column_blocks / p.split;
  p.split_extra = p.column_blocks % p.split;
  p.exchange_offset = static_cast<int>(plan.work.exchange_offset);
  p.exchange_apart = plan.work.exchange_apart;
  p.staging_offset = static_cast<int>(plan.work.staging_offset);
  p.exchange_most = plan.work.exchange_most;
  for (int i = 0; i < 8; ++i) {
    p.exchange_bytes[i] = static_cast<std::uint32_t>(plan.work.exchange_bytes[i]);
  }
  p.multicast = schedule.multicast;
  p.workers = plan.work.workers;
  p.stream_tiles = plan.work.stream_tiles;
  const int stream = p.stream_tiles * p.column_blocks;
  p.stream_share = stream / p.workers;
  p.stream_extra = stream % p.workers;
  p.gated = desc.gated;
  switch (desc.output) {
    case CudaOutput::kFloat16: p.output = OutputType::kFloat16; break;
    case CudaOutput::kBFloat16: p.output = OutputType::kBFloat16; break;
    case CudaOutput::kFloat32: p.output = OutputType::kFloat32; break;
    case CudaOutput::kInt32: p.output = OutputType::kInt32; break;
  }
  // Weights that are read once leave the L2 to the activations, which every row tile reads.
  p.weight_policy = p.token_tiles == 1 ? ptx::kEvictFirst : ptx::kEvictNormal;
  p.x_policy = ptx::kEvictLast;
  return ok_status();
}

std::string KernelPlan::schedule_text() const {
  Schedule chosen = schedule;
  chosen.stages = work.stages;
  const bool shares = schedule.split > 1 || schedule.depth > 1;
  chosen.workers = shares ? 0 : work.workers;
  return format_schedule(chosen);
}

Status KernelPlan::launch(const CudaGemmArguments& arguments, CudaStream stream) const {
  const CudaGemmArguments& a = arguments;
  const bool sums = desc.output == CudaOutput::kInt32;
  if (a.weights == nullptr || a.x8 == nullptr || a.x_sum == nullptr || a.y == nullptr ||
      (a.x_scale == nullptr && !sums) || (a.bias == nullptr && desc.bias) ||
      (a.workspace == nullptr && workspace_bytes() > 0)) {
    return invalid_argument("w4a8 gemm: a pointer that the layer needs is null");
  }
  if (!aligned(a.weights, 256) || !aligned(a.x8, 16) || !aligned(a.y, 16) ||
      !aligned(a.workspace, 256)) {
    return invalid_argument(
        "w4a8 gemm: weights and workspace are to be 256-byte aligned, x8 and y 16-byte aligned");
  }
  const std::int64_t width = desc.gated && !sums ? desc.n / 2 : desc.n;
  if (a.ld_x < desc.k || a.ld_x % 16 != 0 || a.ld_y < width || a.ld_y % 8 != 0) {
    return invalid_argument("w4a8 gemm: row strides are " + std::to_string(a.ld_x) + " and " +
                            std::to_string(a.ld_y) + ", expected a multiple of 16 of " +
                            std::to_string(desc.k) + " or more and a multiple of 8 of " +
                            std::to_string(width) + " or more");
  }
  if (a.y_amax.parts != nullptr &&
      (!desc.gated || desc.output != CudaOutput::kFloat32 || a.y_amax.stride < parameters.m)) {
    return invalid_argument("w4a8 gemm: y_amax is for gated f32 outputs alone, its stride (" +
                            std::to_string(a.y_amax.stride) + ") at least m, " +
                            std::to_string(parameters.m));
  }
  W4A8Parameters p = parameters;
  const TileSizes sizes = tile_sizes(schedule, desc.group_size);
  const std::int64_t lines = block_bytes(desc.group_size) / kLineBytes;
  LIQUIDGEMM_RETURN_IF_ERROR(
      encode_map<3>(encode, a.weights, CU_TENSOR_MAP_DATA_TYPE_UINT8,
                    {kLineBytes, p.column_blocks * lines, p.row_blocks},
                    {kLineBytes, p.column_blocks * lines * kLineBytes},
                    {kLineBytes, static_cast<int>(lines), p.row_blocks - p.last_row_block},
                    CU_TENSOR_MAP_SWIZZLE_NONE, p.w_map));
  LIQUIDGEMM_RETURN_IF_ERROR(encode_map<2>(encode, a.x8, CU_TENSOR_MAP_DATA_TYPE_UINT8,
                                           {desc.k, p.m}, {a.ld_x}, {kBlockColumns, p.x_rows},
                                           CU_TENSOR_MAP_SWIZZLE_128B, p.x_map));
  const bool floats = p.output == OutputType::kFloat32;
  int box_units = 0;  // 0: outputs are not staged
  if (is_staged(p)) {
    box_units = p.split > 1 ? 1 : sizes.chunk_units(p.gated);
  } else if (floats) {
    box_units = sizes.float_chunk_units();
  }
  if (box_units > 0) {
    const int channels = p.gated || floats ? kBlockRows / 2 : kBlockRows;
    const int bytes = floats ? 4 : 2;
    LIQUIDGEMM_RETURN_IF_ERROR(encode_map<2>(
        encode, a.y, floats ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_UINT16,
        {width, p.m}, {a.ld_y * bytes}, {channels, 8 * box_units},
        channels * bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B, p.y_map));
  }
  // Without an earlier kernel to wait for, a stage's tokens are best asked for with its weights.
  p.ahead = a.programmatic_launch ? p.stages : 1;
  p.channel_scale =
      reinterpret_cast<const float*>(static_cast<const std::uint8_t*>(a.weights) +
                                     channel_scale_offset(desc.n, desc.k, desc.group_size));
  // For the bare sums nobody looks at the scales; the kernel still loads them.
  p.x_scale = a.x_scale != nullptr ? a.x_scale : reinterpret_cast<const float*>(a.x_sum);
  p.x_sum = a.x_sum;
  p.bias = desc.bias ? a.bias : nullptr;
  p.y = a.y;
  p.ld_y = a.ld_y;
  p.amax = a.y_amax.parts;
  p.amax_stride = a.y_amax.stride;
  if (a.workspace != nullptr) {
    p.flags = static_cast<unsigned*>(a.workspace);
    p.partials = reinterpret_cast<int4*>(static_cast<char*>(a.workspace) + work.flag_bytes);
  }
  if (const int partial_lines = sizes.partial_units() * kUnitBytes / kLineBytes;
      work.partial_bytes > 0 && partial_lines > 0) {
    const std::int64_t group_bytes = std::int64_t{sizes.units()} * kUnitBytes;
    LIQUIDGEMM_RETURN_IF_ERROR(
        encode_map<3>(encode, p.partials, CU_TENSOR_MAP_DATA_TYPE_UINT8,
                      {kLineBytes, group_bytes / kLineBytes,
                       static_cast<std::int64_t>(work.partial_bytes) / group_bytes},
                      {kLineBytes, group_bytes}, {kLineBytes, partial_lines, sizes.groups},
                      CU_TENSOR_MAP_SWIZZLE_NONE, p.partial_map));
  }

  cudaLaunchAttribute attributes[2];
  std::memset(attributes, 0, sizeof attributes);
  int count = 0;
  if (work.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim = {static_cast<unsigned>(work.cluster), 1, 1};
    ++count;
  }
  if (a.programmatic_launch) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(work.grid));
  config.blockDim = dim3(static_cast<unsigned>(kernel->threads));
  config.dynamicSmemBytes = work.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = static_cast<unsigned>(count);
  void* pointers[] = {&p};
  return cuda_status(
      cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel->kernel), pointers),
      "launch of the w4a8 gemm");
}

}  // namespace cuda

struct CudaGemmPlan::State {
  cuda::KernelPlan plan;
};

CudaGemmPlan::CudaGemmPlan() = default;
CudaGemmPlan::~CudaGemmPlan() = default;
CudaGemmPlan::CudaGemmPlan(CudaGemmPlan&&) noexcept = default;
CudaGemmPlan& CudaGemmPlan::operator=(CudaGemmPlan&&) noexcept = default;

Result<CudaGemmPlan> CudaGemmPlan::make(const CudaGemmDesc& desc, std::int64_t m,
                                        const CudaDevice& device, std::string_view schedule_text) {
  LIQUIDGEMM_RETURN_IF_ERROR(can_implement(desc, device));
  if (m < 1 || m > 0x7FFFFFFF) {
    return invalid_argument("w4a8 gemm: m is " + std::to_string(m) + ", expected 1 or more tokens");
  }
  cuda::Schedule schedule;
  if (schedule_text.empty()) {
    schedule = cuda::choose_schedule(desc, m, device);
  } else {
    LIQUIDGEMM_ASSIGN_OR_RETURN(schedule, cuda::parse_schedule(schedule_text));
  }
  auto state = std::make_unique<State>();
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::make_plan(
      desc, m, device, schedule, cuda::find_kernel(schedule, desc.group_size), state->plan));
  CudaGemmPlan plan;
  plan.state_ = std::move(state);
  return plan;
}

std::size_t CudaGemmPlan::workspace_bytes() const {
  return state_ == nullptr ? 0 : state_->plan.workspace_bytes();
}

std::string CudaGemmPlan::schedule() const {
  return state_ == nullptr ? "" : state_->plan.schedule_text();
}

std::string CudaGemmPlan::describe() const {
  if (state_ == nullptr) return "empty";
  const cuda::KernelPlan& plan = state_->plan;
  const cuda::Schedule& s = plan.schedule;
  const cuda::WorkDivision& work = plan.work;
  const std::string weights = plan.desc.group_size == kInt8Weights
                                  ? "w8a8 sm90 u8s8"
                                  : "w4a8 sm90 u8s8 g" + std::to_string(plan.desc.group_size);
  return weights + ", tile " + std::to_string(64 * s.blocks * s.groups) + " rows x " +
         std::to_string(s.tokens) + " tokens, " + std::to_string(work.grid) + " blocks of " +
         std::to_string(plan.kernel->threads) + " threads, " +
         std::to_string(work.row_tiles * work.token_tiles) + " tiles, " +
         std::to_string(work.stream_tiles) + " of them cut, schedule " + schedule();
}

Status CudaGemmPlan::launch(const CudaGemmArguments& arguments, CudaStream stream) const {
  if (state_ == nullptr) return invalid_argument("w4a8 gemm: the plan is empty");
  return state_->plan.launch(arguments, stream);
}

}  // namespace liquidgemm
