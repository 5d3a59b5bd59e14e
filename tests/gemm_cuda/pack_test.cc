// The packed weight, taken apart on the host by the drawing in layout.h, and the faults that
// pack_weights must find.
#include <functional>

#include "cuda_fixture.h"
#include "quant/liquid_quant.h"

namespace liquidgemm::testing {
namespace {

class Pack : public CudaTest {};

std::int64_t blocks_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

// One weight matrix as the kernels see it, read element by element.
class PackedReader {
 public:
  PackedReader(const CudaGemmDesc& desc, std::vector<std::uint8_t> bytes)
      : desc_(desc), bytes_(std::move(bytes)), k_blocks_(blocks_of(desc.k, 128)) {}

  std::int64_t rows() const { return blocks_of(desc_.n, 64) * 64; }
  std::int64_t columns() const { return k_blocks_ * 128; }
  std::int64_t groups() const { return columns() / desc_.group_size; }
  std::int64_t expected_bytes() const { return scales_at() + rows() * 4; }

  int code(std::int64_t row, std::int64_t column) const {
    const std::int64_t half = column % 128 / 64;
    const std::int64_t k = column % 64;
    const std::int64_t lane = 4 * (row % 8) + k % 16 / 4;
    const std::int64_t thread = 32 * (row % 64 / 16) + lane;
    const std::int64_t word = 2 * (k / 32) + row % 16 / 8;
    const std::int64_t at = block_at(row, column) + 2048 * half + 16 * thread + 4 * word + k % 4;
    return k % 32 < 16 ? bytes_[at] & 0x0F : bytes_[at] >> 4;
  }
  // Of INT8 weights.
  int weight(std::int64_t row, std::int64_t column) const {
    const std::int64_t step = column % 128 / 32;
    const std::int64_t k = column % 32;
    const std::int64_t thread = 32 * (row % 64 / 16) + 4 * (row % 8) + k % 16 / 4;
    const std::int64_t fragment = 2 * (k / 16) + row % 16 / 8;
    return static_cast<std::int8_t>(
        bytes_[block_at(row, column) + 2048 * step + 16 * thread + 4 * fragment + k % 4]);
  }
  int step(std::int64_t row, std::int64_t group) const { return bytes_[step_at(row, group)]; }
  int offset(std::int64_t row, std::int64_t group) const { return bytes_[step_at(row, group) + 1]; }
  float channel_scale(std::int64_t row) const {
    float scale;
    std::memcpy(&scale, bytes_.data() + scales_at() + 4 * row, sizeof(scale));
    return scale;
  }

  // The row of the checkpoint that lies in `row`, or -1.
  std::int64_t source(std::int64_t row) const {
    if (!desc_.gated) return row < desc_.n ? row : -1;
    const std::int64_t pair = row / 64 * 32 + row % 64 / 16 * 8 + row % 8;
    if (pair >= desc_.n / 2) return -1;
    return row % 16 < 8 ? pair : desc_.n / 2 + pair;
  }

 private:
  std::int64_t block_bytes() const {
    return desc_.group_size == kInt8Weights ? 8192 : 4096 + 32 * 4 * (128 / desc_.group_size);
  }
  std::int64_t block_at(std::int64_t row, std::int64_t column) const {
    return (row / 64 * k_blocks_ + column / 128) * block_bytes();
  }
  std::int64_t step_at(std::int64_t row, std::int64_t group) const {
    const std::int64_t words = 128 / desc_.group_size;
    const std::int64_t pair = row % 64 / 16 * 8 + row % 8;
    return block_at(row, group * desc_.group_size) + 4096 + 4 * (pair * words + group % words) +
           2 * (row % 16 / 8);
  }
  std::int64_t scales_at() const { return rows() / 64 * k_blocks_ * block_bytes(); }

  CudaGemmDesc desc_;
  std::vector<std::uint8_t> bytes_;
  std::int64_t k_blocks_;
};

void expect_packed(const Layer& layer, const PackedReader& packed) {
  const std::int64_t groups = blocks_of(layer.k, layer.group_size);
  for (std::int64_t row = 0; row < packed.rows(); ++row) {
    const std::int64_t source = packed.source(row);
    ASSERT_EQ(packed.channel_scale(row), source < 0 ? 0.0f : layer.channel_scale[source]) << row;
    for (std::int64_t group = 0; group < packed.groups(); ++group) {
      const bool real = source >= 0 && group < groups;
      ASSERT_EQ(packed.step(row, group), real ? layer.step[source * groups + group] : 1)
          << "row " << row << " group " << group;
      ASSERT_EQ(packed.offset(row, group), real ? layer.offset[source * groups + group] : 0)
          << "row " << row << " group " << group;
    }
    for (std::int64_t column = 0; column < packed.columns(); ++column) {
      int expected = 0;
      if (source >= 0 && column < layer.k) {
        const int pair = layer.packed[source * (layer.k / 2) + column / 2];
        expected = column % 2 == 0 ? pair & 0x0F : pair >> 4;
      }
      ASSERT_EQ(packed.code(row, column), expected) << "row " << row << " column " << column;
    }
  }
}

TEST_F(Pack, EveryElementLiesWhereTheLayoutSays) {
  Random random(fresh_seed());
  const Stream stream;
  for (int i = 0; i < 60; ++i) {
    const int group_size = 32 << pick(random, 0, 2);
    const bool gated = random() % 2;
    const std::int64_t n = gated ? 16 * pick(random, 1, 14) : 8 * pick(random, 1, 28);
    const Layer layer = random_liquid4(random, n, 32 * pick(random, 1, 20), group_size);
    CudaGemmDesc desc = desc_of(layer);
    desc.gated = gated;
    SCOPED_TRACE("N " + std::to_string(n) + ", K " + std::to_string(layer.k) + ", group " +
                 std::to_string(group_size) + (gated ? ", gated" : ""));
    const DeviceSource source(layer);
    const DeviceBuffer<std::uint8_t> packed(packed_weight_bytes(desc));
    ASSERT_TRUE(is_ok(pack_weights(desc, source.view(), packed.data(), stream)));
    ASSERT_TRUE(packed.guards_intact());
    const PackedReader reader(desc, packed.download());
    ASSERT_EQ(static_cast<std::int64_t>(packed.count()), reader.expected_bytes());
    expect_packed(layer, reader);
    if (HasFatalFailure()) return;
  }
}

TEST_F(Pack, Int8WeightsLieWhereTheLayoutSays) {
  Random random(fresh_seed());
  const Stream stream;
  for (int i = 0; i < 30; ++i) {
    const bool gated = random() % 2;
    const std::int64_t n = gated ? 16 * pick(random, 1, 14) : 8 * pick(random, 1, 28);
    const Layer layer = random_int8(random, n, pick(random, 1, 600));
    CudaGemmDesc desc = desc_of(layer);
    desc.gated = gated;
    SCOPED_TRACE("N " + std::to_string(n) + ", K " + std::to_string(layer.k) +
                 (gated ? ", gated" : ""));
    const DeviceSource source(layer);
    const DeviceBuffer<std::uint8_t> packed(packed_weight_bytes(desc));
    ASSERT_TRUE(is_ok(pack_weights(desc, source.view(), packed.data(), stream)));
    ASSERT_TRUE(packed.guards_intact());
    const PackedReader reader(desc, packed.download());
    ASSERT_EQ(static_cast<std::int64_t>(packed.count()), reader.expected_bytes());
    for (std::int64_t row = 0; row < reader.rows(); ++row) {
      const std::int64_t from = reader.source(row);
      ASSERT_EQ(reader.channel_scale(row), from < 0 ? 0.0f : layer.channel_scale[from]) << row;
      for (std::int64_t column = 0; column < reader.columns(); ++column) {
        const bool real = from >= 0 && column < layer.k;
        ASSERT_EQ(reader.weight(row, column), real ? layer.int8[from * layer.k + column] : 0)
            << "row " << row << " column " << column;
      }
    }
  }
}

// Tens of thousands of thread blocks, and the largest K.
TEST_F(Pack, LargeMatrices) {
  Random random(fresh_seed());
  const Stream stream;
  for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{4104, 2080}, {72, 66304}}) {
    const Layer layer = random_liquid4(random, n, k, 64);
    const CudaGemmDesc desc = desc_of(layer);
    const DeviceSource source(layer);
    const DeviceBuffer<std::uint8_t> packed(packed_weight_bytes(desc));
    ASSERT_TRUE(is_ok(pack_weights(desc, source.view(), packed.data(), stream)));
    expect_packed(layer, PackedReader(desc, packed.download()));
    if (HasFatalFailure()) return;
  }
}

// The same words as the host's check for the same faults, of which the first one counts.
TEST_F(Pack, FaultsAreReportedLikeTheHostReportsThem) {
  Random random(fresh_seed());
  const Stream stream;
  const float bad_scales[] = {0.0f, -1.0f, 1e-40f, std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()};
  for (int i = 0; i < 120; ++i) {
    const int group_size = 32 << pick(random, 0, 2);
    const bool gated = random() % 2;
    Layer layer =
        random_liquid4(random, 16 * pick(random, 1, 12), 32 * pick(random, 1, 20), group_size);
    const std::int64_t groups = blocks_of(layer.k, group_size);
    const auto faults = pick(random, 1, 4);
    for (std::int64_t fault = 0; fault < faults; ++fault) {
      const std::int64_t row = pick(random, 0, layer.n - 1);
      const std::int64_t group = random() % 3 == 0 ? groups - 1 : pick(random, 0, groups - 1);
      switch (random() % 4) {
        case 0: layer.channel_scale[row] = bad_scales[random() % std::size(bad_scales)]; break;
        case 1: layer.step[row * groups + group] = 0; break;
        case 2:
          layer.step[row * groups + group] = static_cast<std::uint8_t>(pick(random, 17, 255));
          break;
        default: {
          // One code of the group, anywhere in it, is one too large.
          const std::int64_t size =
              std::min<std::int64_t>(group_size, layer.k - group * group_size);
          const std::int64_t at = row * (layer.k / 2) + group * group_size / 2;
          const int code = static_cast<int>(pick(random, 1, 15));
          for (std::int64_t byte = 0; byte < size / 2; ++byte) layer.packed[at + byte] = 0;
          layer.packed[at + pick(random, 0, size / 2 - 1)] =
              static_cast<std::uint8_t>(random() % 2 ? code : code << 4);
          layer.step[row * groups + group] = 16;
          layer.offset[row * groups + group] = static_cast<std::uint8_t>(256 - code * 16);
        }
      }
    }
    const Status expected =
        check_liquid_rows(layer.packed, layer.step, layer.offset, layer.channel_scale, layer.n,
                          layer.k, group_size, "test.layer");
    ASSERT_FALSE(expected.ok());
    CudaGemmDesc desc = desc_of(layer);
    desc.gated = gated;
    const DeviceSource source(layer);
    const DeviceBuffer<std::uint8_t> packed(packed_weight_bytes(desc));
    const Status status = pack_weights(desc, source.view(), packed.data(), stream);
    EXPECT_EQ(status.to_string(), expected.to_string());
  }
}

// A group whose highest code reaches 255 exactly is taken.
TEST_F(Pack, TheHighestLevelIsInsideTheContract) {
  Random random(fresh_seed());
  const Stream stream;
  for (const Extreme extreme : {Extreme::kHighest, Extreme::kLowest}) {
    const Layer layer = random_liquid4(random, 72, 224, 64, extreme);
    const DeviceSource source(layer);
    const DeviceBuffer<std::uint8_t> packed(packed_weight_bytes(desc_of(layer)));
    EXPECT_TRUE(is_ok(pack_weights(desc_of(layer), source.view(), packed.data(), stream)));
  }
}

TEST_F(Pack, RefusesWhatItCannotRead) {
  Random random(1);
  const Stream stream;
  const Layer layer = random_liquid4(random, 16, 64, 64);
  const CudaGemmDesc desc = desc_of(layer);
  const DeviceSource source(layer);
  const DeviceBuffer<std::uint8_t> packed(packed_weight_bytes(desc));
  const auto expect_refused = [&](const std::function<void(CudaWeightSource&)>& spoil) {
    CudaWeightSource view = source.view();
    spoil(view);
    const Status status = pack_weights(desc, view, packed.data(), stream);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.to_string();
    EXPECT_NE(status.message().find("test.layer"), std::string::npos) << status.to_string();
  };
  expect_refused([](CudaWeightSource& view) { view.packed = nullptr; });
  expect_refused([](CudaWeightSource& view) { view.packed += 8; });
  expect_refused([](CudaWeightSource& view) { view.group_step = nullptr; });
  expect_refused([](CudaWeightSource& view) { view.group_offset = nullptr; });
  expect_refused([](CudaWeightSource& view) { view.channel_scale = nullptr; });
  CudaGemmDesc int8 = desc;
  int8.group_size = kInt8Weights;
  EXPECT_EQ(pack_weights(int8, source.view(), packed.data(), stream).code(),
            StatusCode::kInvalidArgument);
  for (void* target : {static_cast<void*>(nullptr), static_cast<void*>(packed.data() + 128)}) {
    EXPECT_EQ(pack_weights(desc, source.view(), target, stream).code(),
              StatusCode::kInvalidArgument);
  }
  for (const std::uint8_t byte : packed.download()) {
    ASSERT_EQ(byte, DeviceBuffer<std::uint8_t>::kPoison);
  }
}

}  // namespace
}  // namespace liquidgemm::testing
