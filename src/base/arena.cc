#include "base/arena.h"

#include <sys/mman.h>

#include <cassert>
#include <string>

namespace liquidgemm {
namespace {

constexpr std::size_t kAlignment = 64;

}  // namespace

Arena::~Arena() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void* Arena::take_bytes(std::size_t bytes) {
  const std::size_t at = used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (data_ == nullptr) return nullptr;
  assert(used_ <= size_);
  return data_ + at;
}

Status Arena::commit(const char* what) {
  assert(data_ == nullptr);
  size_ = used_ > 0 ? used_ : kAlignment;
  used_ = 0;
  void* address =
      ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    return resource_exhausted(std::string(what) + " needs " + std::to_string(size_ >> 20) +
                              " MiB, which the system does not give; use a shorter "
                              "--max-model-len or fewer sequences");
  }
  ::madvise(address, size_, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(address);
  return ok_status();
}

}  // namespace liquidgemm
