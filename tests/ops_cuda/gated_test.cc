// The gate's activation with up, quantised, on the GPU: the CPU's bits.
#include <bit>
#include <limits>

#include "gemm_cuda/gemm_harness.h"
#include "ops/cpu/ops.h"
#include "ops/cuda/rows.h"
#include "ops_cuda/silu_differences.h"

namespace liquidgemm::testing {
namespace {

class CudaGated : public CudaTest {};

TEST_F(CudaGated, RowsAreThoseOfTheCpu) {
  Random random(fresh_seed());
  const Stream stream;
  const CpuOps& ops = cpu_ops(best_isa());
  // The last ones are longer than what a block or a cluster keeps in registers. By the number of
  // rows clusters are of eight, two and one blocks.
  for (const std::int64_t width : {4, 8, 36, 512, 2048, 2052, 14336, 16388, 28672, 32772, 65540}) {
    const std::int64_t most[] = {40, 70, 140};
    const std::int64_t rows = pick(random, 1, width > 4096 ? 5 : most[random() % 3]);
    const std::int64_t ld = 2 * width + 4 * pick(random, 0, 2);
    const std::int64_t ld_x8 = (width + 15) / 16 * 16 + 16 * pick(random, 0, 1);
    SCOPED_TRACE("width " + std::to_string(width) + ", rows " + std::to_string(rows));
    std::vector<float> gate_up = random_floats(random, rows * ld);
    for (std::int64_t row = 0; row < rows; ++row) {
      float* values = gate_up.data() + row * ld;
      const auto kind = random() % 8;
      const float factor = kind == 0 ? 1e-30f : kind == 1 ? 1e4f : kind == 2 ? 30.0f : 1.0f;
      for (std::int64_t i = 0; i < 2 * width; ++i) values[i] *= factor;
      if (kind == 3) std::fill_n(values, 2 * width, 0.0f);
      if (kind == 4)
        values[pick(random, 0, 2 * width - 1)] = std::numeric_limits<float>::infinity();
      if (kind == 5) values[pick(random, 0, 2 * width - 1)] = std::nanf("");
    }
    const DeviceBuffer<float> device(gate_up);
    const DeviceBuffer<std::int8_t> x8(static_cast<std::size_t>(rows * ld_x8));
    const DeviceBuffer<float> scale(static_cast<std::size_t>(rows));
    const DeviceBuffer<std::int32_t> sum(static_cast<std::size_t>(rows));
    ASSERT_TRUE(is_ok(cuda::silu_multiply_quantize({.gate_up = device.data(),
                                                    .ld = ld,
                                                    .rows = rows,
                                                    .width = width,
                                                    .x8 = x8.data(),
                                                    .ld_x8 = ld_x8,
                                                    .scale = scale.data(),
                                                    .sum = sum.data()},
                                                   stream)));
    stream.wait();
    const auto found = x8.download();
    const auto scales = scale.download();
    const auto sums = sum.download();
    std::vector<float> product(static_cast<std::size_t>(width));
    std::vector<std::int8_t> expected(static_cast<std::size_t>(width));
    for (std::int64_t row = 0; row < rows; ++row) {
      const float* values = gate_up.data() + row * ld;
      ops.silu_multiply(values, values + width, product.data(), width);
      float row_scale = 0.0f;
      std::int32_t row_sum = 0;
      const bool finite =
          reference_quantize_row(product.data(), width, expected.data(), &row_scale, &row_sum);
      const auto at = static_cast<std::size_t>(row);
      EXPECT_EQ(std::isnan(scales[at]), !finite);
      if (finite) {
        EXPECT_EQ(std::bit_cast<int>(scales[at]), std::bit_cast<int>(row_scale));
      }
      EXPECT_EQ(sums[at], row_sum);
      for (std::int64_t i = 0; i < ld_x8; ++i) {
        const std::int8_t want =
            i < width ? expected[static_cast<std::size_t>(i)] : poison_value<std::int8_t>();
        ASSERT_EQ(found[static_cast<std::size_t>(row * ld_x8 + i)], want) << row << ", " << i;
      }
    }
    EXPECT_TRUE(x8.guards_intact());
    EXPECT_TRUE(scale.guards_intact());
    EXPECT_TRUE(sum.guards_intact());
  }
}

TEST_F(CudaGated, EveryGateGivesTheContractsBits) {
  const Stream stream;
  const DeviceBuffer<unsigned long long> differences(std::vector<unsigned long long>{0});
  for (const float up : {1.0f, -0.37f, 1e-20f}) {
    CHECK_CUDA(cuda::testing::count_silu_differences(up, differences.data(), stream));
  }
  stream.wait();
  EXPECT_EQ(differences.download().front(), 0u);
}

TEST_F(CudaGated, RefusesWhatItCannotDo) {
  const Stream stream;
  const DeviceBuffer<float> floats(64);
  const DeviceBuffer<std::int8_t> x8(64);
  const DeviceBuffer<std::int32_t> sums(4);
  const cuda::SiluMultiplyQuantizeArguments good = {.gate_up = floats.data(),
                                                    .ld = 16,
                                                    .rows = 1,
                                                    .width = 8,
                                                    .x8 = x8.data(),
                                                    .ld_x8 = 8,
                                                    .scale = floats.data(),
                                                    .sum = sums.data()};
  const auto refused = [&](const auto& spoil) {
    cuda::SiluMultiplyQuantizeArguments arguments = good;
    spoil(arguments);
    return silu_multiply_quantize(arguments, stream).code() == StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](auto& a) { a.gate_up = nullptr; }));
  EXPECT_TRUE(refused([](auto& a) { a.sum = nullptr; }));
  EXPECT_TRUE(refused([](auto& a) { a.rows = 0; }));
  EXPECT_TRUE(refused([](auto& a) { a.width = 6; }));
  EXPECT_TRUE(refused([](auto& a) {
    a.width = 66312;
    a.ld = 2 * a.width;
    a.ld_x8 = a.width;
  }));
  EXPECT_TRUE(refused([](auto& a) { a.ld = 12; }));
  EXPECT_TRUE(refused([](auto& a) { a.ld_x8 = 4; }));
  EXPECT_TRUE(refused([](auto& a) { a.gate_up += 1; }));
}

}  // namespace
}  // namespace liquidgemm::testing
