#include "model/cuda/step_buffers.h"

#include <cstring>

#include "base/status_macros.h"
#include "model/cuda/pieces.h"

namespace liquidgemm {

StepBuffers::Fields StepBuffers::lay_out(const Sizes& sizes, void* base, std::size_t& used) {
  Pieces pieces(base);
  Fields fields;
  pieces.take(fields.tokens, sizes.rows);
  pieces.take(fields.positions, sizes.rows);
  pieces.take(fields.row_pages, sizes.rows);
  pieces.take(fields.logits_rows, sizes.logits_rows);
  pieces.take(fields.row_splits, sizes.rows);
  pieces.take(fields.lengths, sizes.slots);
  pieces.take(fields.slot_rows, sizes.slots);
  pieces.take(fields.unit_count, 1);
  pieces.take(fields.units_taken, 1);
  pieces.take(fields.units, sizes.units);
  pieces.take(fields.tiles, sizes.tiles);
  pieces.take(fields.block_tables, sizes.slots * sizes.table_pages);
  used = pieces.used();
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
  LIQUIDGEMM_ASSIGN_OR_RETURN(pinned_, cuda::allocate_pinned(bytes));
  std::memset(pinned_.get(), 0, bytes);
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(memory_.bytes(), 0, bytes));
  host_ = lay_out(sizes, pinned_.get(), bytes);
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
