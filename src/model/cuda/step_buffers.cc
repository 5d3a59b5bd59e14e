#include "model/cuda/step_buffers.h"

#include <cstring>

#include "base/status_macros.h"

namespace liquidgemm {

StepBuffers::Fields StepBuffers::lay_out(const Sizes& sizes, char* base, std::size_t& used) {
  used = 0;
  const auto take = [&]<typename T>(T*& field, std::int64_t count) {
    if (base != nullptr) field = reinterpret_cast<T*>(base + used);
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    used += (bytes + 63) / 64 * 64;
  };
  Fields fields;
  take(fields.tokens, sizes.rows);
  take(fields.positions, sizes.rows);
  take(fields.row_pages, sizes.rows);
  take(fields.logits_rows, sizes.logits_rows);
  take(fields.lengths, sizes.slots);
  take(fields.slot_rows, sizes.slots);
  take(fields.unit_count, 1);
  take(fields.units, sizes.units);
  take(fields.tiles, sizes.tiles);
  take(fields.block_tables, sizes.slots * sizes.table_pages);
  return fields;
}

std::size_t StepBuffers::bytes_of(const Sizes& sizes) {
  std::size_t used = 0;
  static_cast<void>(lay_out(sizes, nullptr, used));
  return used;
}

Status StepBuffers::allocate(const Sizes& sizes) {
  sizes_ = sizes;
  std::size_t bytes = bytes_of(sizes);
  LIQUIDGEMM_ASSIGN_OR_RETURN(memory_, cuda::DeviceBuffer::allocate(bytes, "step buffers"));
  void* pinned = nullptr;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMallocHost(&pinned, bytes));
  pinned_ = cuda::Owned<void*, cudaFreeHost>(pinned);
  std::memset(pinned, 0, bytes);
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(memory_.bytes(), 0, bytes));
  host_ = lay_out(sizes, static_cast<char*>(pinned), bytes);
  device_ = lay_out(sizes, memory_.bytes(), bytes);
  return ok_status();
}

Status StepBuffers::upload(std::int64_t slots, cudaStream_t stream) const {
  const auto* end = reinterpret_cast<const char*>(host_.block_tables + slots * sizes_.table_pages);
  const auto bytes = static_cast<std::size_t>(end - static_cast<const char*>(pinned_.get()));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(memory_.bytes(), pinned_.get(), bytes, cudaMemcpyHostToDevice, stream));
  return ok_status();
}

}  // namespace liquidgemm
