// Memory for many pieces that live equally long and are read over and over, weights above all: cut
// from large blocks that lie in huge pages, so that small pieces have their share of them too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace liquidgemm {

class HugePageMemory {
 public:
  // 64-byte aligned and zero until written; null when the system gives none. A piece keeps its
  // block alive, so it may outlive this object. One caller at a time.
  std::shared_ptr<std::uint8_t> take(std::size_t bytes);

 private:
  std::shared_ptr<std::uint8_t> block_;
  std::size_t size_ = 0;
  std::size_t used_ = 0;
};

}  // namespace liquidgemm
