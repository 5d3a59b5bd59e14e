#include "engine/page_pool.h"

#include <cassert>

namespace liquidgemm {

PagePool::PagePool(std::int64_t pages)
    : pages_(static_cast<std::size_t>(pages) + 1), ring_(static_cast<std::int32_t>(pages)) {
  at(ring_).previous = at(ring_).next = ring_;
  free_.reserve(static_cast<std::size_t>(pages));
  for (std::int32_t page = ring_ - 1; page >= 0; --page) free_.push_back(page);
}

std::optional<PagePool::Taken> PagePool::take() {
  Taken taken;
  if (!free_.empty()) {
    taken.page = free_.back();
    free_.pop_back();
  } else if (cached_ > 0) {
    taken = {.page = at(ring_).next, .was_cached = true};
    unlink(taken.page);
    at(taken.page).keep = false;
  } else {
    return std::nullopt;
  }
  at(taken.page).holders = 1;
  return taken;
}

void PagePool::hold(std::int32_t page) {
  assert(at(page).holders > 0 || at(page).keep);
  if (at(page).holders++ == 0) unlink(page);
}

void PagePool::release(std::int32_t page) {
  assert(at(page).holders > 0);
  if (--at(page).holders > 0) return;
  if (!at(page).keep) {
    free_.push_back(page);
    return;
  }
  const std::int32_t last = at(ring_).previous;
  at(page).previous = last;
  at(page).next = ring_;
  at(last).next = page;
  at(ring_).previous = page;
  ++cached_;
}

void PagePool::keep(std::int32_t page) {
  assert(at(page).holders > 0);
  at(page).keep = true;
}

void PagePool::unlink(std::int32_t page) {
  at(at(page).previous).next = at(page).next;
  at(at(page).next).previous = at(page).previous;
  --cached_;
}

}  // namespace liquidgemm
