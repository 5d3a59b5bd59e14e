#include "model/checkpoint/tensor_source.h"

#include "model/checkpoint/printable.h"

namespace liquidgemm {

const TensorInfo* TensorSource::find(std::string_view name) const {
  for (const TensorInfo& info : tensors()) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

Result<const TensorInfo*> TensorSource::require(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) {
    return not_found(where() + ": there is no tensor " + printable(name));
  }
  return info;
}

}  // namespace liquidgemm
