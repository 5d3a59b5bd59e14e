// How long the kernels between the products take, one after the other as in a step's graph. Never
// asserts speed; run with --gtest_also_run_disabled_tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "fresh_seed.h"
#include "gemm_cuda/graph.h"
#include "ops/cuda/attention_rows.h"
#include "ops/cuda/rows.h"
#include "ops_cuda/decode_lists.h"
#include "ops_cuda/elements.h"

namespace liquidgemm::cuda::testing {
namespace {

using liquidgemm::testing::best_replay;
using liquidgemm::testing::DeviceBuffer;
using liquidgemm::testing::fresh_seed;
using liquidgemm::testing::pick;
using liquidgemm::testing::Random;
using liquidgemm::testing::random_floats;
using liquidgemm::testing::Stream;

class CudaRowsTiming : public liquidgemm::testing::CudaTest {};

constexpr int kLayers = 48;
constexpr int kHeads = 32;
constexpr int kHeadDim = 128;
constexpr int kCounts[] = {1, 16, 64, 256};  // of rows

// Microseconds of one of a graph's launches, one for each layer.
double time_of(const Stream& stream, const std::function<Status(int)>& launch) {
  const double milliseconds = best_replay(stream, [&]() -> Status {
    for (int layer = 0; layer < kLayers; ++layer) LIQUIDGEMM_RETURN_IF_ERROR(launch(layer));
    return ok_status();
  });
  return 1e3 * milliseconds / kLayers;
}

// A line of the table: a time for each number of rows.
void print_line(const std::string& what, const std::function<double(int)>& microseconds) {
  std::printf("%-36s", what.c_str());
  for (const int rows : kCounts) {
    std::printf("  %3d rows %6.2f us", rows, microseconds(rows));
    std::fflush(stdout);
  }
  std::printf("\n");
}

// All layers read and write the same activations, as those of a model do; each has pages of its
// own, one for each row.
double time_norm_rope_cache(KvElement element, int kv_heads, bool norm, int rows) {
  Random random(fresh_seed());
  constexpr int kPositions = 4096;
  const KvPageShape shape{element, kHeadDim, kv_heads, 1};
  const std::int64_t width = std::int64_t{kHeads + 2 * kv_heads} * kHeadDim;
  std::vector<std::int32_t> page_of_row, position_of_row;
  for (int row = 0; row < rows; ++row) {
    page_of_row.push_back(row);
    position_of_row.push_back(static_cast<std::int32_t>(pick(random, 0, kPositions - 1)));
  }
  std::shuffle(page_of_row.begin(), page_of_row.end(), random);
  const DeviceBuffer<float> qkv(random_floats(random, rows * width)),
      angles(random_floats(random, kPositions * kHeadDim / 2)),
      weights(random_floats(random, kHeadDim)),
      scales(std::vector<float>(static_cast<std::size_t>(kv_heads * kHeadDim), 20.0f));
  const DeviceBuffer<std::int32_t> positions(position_of_row), pages_of_rows(page_of_row);
  const std::int64_t layer_bytes = rows * kv_page_bytes(shape);
  const DeviceBuffer<std::uint8_t> pages(static_cast<std::size_t>(kLayers * layer_bytes));
  const DeviceBuffer<std::uint16_t> q(static_cast<std::size_t>(rows * kHeads * kHeadDim));
  NormRopeCacheArguments arguments;
  arguments.qkv = qkv.data();
  arguments.ld_qkv = width;
  arguments.rows = rows;
  arguments.heads = kHeads;
  arguments.head_dim = kHeadDim;
  if (norm) arguments.q_norm = arguments.k_norm = weights.data();
  arguments.cos = arguments.sin = angles.data();
  arguments.positions = positions.data();
  arguments.pages_of_rows = pages_of_rows.data();
  arguments.shape = shape;
  arguments.k_scale = arguments.k_reciprocal = arguments.v_reciprocal = scales.data();
  arguments.q = q.data();
  const Stream stream;
  return time_of(stream, [&](int layer) {
    arguments.pages = pages.data() + layer * layer_bytes;
    return norm_rope_cache(arguments, stream);
  });
}

double time_add_norm_quantize(std::int64_t width, int rows) {
  Random random(fresh_seed());
  const DeviceBuffer<float> x(random_floats(random, rows * width)),
      residual(random_floats(random, rows * width)),
      weights(random_floats(random, kLayers * width)), scale(static_cast<std::size_t>(rows));
  const DeviceBuffer<std::int8_t> x8(x.count());
  const DeviceBuffer<std::int32_t> sum(scale.count());
  CudaAddNormQuantizeArguments arguments;
  arguments.rows = {.x = x.data(),
                    .ld_x = width,
                    .type = CudaFloat::kFloat32,
                    .m = rows,
                    .k = width,
                    .x8 = x8.data(),
                    .ld_x8 = width,
                    .scale = scale.data(),
                    .sum = sum.data()};
  arguments.residual = residual.data();
  arguments.ld_residual = width;
  arguments.residual_type = CudaFloat::kFloat32;
  const Stream stream;
  return time_of(stream, [&](int layer) {
    arguments.norm_weight = weights.data() + layer * width;
    return add_norm_quantize_rows(arguments, stream);
  });
}

double time_quantize_attention(int kv_heads, int tokens, int rows) {
  const KvPageShape shape{KvElement::kInt8, kHeadDim, kv_heads, 1};
  DecodeLists lists;
  for (int row = 0; row < rows; ++row) lists.add(row, row, tokens);
  const DeviceBuffer<RowSplits> splits(lists.splits);
  const DeviceBuffer<std::uint8_t> workspace(
      decode_attention_workspace_bytes(shape, kHeads, static_cast<int>(lists.units.size())));
  workspace.fill(0x3C);
  const DeviceBuffer<float> out(static_cast<std::size_t>(rows * kHeads * kHeadDim)),
      scale(static_cast<std::size_t>(rows));
  out.fill(0x3C);
  const DeviceBuffer<std::int8_t> x8(out.count());
  const DeviceBuffer<std::int32_t> sum(scale.count());
  AttentionRows arguments;
  arguments.tensors.shape = shape;
  arguments.tensors.heads = kHeads;
  arguments.tensors.head_dim = kHeadDim;
  arguments.tensors.out = out.data();
  arguments.tensors.ld_out = kHeads * kHeadDim;
  arguments.rows = rows;
  arguments.splits = splits.data();
  arguments.workspace = workspace.data();
  const Stream stream;
  return time_of(stream, [&](int) {
    return quantize_attention(
        arguments,
        {.x8 = x8.data(), .ld_x8 = kHeads * kHeadDim, .scale = scale.data(), .sum = sum.data()},
        stream);
  });
}

TEST_F(CudaRowsTiming, DISABLED_NormRopeCache) {
  for (const KvElement element : kElements) {
    for (const int kv_heads : {8, 32}) {
      for (const bool norm : {false, true}) {
        print_line(std::string("norm_rope_cache ") + element_name(element) + ", " +
                       std::to_string(kHeads) + "/" + std::to_string(kv_heads) +
                       (norm ? ", norm" : ""),
                   [&](int rows) { return time_norm_rope_cache(element, kv_heads, norm, rows); });
      }
    }
  }
}

TEST_F(CudaRowsTiming, DISABLED_RowsToInt8) {
  print_line("add_norm_quantize_rows of 4096",
             [](int rows) { return time_add_norm_quantize(4096, rows); });
  for (const int kv_heads : {8, 32}) {
    for (const int tokens : {256, 1280}) {
      print_line("quantize_attention 32/" + std::to_string(kv_heads) + ", " +
                     std::to_string(attention_splits(tokens)) + " splits",
                 [&](int rows) { return time_quantize_attention(kv_heads, tokens, rows); });
    }
  }
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
