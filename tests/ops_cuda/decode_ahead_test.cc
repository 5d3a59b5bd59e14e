// Decode attention loads pages while the kernel in front of it still writes the last token's. Token
// after token, the cache's kernel and attention right behind it, beside the two with a wait between
// them: the same bits.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>

#include "fresh_seed.h"
#include "gemm_cuda/cuda_fixture.h"
#include "ops/cuda/attention.h"
#include "ops/cuda/attention_rows.h"
#include "ops/cuda/rows.h"
#include "ops_cuda/decode_lists.h"
#include "ops_cuda/elements.h"

namespace liquidgemm::cuda::testing {
namespace {

using liquidgemm::testing::CudaTest;
using liquidgemm::testing::DeviceBuffer;
using liquidgemm::testing::fresh_seed;
using liquidgemm::testing::is_ok;
using liquidgemm::testing::pick;
using liquidgemm::testing::Random;
using liquidgemm::testing::random_floats;
using liquidgemm::testing::Stream;

constexpr int kSequences = 24;
constexpr int kKvHeads = 4;
constexpr int kHeads = 16;
constexpr int kHeadDim = 128;
constexpr int kTokens = 5 * kKvPageTokens + 7;  // two splits, and pages begun and full
constexpr int kColumns = kTokens / kKvPageTokens + 1;
constexpr int kUnits = kSequences * 2;

// A cache that is filled a token a step. The sequences begin at different steps, so that every step
// some are at a page's first or last token.
class GrowingCache {
 public:
  GrowingCache(KvElement element, Random& random)
      : shape_{element, kHeadDim, kKvHeads, 1},
        qkv_(random_floats(random, kSequences * kWidth + 4 * kTokens)),
        angles_(random_floats(random, kTokens * kHeadDim / 2)),
        scales_(std::vector<float>(kKvHeads * kHeadDim, 0.05f)),
        reciprocals_(std::vector<float>(kKvHeads * kHeadDim, 20.0f)),
        pages_(static_cast<std::size_t>(kSequences * kColumns * kv_page_bytes(shape_))),
        q_(kSequences * kHeads * kHeadDim),
        out_(kSequences * kHeads * kHeadDim),
        workspace_(decode_attention_workspace_bytes(shape_, kHeads, kUnits)),
        tables_(kSequences * kColumns),
        positions_(kSequences),
        lengths_(kSequences),
        row_pages_(kSequences),
        rows_(kSequences),
        count_(1),
        taken_(std::vector<std::int32_t>{0}),
        units_(kUnits),
        splits_(kSequences) {
    pages_.fill(0xFF);
    std::vector<std::int32_t> ids(kSequences * kColumns), rows(kSequences);
    std::iota(ids.begin(), ids.end(), 0);
    std::iota(rows.begin(), rows.end(), 0);
    tables_.upload(ids);
    rows_.upload(rows);
  }

  // One token more of every sequence that has begun.
  void step(int step, bool waits, int multiprocessors, const Stream& stream) {
    std::vector<std::int32_t> positions, lengths, row_pages;
    DecodeLists lists;
    lists.kv_heads = kKvHeads;
    lists.teams = step % 2 == 0 ? 0 : kSequences * kKvHeads / 3;
    for (int s = 0; s < kSequences; ++s) {
      const int position = step - 3 * s;
      positions.push_back(std::max(position, 0));
      lengths.push_back(positions.back() + 1);
      row_pages.push_back(s * kColumns + positions.back() / kKvPageTokens);
      lists.add(s, s, lengths.back());
    }
    count_.upload(std::vector{lists.count});
    lists.units.resize(kUnits);
    units_.upload(lists.units);
    splits_.upload(lists.splits);
    positions_.upload(positions);
    lengths_.upload(lengths);
    row_pages_.upload(row_pages);

    NormRopeCacheArguments cache;
    cache.qkv = qkv_.data() + 4 * step;  // other values for every token
    cache.ld_qkv = kWidth;
    cache.rows = kSequences;
    cache.heads = kHeads;
    cache.head_dim = kHeadDim;
    cache.cos = angles_.data();
    cache.sin = angles_.data();
    cache.positions = positions_.data();
    cache.pages_of_rows = row_pages_.data();
    cache.shape = shape_;
    cache.pages = pages_.data();
    cache.k_scale = scales_.data();
    cache.k_reciprocal = reciprocals_.data();
    cache.v_reciprocal = reciprocals_.data();
    cache.q = q_.data();
    ASSERT_TRUE(is_ok(norm_rope_cache(cache, stream)));
    if (waits) stream.wait();

    DecodeAttention attention;
    attention.tensors = {.shape = shape_,
                         .layer = 0,
                         .heads = kHeads,
                         .head_dim = kHeadDim,
                         .softmax_scale = 0.0883883f,
                         .q = q_.data(),
                         .pages = pages_.data(),
                         .v_scale = scales_.data(),
                         .block_tables = tables_.data(),
                         .ld_block_table = kColumns,
                         .out = out_.data(),
                         .ld_out = kHeads * kHeadDim};
    attention.sequences = kSequences;
    attention.lengths = lengths_.data();
    attention.rows = rows_.data();
    attention.units = units_.data();
    attention.unit_count = count_.data();
    attention.units_taken = taken_.data();
    attention.max_units = kUnits;
    attention.workspace = workspace_.data();
    attention.multiprocessors = multiprocessors;
    ASSERT_TRUE(is_ok(decode_attention(attention, stream)));
    if (waits) stream.wait();
    ASSERT_TRUE(is_ok(combine_attention({.tensors = attention.tensors,
                                         .rows = kSequences,
                                         .splits = splits_.data(),
                                         .workspace = workspace_.data()},
                                        stream)));
    stream.wait();
  }

  std::vector<float> out() const { return out_.download(); }

 private:
  static constexpr int kWidth = (kHeads + 2 * kKvHeads) * kHeadDim;

  KvPageShape shape_;
  DeviceBuffer<float> qkv_, angles_, scales_, reciprocals_;
  DeviceBuffer<std::uint8_t> pages_;
  DeviceBuffer<std::uint16_t> q_;
  DeviceBuffer<float> out_;
  DeviceBuffer<std::uint8_t> workspace_;
  DeviceBuffer<std::int32_t> tables_, positions_, lengths_, row_pages_, rows_, count_, taken_;
  DeviceBuffer<AttentionUnit> units_;
  DeviceBuffer<RowSplits> splits_;
};

class CudaDecodeAhead : public CudaTest {};

TEST_F(CudaDecodeAhead, SeesTheTokenThatTheKernelInFrontWrites) {
  const Stream stream;
  for (const KvElement element : kElements) {
    SCOPED_TRACE(element_name(element));
    const auto seed = fresh_seed();
    Random same(seed), random(seed);
    GrowingCache at_once(element, random), one_by_one(element, same);
    for (int step = 0; step < kTokens; ++step) {
      ASSERT_NO_FATAL_FAILURE(at_once.step(step, false, device_.multiprocessors, stream));
      ASSERT_NO_FATAL_FAILURE(one_by_one.step(step, true, device_.multiprocessors, stream));
      const std::vector<float> found = at_once.out(), expected = one_by_one.out();
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_TRUE(std::isfinite(expected[i])) << "step " << step << ", output " << i;
        ASSERT_EQ(std::bit_cast<int>(found[i]), std::bit_cast<int>(expected[i]))
            << "step " << step << ", output " << i;
      }
    }
  }
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
