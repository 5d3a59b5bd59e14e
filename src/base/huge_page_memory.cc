#include "base/huge_page_memory.h"

#include <sys/mman.h>

#include <limits>

namespace liquidgemm {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
// Only what is touched becomes memory: the end of a block that is too short for the next piece
// costs addresses, and at most the rest of one huge page.
constexpr std::size_t kBlock = std::size_t{256} << 20;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// `bytes`, a multiple of kHugePage, at a multiple of kHugePage.
std::shared_ptr<std::uint8_t> map_block(std::size_t bytes) {
  const std::size_t reserved = bytes + kHugePage;
  void* address = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  auto* first = static_cast<std::uint8_t*>(address);
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  std::uint8_t* aligned = first + (round_up(at, kHugePage) - at);
  const auto before = static_cast<std::size_t>(aligned - first);
  if (before > 0) ::munmap(first, before);
  ::munmap(aligned + bytes, kHugePage - before);
#if defined(MADV_HUGEPAGE)
  // A hint: a kernel that refuses it serves the same memory in small pages.
  (void)::madvise(aligned, bytes, MADV_HUGEPAGE);
#endif
  return {aligned, [bytes](std::uint8_t* block) { ::munmap(block, bytes); }};
}

}  // namespace

std::shared_ptr<std::uint8_t> HugePageMemory::take(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) return nullptr;
  bytes = round_up(bytes, kCacheLine);
  if (bytes > kBlock / 4) {
    // A block of its own, so that the rest of the current one still serves small pieces.
    return map_block(round_up(bytes, kHugePage));
  }
  if (block_ == nullptr || size_ - used_ < bytes) {
    block_ = map_block(kBlock);
    if (block_ == nullptr) return nullptr;
    size_ = kBlock;
    used_ = 0;
  }
  std::shared_ptr<std::uint8_t> piece(block_, block_.get() + used_);
  used_ += bytes;
  return piece;
}

}  // namespace liquidgemm
