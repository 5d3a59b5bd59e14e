// Which KV pages are free. Pages are numbers; their bytes belong to the backend.
#pragma once

#include <cstdint>
#include <vector>

namespace liquidgemm {

class PagePool {
 public:
  explicit PagePool(std::int64_t pages);

  std::int64_t total() const { return total_; }
  std::int64_t available() const { return static_cast<std::int64_t>(free_.size()); }

  // Takes `count` pages, or none and returns false when there are not enough.
  bool take(std::int64_t count, std::vector<std::int32_t>& into);
  // Gives pages back and empties the list.
  void give_back(std::vector<std::int32_t>& pages);

 private:
  std::int64_t total_;
  std::vector<std::int32_t> free_;  // a stack; the lowest page is on top at the start
};

}  // namespace liquidgemm
