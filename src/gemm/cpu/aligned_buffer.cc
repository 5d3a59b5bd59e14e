#include "gemm/cpu/aligned_buffer.h"

#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace liquidgemm::cpu {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      alignment_(other.alignment_) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    alignment_ = other.alignment_;
  }
  return *this;
}

bool AlignedBuffer::reserve(std::size_t bytes) {
  if (bytes <= bytes_) return true;
  release();
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  data_ = ::operator new (bytes, std::align_val_t{alignment}, std::nothrow);
  if (!data_) return false;
  bytes_ = bytes;
  alignment_ = alignment;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // A hint: a kernel that refuses it serves the same memory in small pages.
  if (alignment == kHugePage) (void)madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return true;
}

void AlignedBuffer::release() {
  if (data_) ::operator delete (data_, std::align_val_t{alignment_});
  data_ = nullptr;
  bytes_ = 0;
}

AlignedBuffer& activation_scratch() {
  thread_local AlignedBuffer buffer;
  return buffer;
}

AlignedBuffer& worker_scratch() {
  thread_local AlignedBuffer buffer;
  return buffer;
}

}  // namespace liquidgemm::cpu
