// Who holds which KV page. Pages are numbers; their bytes belong to the backend.
//
// A page is used (held by one or more sequences), cached (held by none, but what it stores may be
// wanted again: prefix_cache.h) or free. Cached pages are taken only when no page is free, first
// the one that has been without a holder for longest.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace liquidgemm {

class PagePool {
 public:
  explicit PagePool(std::int64_t pages);

  std::int64_t total() const { return static_cast<std::int64_t>(pages_.size()) - 1; }
  std::int64_t free() const { return static_cast<std::int64_t>(free_.size()); }
  std::int64_t cached() const { return cached_; }
  std::int64_t available() const { return free() + cached(); }
  std::int64_t used() const { return total() - available(); }
  std::int32_t holders(std::int32_t page) const { return at(page).holders; }
  bool is_cached(std::int32_t page) const { return at(page).keep && at(page).holders == 0; }

  struct Taken {
    std::int32_t page = 0;
    bool was_cached = false;  // what it stored is lost
  };
  // A page with one holder. Empty: all pages are used.
  std::optional<Taken> take();
  // One holder more, of a page that is used or cached.
  void hold(std::int32_t page);
  // One holder less.
  void release(std::int32_t page);
  // From now on the page is cached, not free, when its last holder goes.
  void keep(std::int32_t page);

 private:
  struct Page {
    std::int32_t holders = 0;
    bool keep = false;
    std::int32_t previous = 0;  // of the cached pages, a ring in order of release
    std::int32_t next = 0;
  };
  Page& at(std::int32_t page) { return pages_[static_cast<std::size_t>(page)]; }
  const Page& at(std::int32_t page) const { return pages_[static_cast<std::size_t>(page)]; }
  void unlink(std::int32_t page);

  std::vector<Page> pages_;         // and one more, where the ring begins
  std::int32_t ring_ = 0;           // that one
  std::int64_t cached_ = 0;         // pages in the ring
  std::vector<std::int32_t> free_;  // a stack; the lowest page is on top at the start
};

}  // namespace liquidgemm
