#include "engine/scheduler.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

std::int64_t page_count(const Sequence& sequence) {
  return static_cast<std::int64_t>(sequence.pages.size());
}

// Pages that a running sequence will ask for before any other can be expected to end: those of the
// tokens it has, and one to grow into if it may grow that far.
std::int64_t soon_needed(const Sequence& sequence) {
  const std::int64_t known = std::max(pages_for(sequence.length()), page_count(sequence));
  const std::int64_t growth = pages_for(sequence.longest) > known ? 1 : 0;
  return known + growth - page_count(sequence);
}

}  // namespace

Scheduler::Scheduler(SchedulerOptions options)
    : options_(std::move(options)),
      pool_(options_.pages),
      cache_(options_.pages, options_.scope,
             options_.page_hash ? options_.page_hash : PrefixCache::random_hash()) {
  assert(options_.max_sequences >= 1 && options_.max_sequences <= options_.max_batched_tokens);
  options_.max_logits_rows = std::max(options_.max_logits_rows, options_.max_sequences);
  if (options_.prompt_chunk <= 0) options_.prompt_chunk = options_.max_batched_tokens;
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  assert(pages_for(sequence->longest) <= pool_.total());
  waiting_.push_back(sequence.get());
  const RequestId id = sequence->id;
  sequences_.emplace(id, std::move(sequence));
}

Sequence* Scheduler::find(RequestId id) {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

std::unique_ptr<Sequence> Scheduler::remove(RequestId id) {
  auto node = sequences_.extract(id);
  if (node.empty()) return nullptr;
  std::unique_ptr<Sequence> sequence = std::move(node.mapped());
  drop_pages(*sequence);
  std::erase(running_, sequence.get());
  std::erase(waiting_, sequence.get());
  std::erase_if(work_, [&](const Work& work) { return work.sequence == sequence.get(); });
  return sequence;
}

PrefixCache::Key Scheduler::page_key(Sequence& sequence, std::int64_t index) {
  std::vector<std::uint64_t>& hashes = sequence.page_hashes;
  const auto tokens_of = [&](std::size_t page) {
    return std::span(sequence.tokens).subspan(page * kPageTokens, kPageTokens);
  };
  while (static_cast<std::int64_t>(hashes.size()) <= index) {
    const std::uint64_t parent =
        hashes.empty() ? cache_.root_hash(sequence.request.cache_salt) : hashes.back();
    hashes.push_back(cache_.page_hash(parent, tokens_of(hashes.size())));
  }
  const auto page = static_cast<std::size_t>(index);
  return {.hash = hashes[page],
          .parent = index == 0 ? -1 : sequence.pages[page - 1],
          .tokens = tokens_of(page),
          .salt = sequence.request.cache_salt};
}

// Takes over the pages that others have computed already. At least the last token is left to
// compute: its logits are wanted, and so may be those of a prompt.
void Scheduler::take_cached_pages(Sequence& sequence) {
  if (!options_.prefix_caching) return;
  while (sequence.linkable && sequence.computed == page_count(sequence) * kPageTokens &&
         sequence.linked == page_count(sequence) &&
         sequence.computed + kPageTokens < sequence.length() &&
         sequence.unscored(sequence.computed, sequence.computed + kPageTokens) == 0) {
    const auto page = cache_.find(page_key(sequence, sequence.linked));
    if (!page) return;
    pool_.hold(*page);
    sequence.pages.push_back(*page);
    sequence.computed += kPageTokens;
    ++sequence.linked;
  }
}

// Pages for the next rows, at the cost of later sequences. The rows that have pages now.
std::int64_t Scheduler::take_pages(Sequence& sequence, std::int64_t rows) {
  while (page_count(sequence) < pages_for(sequence.computed + rows)) {
    auto taken = pool_.take();
    while (!taken && running_.back() != &sequence) {
      preempt_latest();
      taken = pool_.take();
    }
    if (!taken) break;
    if (taken->was_cached) cache_.forget(taken->page);
    sequence.pages.push_back(taken->page);
  }
  return std::min(rows, page_count(sequence) * kPageTokens - sequence.computed);
}

// Makes pages that are full now known to the cache. Where another sequence was first with the same
// page, its page replaces ours, so that a sequence holds every page before one that it shares.
void Scheduler::link_full_pages(Sequence& sequence) {
  if (!options_.prefix_caching) return;
  while (sequence.linkable && (sequence.linked + 1) * kPageTokens <= sequence.computed) {
    const PrefixCache::Key key = page_key(sequence, sequence.linked);
    std::int32_t& page = sequence.pages[static_cast<std::size_t>(sequence.linked)];
    if (const auto known = cache_.find(key)) {
      pool_.hold(*known);
      pool_.release(page);
      page = *known;
    } else if (cache_.insert(key, page)) {
      pool_.keep(page);
    } else {
      sequence.linkable = false;
      return;
    }
    ++sequence.linked;
  }
}

void Scheduler::drop_pages(Sequence& sequence) {
  // From the end: of a chain of cached pages the last one must be the first to go.
  while (!sequence.pages.empty()) {
    pool_.release(sequence.pages.back());
    sequence.pages.pop_back();
  }
  sequence.computed = 0;
  sequence.linked = 0;
  sequence.linkable = true;
}

void Scheduler::preempt_latest() {
  Sequence& latest = *running_.back();
  drop_pages(latest);
  running_.pop_back();
  waiting_.push_front(&latest);  // it came before all that wait
  ++latest.record.preemptions;
  ++preemptions_;
}

void Scheduler::add_work(Sequence& sequence, std::int64_t rows) {
  work_.push_back({.sequence = &sequence, .rows = rows});
}

// The next chunk of a prompt: as many rows as budget, pages and logits allow, which are taken.
std::int64_t Scheduler::take_prompt_rows(Sequence& sequence) {
  const std::int64_t begin = sequence.computed;
  std::int64_t rows = std::min({sequence.missing(), prompt_rows_, options_.prompt_chunk});
  if (rows <= 0) return 0;
  const auto logits = [&](std::int64_t count) {
    return sequence.unscored(begin, begin + count) + (count == sequence.missing() ? 1 : 0);
  };
  const std::int64_t most = spare_logits_ + 1;
  if (logits(rows) > most) {
    // Up to where the rows run out; the prompt's last one samples, perhaps in a step of its own.
    rows = std::max(sequence.scored - begin, std::int64_t{0}) +
           std::min(most, sequence.unscored(begin, begin + rows));
  }
  rows = take_pages(sequence, rows);
  if (rows <= 0) return 0;
  prompt_rows_ -= rows;
  spare_logits_ -= std::max<std::int64_t>(logits(rows) - 1, 0);
  return rows;
}

void Scheduler::schedule_running() {
  // running_ may lose sequences at its end meanwhile, never ones that have work already.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.missing() == 1) {
      if (take_pages(sequence, 1) == 1) add_work(sequence, 1);
      continue;
    }
    const std::int64_t computed = sequence.computed;
    take_cached_pages(sequence);
    if (sequence.record.preemptions == 0) {
      sequence.record.cached_tokens += sequence.computed - computed;
      prefix_hit_tokens_ += sequence.computed - computed;
    }
    if (const std::int64_t rows = take_prompt_rows(sequence); rows > 0) add_work(sequence, rows);
  }
}

void Scheduler::admit(TimePoint now) {
  std::int64_t reserved = 0;
  for (const Sequence* sequence : running_) reserved += soon_needed(*sequence);
  while (!waiting_.empty() && prompt_rows_ > 0 &&
         static_cast<std::int64_t>(running_.size()) < options_.max_sequences) {
    Sequence& sequence = *waiting_.front();
    take_cached_pages(sequence);
    const std::int64_t needed = pages_for(sequence.length()) - page_count(sequence);
    if (needed + reserved > pool_.available()) {
      drop_pages(sequence);
      return;
    }
    if (!sequence.record.first_scheduled) {
      sequence.record.first_scheduled = now;
      sequence.record.cached_tokens = sequence.computed;
      if (options_.prefix_caching && sequence.request.prompt_logprobs < 0) {
        prefix_query_tokens_ += sequence.record.prompt_tokens;
      }
      prefix_hit_tokens_ += sequence.computed;
    }
    waiting_.pop_front();
    running_.push_back(&sequence);
    const std::int64_t rows = take_prompt_rows(sequence);
    reserved += soon_needed(sequence);
    add_work(sequence, rows);
  }
}

const std::vector<Scheduler::Work>& Scheduler::schedule(TimePoint now) {
  work_.clear();
  prompt_rows_ = options_.max_batched_tokens;
  for (const Sequence* sequence : running_) prompt_rows_ -= sequence->missing() == 1 ? 1 : 0;
  spare_logits_ = options_.max_logits_rows -
                  std::min(options_.max_sequences,
                           static_cast<std::int64_t>(running_.size() + waiting_.size()));
  const std::int64_t preemptions = preemptions_;
  schedule_running();
  if (preemptions_ == preemptions) admit(now);
  return work_;
}

void Scheduler::complete() {
  for (const Work& work : work_) {
    work.sequence->computed += work.rows;
    link_full_pages(*work.sequence);
  }
  if (!work_.empty()) ++steps_;
  work_.clear();
}

EngineMetrics Scheduler::metrics() const {
  return {.running = static_cast<std::int64_t>(running_.size()),
          .waiting = static_cast<std::int64_t>(waiting_.size()),
          .pages = pool_.total(),
          .pages_used = pool_.used(),
          .pages_cached = pool_.cached(),
          .pages_free = pool_.free(),
          .prefix_query_tokens = prefix_query_tokens_,
          .prefix_hit_tokens = prefix_hit_tokens_,
          .preemptions = preemptions_,
          .steps = steps_};
}

}  // namespace liquidgemm
