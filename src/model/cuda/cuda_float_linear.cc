#include "model/cuda/cuda_float_linear.h"

#include <atomic>
#include <utility>

#include "base/half.h"
#include "base/status_macros.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

using cuda::DeviceBuffer;

constexpr std::int64_t kAlignment = 8;   // elements: 16 bytes
constexpr std::int64_t kChunkRows = 64;  // that a thread converts at a time
constexpr std::int64_t kHalfBytes = 2;

std::int64_t padded(std::int64_t count) {
  return (count + kAlignment - 1) / kAlignment * kAlignment;
}

// Rows of the stack; first_row of each part.
std::int64_t stacked_rows(std::span<const WeightView> parts, bool padded_parts,
                          std::vector<std::int64_t>* first_row = nullptr) {
  std::int64_t n = 0;
  for (const WeightView& part : parts) {
    if (first_row != nullptr) first_row->push_back(n);
    n += padded_parts ? padded(part.n) : part.n;
  }
  return padded(n);
}

bool is_finite_half(std::uint16_t bits) { return (bits & 0x7C00u) != 0x7C00u; }

// Rounded to nearest even.
Status to_half(const WeightView& part, ThreadPool& pool, std::vector<std::uint16_t>& rows) {
  rows.resize(static_cast<std::size_t>(part.n * part.k));
  const CpuOps& ops = cpu_ops(best_isa());
  std::atomic<std::int64_t> wrong{part.n};
  pool.parallel_for(part.n, kChunkRows, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::uint16_t* to = rows.data() + row * part.k;
      ops.to_f16(part.f32 + row * part.k, to, part.k);
      bool finite = true;
      for (std::int64_t k = 0; k < part.k; ++k) finite &= is_finite_half(to[k]);
      if (!finite) wrong = row;
    }
  });
  if (wrong == part.n) return ok_status();
  return unsupported(part.name + ": row " + std::to_string(wrong) +
                     " has a weight that is too large for fp16");
}

Status upload_rows(const WeightView& part, std::int64_t first_row, ThreadPool& pool,
                   const DeviceBuffer& to) {
  std::vector<std::uint16_t> rows;
  LIQUIDGEMM_RETURN_IF_ERROR(to_half(part, pool, rows));
  const auto pitch = static_cast<std::size_t>(padded(part.k) * kHalfBytes);
  const auto width = static_cast<std::size_t>(part.k * kHalfBytes);
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpy2D(to.bytes() + static_cast<std::size_t>(first_row) * pitch, pitch, rows.data(),
                   width, width, static_cast<std::size_t>(part.n), cudaMemcpyHostToDevice));
  return ok_status();
}

Result<DeviceBuffer> allocate_zeros(std::int64_t elements, std::int64_t element_bytes) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      DeviceBuffer buffer,
      DeviceBuffer::allocate(static_cast<std::size_t>(elements * element_bytes), "weights"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(buffer.bytes(), 0, buffer.size()));
  return buffer;
}

// [n] of the output's type; no bias: no memory.
Result<DeviceBuffer> upload_bias(std::span<const LoadedMatrix> parts,
                                 std::span<const std::int64_t> first_row, std::int64_t n,
                                 CudaFloat output) {
  if (parts.front().bias.empty()) return DeviceBuffer();
  const std::int64_t bytes = output == CudaFloat::kFloat32 ? 4 : kHalfBytes;
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer buffer, allocate_zeros(n, bytes));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::vector<float>& bias = parts[i].bias;
    std::vector<std::uint16_t> half;
    for (const float value : bias) half.push_back(float_to_f16(value));
    const void* from = output == CudaFloat::kFloat32 ? static_cast<const void*>(bias.data())
                                                     : static_cast<const void*>(half.data());
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpy(buffer.bytes() + first_row[i] * bytes, from,
                                               bias.size() * static_cast<std::size_t>(bytes),
                                               cudaMemcpyHostToDevice));
  }
  return buffer;
}

}  // namespace

CudaFloatLinear::CudaFloatLinear(std::shared_ptr<FloatProduct> product, DeviceBuffer weights,
                                 DeviceBuffer bias, std::int64_t width)
    : product_(std::move(product)), weights_(std::move(weights)), bias_(std::move(bias)) {
  width_ = width;
  product_->add_layer(weights_.bytes(), bias_.bytes());
}

Status CudaFloatLinear::tune(std::span<const std::int64_t> rows, const CudaRows& x, void* y,
                             cudaStream_t stream) {
  return product_->tune(rows, x.f16, y, stream);
}

Result<std::size_t> CudaFloatLinear::workspace_bytes(std::int64_t m) {
  LIQUIDGEMM_RETURN_IF_ERROR(product_->choice(m).status());
  return std::size_t{0};
}

Status CudaFloatLinear::run(const CudaRows& x, const CudaOutputRows& out, void*,
                            cudaStream_t stream) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const FloatProduct::Choice* choice, product_->choice(x.m));
  return choice->product->launch(
      choice->candidate, {.w = weights_.bytes(), .x = x.f16, .y = out.y, .bias = bias_.bytes()},
      stream);
}

Result<std::unique_ptr<CudaFloatLinears>> CudaFloatLinears::open() {
  auto linears = std::make_unique<CudaFloatLinears>();
  LIQUIDGEMM_ASSIGN_OR_RETURN(linears->library_, cuda::CublasLt::open());
  return linears;
}

std::size_t CudaFloatLinears::bytes_of(std::span<const WeightView> forms, bool padded_parts) {
  return static_cast<std::size_t>(stacked_rows(forms, padded_parts) * padded(forms.front().k) *
                                  kHalfBytes);
}

Result<std::unique_ptr<CudaFloatLinear>> CudaFloatLinears::make(std::span<const LoadedMatrix> parts,
                                                                bool padded_parts, CudaFloat output,
                                                                ThreadPool& pool) {
  std::vector<WeightView> views;
  for (const LoadedMatrix& part : parts) views.push_back(part.view());
  std::vector<std::int64_t> first_row;
  const std::int64_t n = stacked_rows(views, padded_parts, &first_row);
  const std::int64_t k = padded(views.front().k);
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer weights, allocate_zeros(n * k, kHalfBytes));
  for (std::size_t i = 0; i < views.size(); ++i) {
    LIQUIDGEMM_RETURN_IF_ERROR(upload_rows(views[i], first_row[i], pool, weights));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer bias, upload_bias(parts, first_row, n, output));
  const bool has_bias = bias.bytes() != nullptr;
  const bool wide = output == CudaFloat::kFloat32;
  std::shared_ptr<FloatProduct>& product = products_[{n, k, wide, has_bias}];
  if (!product) {
    product = std::make_shared<FloatProduct>(
        *library_,
        cuda::CublasShape{.type = wide ? cuda::CublasType::kF16F32 : cuda::CublasType::kF16,
                          .n = n,
                          .k = k,
                          .m = 0,
                          .bias = has_bias});
  }
  return std::make_unique<CudaFloatLinear>(product, std::move(weights), std::move(bias), n);
}

Result<DeviceBuffer> CudaFloatLinears::upload(const LoadedMatrix& matrix, ThreadPool& pool) {
  const WeightView view = matrix.view();
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                              allocate_zeros(view.n * padded(view.k), kHalfBytes));
  LIQUIDGEMM_RETURN_IF_ERROR(upload_rows(view, 0, pool, buffer));
  return buffer;
}

}  // namespace liquidgemm
