// Prefill attention against decode attention, which attention_test.cc holds against plain sums: bit
// for bit, however a prompt is cut into tiles and whatever else is computed.
#include <gtest/gtest.h>

#include "fresh_seed.h"
#include "ops_cuda/attention_harness.h"

namespace liquidgemm::cuda::testing {
namespace {

// Every position of every sequence, in order.
std::vector<Query> every_position(const RandomCache& cache, int sequences) {
  std::vector<Query> queries;
  for (int sequence = 0; sequence < sequences; ++sequence) {
    for (int position = 0; position < cache.length(sequence); ++position) {
      queries.push_back({sequence, position});
    }
  }
  return queries;
}

// The rows [begin, end) in tiles of at most `tokens` tokens, as many as a tile may have at most.
// Queries of one sequence follow each other by position.
void cut(const Queries& queries, const std::vector<std::size_t>& rows, std::size_t begin,
         std::size_t end, int tokens, std::vector<AttentionTile>& tiles) {
  while (begin < end) {
    const Query& first = queries[rows[begin]];
    int count = 1;
    while (begin + static_cast<std::size_t>(count) < end && count < tokens) {
      const Query& next = queries[rows[begin + static_cast<std::size_t>(count)]];
      if (next.sequence != first.sequence || next.position != first.position + count) break;
      ++count;
    }
    tiles.push_back({first.sequence, static_cast<std::int32_t>(begin), count, first.position});
    begin += static_cast<std::size_t>(count);
  }
}

// `tiles` of the queries `rows`, by prefill_attention. Rows that are in no tile stay untouched.
void prefill(const RandomCache& cache, const Queries& queries, const std::vector<std::size_t>& rows,
             const std::vector<AttentionTile>& tiles, Results& results) {
  Call call(cache, queries, rows);
  int sequences = 0;
  std::size_t columns = 1;
  for (const AttentionTile& tile : tiles) {
    sequences = std::max(sequences, tile.slot + 1);
    columns = std::max(columns, cache.table(tile.slot).size());
  }
  std::vector<std::int32_t> tables(static_cast<std::size_t>(sequences) * columns, -1);
  for (int slot = 0; slot < sequences; ++slot) {
    const std::vector<int>& table = cache.table(slot);
    std::copy_n(
        table.begin(), std::min(columns, table.size()),
        tables.begin() + static_cast<std::ptrdiff_t>(slot) * static_cast<std::ptrdiff_t>(columns));
  }
  const DeviceBuffer<std::int32_t> device_tables(tables);
  const DeviceBuffer<AttentionTile> device_tiles(tiles);
  PrefillAttention arguments;
  arguments.tensors = call.tensors();
  arguments.tensors.block_tables = device_tables.data();
  arguments.tensors.ld_block_table = static_cast<std::int64_t>(columns);
  arguments.tiles = device_tiles.data();
  arguments.tile_count = static_cast<int>(tiles.size());
  const Stream stream;
  ASSERT_TRUE(is_ok(prefill_attention(arguments, stream)));
  stream.wait();
  call.take_results(results);
}

// All rows in one call, in tiles of at most `tokens` tokens and of what the kernel takes, in a
// random order.
void prefill_all(const RandomCache& cache, const Queries& queries,
                 const std::vector<std::size_t>& rows, int tokens, std::mt19937_64& random,
                 Results& results) {
  const AttentionSizes& sizes = cache.sizes();
  std::vector<AttentionTile> tiles;
  cut(queries, rows, 0, rows.size(),
      std::min(tokens, prefill_tile_tokens(sizes.heads(), sizes.kv_heads)), tiles);
  std::shuffle(tiles.begin(), tiles.end(), random);
  prefill(cache, queries, rows, tiles, results);
}

// The first difference. NaN is NaN, whichever.
::testing::AssertionResult same(const Queries& queries, std::size_t row,
                                const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    return ::testing::AssertionFailure()
           << a[i] << " and " << b[i] << " at " << i << " of sequence " << queries[row].sequence
           << ", position " << queries[row].position;
  }
  return ::testing::AssertionSuccess();
}

void expect_same(const Queries& queries, const std::vector<std::size_t>& rows, const Results& a,
                 const Results& b) {
  for (const std::size_t row : rows) ASSERT_TRUE(same(queries, row, a[row], b[row]));
}

class CudaPrefillAttention : public liquidgemm::testing::CudaTest {
 protected:
  void compare_with_decode(const AttentionSizes& sizes, const std::vector<int>& lengths) {
    SCOPED_TRACE(name_of(sizes));
    const RandomCache cache(sizes, lengths, random_);
    compare_with_decode(cache, static_cast<int>(lengths.size()));
  }

  void compare_with_decode(const RandomCache& cache, int sequences) {
    const Queries queries(cache, every_position(cache, sequences), random_);
    const std::vector<std::size_t> rows = all_of(queries);
    Results decoded, prefilled;
    ASSERT_NO_FATAL_FAILURE(
        decode(cache, queries, rows, device_.multiprocessors, random_, decoded));
    ASSERT_NO_FATAL_FAILURE(prefill_all(cache, queries, rows, 1 << 20, random_, prefilled));
    expect_same(queries, rows, prefilled, decoded);
    EXPECT_TRUE(cache.unchanged());
  }

  std::mt19937_64 random_{liquidgemm::testing::fresh_seed()};
};

TEST_F(CudaPrefillAttention, IsDecodeOfEveryRow) {
  for (const KvElement element : kElements) {
    for (const int head_dim : {64, 128}) {
      for (const int group : {1, 3, 4, 7, 16}) {
        compare_with_decode({element, 2, group, head_dim}, {1, 64, 65, 257, 330});
        if (HasFailure()) return;
      }
    }
    for (const int head_dim : {1, 18, 80, 127}) {
      compare_with_decode({element, 1, 4, head_dim}, {63, 300});
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaPrefillAttention, LongContext) {
  for (const KvElement element : kElements) {
    compare_with_decode({element, 1, 4, 128}, {1700});
    if (HasFailure()) return;
  }
}

// Tiles anywhere: they begin and end in the middle of pages, and warps straddle pages and splits.
TEST_F(CudaPrefillAttention, ChunksOfAnySize) {
  for (const KvElement element : kElements) {
    for (const int group : {1, 4, 5}) {
      const AttentionSizes sizes{element, 2, group, 128};
      SCOPED_TRACE(name_of(sizes));
      const RandomCache cache(sizes, {600, 70}, random_);
      const Queries queries(cache, every_position(cache, 2), random_);
      const std::vector<std::size_t> rows = all_of(queries);
      Results whole;
      ASSERT_NO_FATAL_FAILURE(prefill_all(cache, queries, rows, 1 << 20, random_, whole));
      const int most = prefill_tile_tokens(sizes.heads(), sizes.kv_heads);
      for (const std::size_t chunk : {1, 17, 64, 512}) {
        std::vector<AttentionTile> tiles;
        for (std::size_t begin = 0; begin < rows.size(); begin += chunk) {
          cut(queries, rows, begin, std::min(begin + chunk, rows.size()), most, tiles);
        }
        std::shuffle(tiles.begin(), tiles.end(), random_);
        Results some;
        ASSERT_NO_FATAL_FAILURE(prefill(cache, queries, rows, tiles, some));
        ASSERT_NO_FATAL_FAILURE(expect_same(queries, rows, some, whole)) << "chunks of " << chunk;
      }
    }
  }
}

// Each tile alone and some together; what belongs to no tile is not written.
TEST_F(CudaPrefillAttention, WritesItsRowsWhateverTheCompany) {
  for (const KvElement element : kElements) {
    const AttentionSizes sizes{element, 3, 4, 64};
    SCOPED_TRACE(name_of(sizes));
    const RandomCache cache(sizes, {400, 130, 1}, random_);
    const Queries queries(cache, every_position(cache, 3), random_);
    const std::vector<std::size_t> rows = all_of(queries);
    Results whole;
    ASSERT_NO_FATAL_FAILURE(prefill_all(cache, queries, rows, 1 << 20, random_, whole));
    std::vector<AttentionTile> tiles;
    cut(queries, rows, 0, rows.size(), 29, tiles);
    const auto poison = liquidgemm::testing::poison_value<float>();
    for (std::size_t i = 0; i < tiles.size(); i += 4) {
      std::vector<AttentionTile> few{tiles[i]};
      if (i % 8 == 0 && i + 2 < tiles.size()) few.push_back(tiles[i + 2]);
      std::vector<bool> written(rows.size(), false);
      for (const AttentionTile& tile : few) {
        for (int row = 0; row < tile.rows; ++row) {
          written[static_cast<std::size_t>(tile.first_row + row)] = true;
        }
      }
      Results some;
      ASSERT_NO_FATAL_FAILURE(prefill(cache, queries, rows, few, some));
      for (const std::size_t row : rows) {
        if (written[row]) {
          ASSERT_TRUE(same(queries, row, some[row], whole[row]));
        } else {
          for (const float x : some[row]) {
            ASSERT_EQ(std::memcmp(&x, &poison, sizeof(x)), 0) << "row " << row;
          }
        }
      }
    }
  }
}

// Tokens that are not finite spoil the rows that see them, and no row before.
TEST_F(CudaPrefillAttention, TokensThatAreNotFinite) {
  for (const KvElement element : kElements) {
    if (element == KvElement::kInt8Static) continue;  // has no such tokens
    for (const int group : {1, 3, 8}) {
      const AttentionSizes sizes{element, 2, group, 128};
      SCOPED_TRACE(name_of(sizes));
      RandomCache cache(sizes, {200, 90}, random_);
      cache.spoil(0, 150, true);
      cache.spoil(1, 37, true);
      cache.spoil(1, 38, false);
      ASSERT_NO_FATAL_FAILURE(compare_with_decode(cache, 2));
      const Queries queries(cache, every_position(cache, 2), random_);
      const std::vector<std::size_t> rows = all_of(queries);
      Results results;
      ASSERT_NO_FATAL_FAILURE(prefill_all(cache, queries, rows, 1 << 20, random_, results));
      for (const std::size_t row : rows) {
        const bool spoilt = queries[row].position >= (queries[row].sequence == 0 ? 150 : 37);
        for (const float x : results[row]) {
          ASSERT_EQ(!std::isfinite(x), spoilt) << "position " << queries[row].position;
        }
      }
    }
  }
}

TEST_F(CudaPrefillAttention, NoTilesIsNothingToDo) {
  PrefillAttention arguments;
  arguments.tensors.shape = {KvElement::kInt8, 128, 2, 1};
  arguments.tensors.heads = 8;
  arguments.tensors.head_dim = 128;
  EXPECT_TRUE(is_ok(prefill_attention(arguments, nullptr)));
  arguments.tensors.heads = 9;
  EXPECT_FALSE(prefill_attention(arguments, nullptr).ok());
  arguments.tensors.heads = 8;
  arguments.tensors.shape.element = KvElement::kInt8Static;
  EXPECT_FALSE(prefill_attention(arguments, nullptr).ok()) << "without the scales of the values";
}

TEST(PrefillTile, HasWholeTokens) {
  for (int group = 1; group <= kMaxAttentionGroup; ++group) {
    const int tokens = prefill_tile_tokens(3 * group, 3);
    EXPECT_GE(tokens, 1);
    EXPECT_EQ(tokens, prefill_tile_tokens(group, 1));
    if (group > 1) {
      EXPECT_LE(tokens, prefill_tile_tokens(group - 1, 1));
    }
  }
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
