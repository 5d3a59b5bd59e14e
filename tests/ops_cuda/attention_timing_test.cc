// How fast attention is, over more of the cache than fits into L2. Never asserts speed; run with
// --gtest_also_run_disabled_tests.
#include <gtest/gtest.h>

#include <cstdio>

#include "base/status_macros.h"
#include "gemm_cuda/graph.h"
#include "ops_cuda/attention_harness.h"

namespace liquidgemm::cuda::testing {
namespace {

using liquidgemm::testing::best_replay;

class CudaAttentionTiming : public liquidgemm::testing::CudaTest {};

constexpr int kHeadDim = 128;

// The cache of `slots` sequences of `tokens` tokens, and `rows` rows of queries: every byte the
// same, plain numbers everywhere.
struct PlainTensors {
  PlainTensors(const KvPageShape& cache_shape, int query_heads, int slots, int tokens,
               std::int64_t rows)
      : shape(cache_shape),
        heads(query_heads),
        columns(tokens / kKvPageTokens),
        pages(static_cast<std::size_t>(slots * columns * kv_page_bytes(shape))),
        tables(static_cast<std::size_t>(slots * columns)),
        q(static_cast<std::size_t>(rows * heads * kHeadDim)),
        out(q.count()),
        v_scale(std::vector<float>(static_cast<std::size_t>(shape.kv_heads * kHeadDim), 1.0f)) {
    pages.fill(0x3C);
    q.fill(0x2C);
    std::vector<std::int32_t> ids(tables.count());
    std::iota(ids.begin(), ids.end(), 0);
    std::mt19937 random(1);
    std::shuffle(ids.begin(), ids.end(), random);
    tables.upload(ids);
  }

  AttentionTensors view() const {
    return {.shape = shape,
            .layer = 0,
            .heads = heads,
            .head_dim = kHeadDim,
            .softmax_scale = 0.0883883f,
            .q = q.data(),
            .pages = pages.data(),
            .v_scale = v_scale.data(),
            .block_tables = tables.data(),
            .ld_block_table = columns,
            .out = out.data(),
            .ld_out = heads * kHeadDim};
  }

  KvPageShape shape;
  int heads, columns;
  DeviceBuffer<std::uint8_t> pages;
  DeviceBuffer<std::int32_t> tables;
  DeviceBuffer<std::uint16_t> q;
  DeviceBuffer<float> out, v_scale;
};

// `tokens`: a multiple of a page. `team` 0 is what is best.
void time_decode(KvElement element, int kv_heads, int heads, int slots, int tokens, int team,
                 int multiprocessors) {
  KvPageShape shape{element, kHeadDim, kv_heads, 1};
  const double layer_bytes = static_cast<double>(slots) * (tokens / kKvPageTokens) *
                             static_cast<double>(kv_page_bytes(shape));
  shape.layers = std::max(2, static_cast<int>(6e8 / layer_bytes) + 1);
  const PlainTensors plain(shape, heads, slots, tokens, slots);
  DecodeLists lists;
  lists.kv_heads = kv_heads;
  lists.teams = decode_teams(shape, heads, slots, multiprocessors, team);
  std::vector<std::int32_t> row_of;
  for (int slot = 0; slot < slots; ++slot) {
    row_of.push_back(slot);
    lists.add(slot, slot, tokens);
  }
  const std::int32_t unit_count = lists.count;
  const DeviceBuffer<AttentionUnit> units(lists.units);
  const DeviceBuffer<RowSplits> splits(lists.splits);
  const DeviceBuffer<std::int32_t> rows(row_of),
      lengths(std::vector<std::int32_t>(row_of.size(), tokens)),
      count(std::vector<std::int32_t>{unit_count}), taken(std::vector<std::int32_t>{0});
  const DeviceBuffer<std::uint8_t> workspace(
      decode_attention_workspace_bytes(shape, heads, unit_count));
  DecodeAttention arguments;
  AttentionTensors& tensors = arguments.tensors;
  tensors = plain.view();
  arguments.sequences = slots;
  arguments.lengths = lengths.data();
  arguments.rows = rows.data();
  arguments.units = units.data();
  arguments.unit_count = count.data();
  arguments.units_taken = taken.data();
  arguments.max_units = unit_count;
  arguments.workspace = workspace.data();
  arguments.multiprocessors = multiprocessors;
  arguments.team = team;
  const DeviceBuffer<std::int8_t> x8(plain.q.count());
  const DeviceBuffer<float> scale(row_of.size());
  const DeviceBuffer<std::int32_t> sum(row_of.size());
  const Stream stream;
  const auto milliseconds = [&](bool quantizes) {
    const auto launch = [&]() -> Status {
      for (int layer = 0; layer < shape.layers; ++layer) {
        tensors.layer = layer;
        LIQUIDGEMM_RETURN_IF_ERROR(decode_attention(arguments, stream));
        if (!quantizes) continue;
        LIQUIDGEMM_RETURN_IF_ERROR(quantize_attention(
            {.tensors = tensors,
             .rows = slots,
             .splits = splits.data(),
             .workspace = workspace.data()},
            {.x8 = x8.data(), .ld_x8 = tensors.ld_out, .scale = scale.data(), .sum = sum.data()},
            stream));
      }
      return ok_status();
    };
    return best_replay(stream, launch) / shape.layers;
  };
  const double alone = milliseconds(false);
  std::printf(
      "decode %s, heads %d/%d, batch %3d, %d tokens, %s: %8.2f us a layer, %6.0f GB/s, "
      "with its rows to INT8 %8.2f us\n",
      element_name(element), heads, kv_heads, slots, tokens,
      team == 0 ? "default   " : ("teams of " + std::to_string(team)).c_str(), alone * 1e3,
      layer_bytes / alone * 1e-6, milliseconds(true) * 1e3);
  std::fflush(stdout);
}

void time_prefill(KvElement element, int kv_heads, int heads, int slots, int prompt) {
  const KvPageShape shape{element, kHeadDim, kv_heads, 1};
  const PlainTensors plain(shape, heads, slots, prompt, std::int64_t{slots} * prompt);
  std::vector<AttentionTile> list;
  const int most = prefill_tile_tokens(heads, kv_heads);
  for (int slot = 0; slot < slots; ++slot) {
    for (int first = 0; first < prompt; first += most) {
      list.push_back({slot, slot * prompt + first, std::min(most, prompt - first), first});
    }
  }
  std::stable_sort(list.begin(), list.end(), [](const AttentionTile& a, const AttentionTile& b) {
    return a.first_position > b.first_position;
  });
  const DeviceBuffer<AttentionTile> tiles(list);
  PrefillAttention arguments;
  arguments.tensors = plain.view();
  arguments.tiles = tiles.data();
  arguments.tile_count = static_cast<int>(list.size());
  const Stream stream;
  const double milliseconds =
      best_replay(stream, [&] { return prefill_attention(arguments, stream); });
  // Two products with every token that a row sees.
  const double operations = 4.0 * kHeadDim * heads * slots * prompt * (prompt + 1.0) / 2;
  std::printf("prefill %s, heads %d/%d, %d prompts of %4d: %9.2f us a layer, %4.0f TFLOP/s\n",
              element_name(element), heads, kv_heads, slots, prompt, milliseconds * 1e3,
              operations / milliseconds * 1e-9);
  std::fflush(stdout);
}

TEST_F(CudaAttentionTiming, DISABLED_Prefill) {
  for (const KvElement element : kElements) {
    for (const int kv_heads : {8, 32}) {
      time_prefill(element, kv_heads, 32, 8, 1024);
      time_prefill(element, kv_heads, 32, 1, 8192);
    }
  }
}

TEST_F(CudaAttentionTiming, DISABLED_Decode) {
  for (const KvElement element : kElements) {
    for (const auto& [heads, kv_heads] : {std::pair(32, 8), std::pair(32, 32), std::pair(64, 8)}) {
      for (const int slots : {1, 16, 64, 256}) {
        for (const int tokens : {1280, 1344}) {
          // What is best here, and others to judge that by.
          for (const int team : {0, 1, 2, 4}) {
            time_decode(element, kv_heads, heads, slots, tokens, team, device_.multiprocessors);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
