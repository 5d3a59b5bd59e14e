#include "model/checkpoint/stored_tensors.h"

#include "base/status_macros.h"
#include "model/checkpoint/block_formats.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {

std::int64_t RowOrder::stored_row(std::int64_t row) const {
  if (interleaved_head_dim == 0) return row;
  const std::int64_t half = interleaved_head_dim / 2;
  const std::int64_t in_head = row % interleaved_head_dim;
  return row - in_head + in_head % half * 2 + in_head / half;
}

const TensorInfo* StoredTensors::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &infos_[found->second];
}

Result<std::size_t> StoredTensors::require_index(std::string_view name) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, require(name));
  return static_cast<std::size_t>(info - infos_.data());
}

const std::byte* StoredTensors::data(std::size_t index) const {
  const Place& place = places_[index];
  return files_[place.file].bytes().data() + place.begin;
}

Result<std::span<const std::byte>> StoredTensors::bytes(std::string_view name) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::size_t index, require_index(name));
  if (places_[index].order.interleaved_head_dim != 0) {
    return unsupported(where_ + ": tensor " + printable(name) +
                       " is stored in llama.cpp's row order; read it by rows");
  }
  return std::span<const std::byte>(data(index), static_cast<std::size_t>(infos_[index].bytes));
}

Status StoredTensors::read_rows(std::string_view name, std::int64_t first, std::int64_t count,
                                float* out) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::size_t index, require_index(name));
  const TensorInfo& info = infos_[index];
  if (!converts_to_float(info.dtype)) {
    return unsupported(where_ + ": tensor " + printable(name) + " of type " +
                       std::string(dtype_name(info.dtype)) + " does not hold floats");
  }
  // A vector is one row, a scalar one row of one element, more dimensions are rows of the last.
  const std::int64_t columns = info.shape.empty() ? 1 : info.shape.back();
  const std::int64_t elements = element_count(info.shape).value_or(0);
  const std::int64_t rows = columns == 0 ? 0 : elements / columns;
  if (first < 0 || count < 0 || first > rows || count > rows - first) {
    return invalid_argument(where_ + ": tensor " + printable(name) + " has " +
                            std::to_string(rows) + " rows; rows " + std::to_string(first) +
                            " and the " + std::to_string(count) + " from there were asked for");
  }
  const std::byte* stored = data(index);
  const RowOrder& order = places_[index].order;
  if (order.interleaved_head_dim != 0 && info.shape.size() == 1) {
    if (count == 0) return ok_status();
    // A bias: its elements follow the weight's rows.
    std::vector<float> in_stored_order(static_cast<std::size_t>(columns));
    convert_to_float(info.dtype, stored, columns, in_stored_order.data());
    for (std::int64_t i = 0; i < columns; ++i) {
      out[i] = in_stored_order[static_cast<std::size_t>(order.stored_row(i))];
    }
    return ok_status();
  }
  const std::int64_t row_bytes = rows == 0 ? 0 : info.bytes / rows;
  if (order.interleaved_head_dim == 0) {
    convert_to_float(info.dtype, stored + first * row_bytes, count * columns, out);
    return ok_status();
  }
  for (std::int64_t row = 0; row < count; ++row) {
    convert_to_float(info.dtype, stored + order.stored_row(first + row) * row_bytes, columns,
                     out + row * columns);
  }
  return ok_status();
}

void StoredTensors::release(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) return;
  const Place& place = places_[static_cast<std::size_t>(info - infos_.data())];
  files_[place.file].release(place.begin, static_cast<std::size_t>(info->bytes));
}

std::int64_t StoredTensors::stored_bytes() const {
  std::int64_t sum = 0;
  for (const MappedFile& file : files_) sum += static_cast<std::int64_t>(file.bytes().size());
  return sum;
}

std::size_t StoredTensors::add_file(MappedFile file) {
  files_.push_back(std::move(file));
  return files_.size() - 1;
}

void StoredTensors::add(std::size_t file, StoredTensor tensor, RowOrder order) {
  infos_.push_back(std::move(tensor.info));
  places_.push_back({file, tensor.begin, order});
}

Status StoredTensors::index() {
  by_name_.clear();
  by_name_.reserve(infos_.size());
  for (std::size_t i = 0; i < infos_.size(); ++i) {
    const auto [position, fresh] = by_name_.emplace(infos_[i].name, i);
    if (!fresh) {
      return corrupt(where_ + ": tensor " + printable(infos_[i].name) + " is stored twice (in " +
                     files_[places_[position->second].file].path() + " and " +
                     files_[places_[i].file].path() + ")");
    }
  }
  return ok_status();
}

}  // namespace liquidgemm
