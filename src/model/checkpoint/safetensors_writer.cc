#include "model/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/json.h"
#include "base/status_macros.h"

namespace liquidgemm {
namespace {

constexpr std::size_t kLengthBytes = 8;

struct Layout {
  std::string header;                 // the length and the JSON, padded to whole 8 bytes
  std::vector<std::uint64_t> begins;  // from the start of the file
  std::uint64_t bytes = 0;            // of the file
};

Layout lay_out(const std::vector<TensorInfo>& tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return dtype_block_bytes(tensors[a].dtype) > dtype_block_bytes(tensors[b].dtype);
  });
  Layout layout;
  layout.begins.resize(tensors.size());
  json::Object entries;
  entries["__metadata__"] = json::Object{{"format", "pt"}};  // what transformers looks for
  std::uint64_t end = 0;
  for (const std::size_t i : order) {
    const std::uint64_t begin = end;
    end += static_cast<std::uint64_t>(tensors[i].bytes);
    layout.begins[i] = begin;
    json::Array shape;
    for (const std::int64_t size : tensors[i].shape) shape.push_back(size);
    entries[tensors[i].name] = json::Object{{"dtype", dtype_name(tensors[i].dtype)},
                                            {"shape", std::move(shape)},
                                            {"data_offsets", json::Array{begin, end}}};
  }
  std::string text = json::dump(entries);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    layout.header.push_back(static_cast<char>((text.size() >> (8 * i)) & 0xFF));
  }
  layout.header += text;
  for (std::uint64_t& begin : layout.begins) begin += layout.header.size();
  layout.bytes = layout.header.size() + end;
  return layout;
}

}  // namespace

std::uint64_t SafetensorsWriter::file_bytes(const std::vector<TensorInfo>& tensors) {
  return lay_out(tensors).bytes;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path,
                                                    std::vector<TensorInfo> tensors) {
  for (const TensorInfo& tensor : tensors) {
    if (tensor_bytes(tensor.dtype, tensor.shape) != tensor.bytes ||
        dtype_block_elements(tensor.dtype) != 1) {
      return internal_error(path + ": tensor " + tensor.name + ": wrong byte count or type");
    }
  }
  Layout layout = lay_out(tensors);
  LIQUIDGEMM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  SafetensorsWriter writer(std::move(file));
  LIQUIDGEMM_RETURN_IF_ERROR(writer.file_.reserve(layout.bytes));
  LIQUIDGEMM_RETURN_IF_ERROR(writer.file_.append(layout.header));
  writer.tensors_ = std::move(tensors);
  writer.begins_ = std::move(layout.begins);
  return writer;
}

Status SafetensorsWriter::write(std::size_t tensor, std::int64_t offset,
                                std::span<const std::byte> bytes) {
  const std::int64_t size = tensors_[tensor].bytes;
  if (offset < 0 || offset > size || static_cast<std::int64_t>(bytes.size()) > size - offset) {
    return internal_error("safetensors: a write leaves tensor " + tensors_[tensor].name);
  }
  return file_.write_at(begins_[tensor] + static_cast<std::uint64_t>(offset), bytes);
}

Status SafetensorsWriter::commit() { return file_.commit(); }

}  // namespace liquidgemm
