#include "model/cuda/cuda_fp16_head.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "gemm/cuda/fp16_linear.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {
namespace {

using cuda::DeviceBuffer;

constexpr std::int64_t kFp16Bytes = 2;
// Of the checkpoint's rows that lie on the device at a time.
constexpr std::int64_t kUploadBytes = std::int64_t{64} << 20;
constexpr std::int64_t kCheckedRows = 256;  // a thread has a multiple of them

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

Status check_weights(const WeightView& weight, ThreadPool& pool) {
  const auto row_bytes = static_cast<std::size_t>(weight.k * kFp16Bytes);
  std::vector<Status> statuses(static_cast<std::size_t>(pool.threads()));
  pool.parallel_for(weight.n, kCheckedRows, [&](std::int64_t begin, std::int64_t end, int worker) {
    const std::span<const std::uint8_t> rows(
        weight.f16 + static_cast<std::size_t>(begin) * row_bytes,
        static_cast<std::size_t>(end - begin) * row_bytes);
    statuses[static_cast<std::size_t>(worker)] =
        check_fp16_rows(rows, weight.k, weight.name, begin);
  });
  // Workers have ascending rows: the first status is the first row's.
  for (Status& status : statuses) LIQUIDGEMM_RETURN_IF_ERROR(std::move(status));
  return ok_status();
}

}  // namespace

std::size_t CudaFp16Head::bytes_of(const WeightView& form) {
  return static_cast<std::size_t>(cuda::fp16_packed_bytes(form.n, form.k));
}

Result<std::unique_ptr<CudaLinear>> CudaFp16Head::make(const WeightView& weight, ThreadPool& pool,
                                                       cudaStream_t stream) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_weights(weight, pool));
  auto head = std::make_unique<CudaFp16Head>();
  head->width_ = round_up(weight.n, 8);
  head->k_ = weight.k;
  LIQUIDGEMM_ASSIGN_OR_RETURN(head->packed_, DeviceBuffer::allocate(bytes_of(weight), "weights"));
  const std::int64_t row_bytes = weight.k * kFp16Bytes;
  const std::int64_t together = std::min(
      round_up(std::max<std::int64_t>(kUploadBytes / row_bytes, 1), cuda::kFp16BlockChannels),
      weight.n);
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const DeviceBuffer rows,
      DeviceBuffer::allocate(static_cast<std::size_t>(together * row_bytes), "weights"));
  for (std::int64_t first = 0; first < weight.n; first += together) {
    const std::int64_t count = std::min(together, weight.n - first);
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpy(rows.bytes(), weight.f16 + first * row_bytes,
                                               static_cast<std::size_t>(count * row_bytes),
                                               cudaMemcpyHostToDevice));
    LIQUIDGEMM_RETURN_IF_ERROR(cuda::pack_fp16_weights({.weight = rows.bytes(),
                                                        .rows = count,
                                                        .k = weight.k,
                                                        .first_row = first,
                                                        .packed = head->packed_.bytes()},
                                                       stream));
    // The next rows take their place.
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  }
  return std::unique_ptr<CudaLinear>(std::move(head));
}

Status CudaFp16Head::run(const CudaRows& x, const CudaOutputRows& out, void*, cudaStream_t stream) {
  return cuda::fp16_linear({.packed = packed_.bytes(),
                            .n = width_,
                            .k = k_,
                            .x = x.f16,
                            .m = x.m,
                            .y = static_cast<float*>(out.y),
                            .ld_y = width_},
                           stream);
}

}  // namespace liquidgemm
