#include "engine/page_pool.h"

#include <cassert>

namespace liquidgemm {

PagePool::PagePool(std::int64_t pages) : total_(pages) {
  free_.reserve(static_cast<std::size_t>(pages));
  for (std::int64_t page = pages - 1; page >= 0; --page) {
    free_.push_back(static_cast<std::int32_t>(page));
  }
}

bool PagePool::take(std::int64_t count, std::vector<std::int32_t>& into) {
  if (count > available()) return false;
  for (std::int64_t i = 0; i < count; ++i) {
    into.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void PagePool::give_back(std::vector<std::int32_t>& pages) {
  free_.insert(free_.end(), pages.rbegin(), pages.rend());
  pages.clear();
  assert(available() <= total_);
}

}  // namespace liquidgemm
