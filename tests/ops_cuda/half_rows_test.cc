// The f16 rows of FP16 weights on the GPU, against the CPU's operations rounded to f16.
#include "ops/cuda/half_rows.h"

#include <functional>

#include "base/half.h"
#include "gemm/cuda/fp16_linear.h"
#include "gemm_cuda/cuda_fixture.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::testing {
namespace {

class HalfRows : public CudaTest {};

using Halves = std::vector<std::uint16_t>;
using Floats = std::vector<float>;

// Some of all sizes that f16 rounds, overflows and underflows; a few rows hold a NaN.
Floats random_values(Random& random, std::int64_t rows, std::int64_t width) {
  Floats values(static_cast<std::size_t>(rows * width));
  for (std::int64_t row = 0; row < rows; ++row) {
    const int exponent = static_cast<int>(pick(random, -20, 12));
    for (std::int64_t i = 0; i < width; ++i) {
      const double uniform = static_cast<double>(random() >> 11) * 0x1p-52 - 1.0;
      values[static_cast<std::size_t>(row * width + i)] =
          std::ldexp(static_cast<float>(uniform), exponent + static_cast<int>(random() % 4));
    }
    if (random() % 8 == 0) values[static_cast<std::size_t>(row * width)] = std::nanf("");
  }
  return values;
}

Halves rounded(const Floats& values) {
  Halves halves;
  for (const float value : values) halves.push_back(float_to_f16(value));
  return halves;
}

Floats widened(const Halves& halves) {
  Floats values;
  for (const std::uint16_t half : halves) values.push_back(f16_to_float(half));
  return values;
}

// Which NaN a NaN is does not matter: widening is exact and keeps it one.
::testing::AssertionResult same(const Floats& found, const Floats& expected, std::int64_t width) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (same_float(found[i], expected[i])) continue;
    const auto at = static_cast<std::int64_t>(i);
    return ::testing::AssertionFailure() << "row " << at / width << ", column " << at % width
                                         << ": " << found[i] << ", expected " << expected[i];
  }
  return ::testing::AssertionSuccess();
}
::testing::AssertionResult same(const Halves& found, const Halves& expected, std::int64_t width) {
  return same(widened(found), widened(expected), width);
}

constexpr float kEpsilon = 1e-6f;

// What the CPU makes of both: the sums replace `residual`, their norms are returned. Without x the
// residual stays as it is.
Floats add_and_norm(const Floats& x, Floats& residual, const Floats& weight) {
  const CpuOps& ops = cpu_ops(best_isa());
  for (std::size_t i = 0; i < x.size(); ++i) residual[i] += x[i];
  Floats normed(residual.size());
  const std::size_t k = weight.size();
  for (std::size_t at = 0; at < residual.size(); at += k) {
    ops.rms_norm(residual.data() + at, weight.data(), normed.data() + at,
                 static_cast<std::int64_t>(k), kEpsilon);
  }
  return normed;
}

TEST_F(HalfRows, EmbeddingsAreTheTables) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t hidden : {8, 72, 576, 1024, 1032, 4096}) {
    const std::int64_t vocab = pick(random, 1, 200);
    const std::int64_t m = pick(random, 1, 40);
    SCOPED_TRACE("hidden " + std::to_string(hidden) + ", M " + std::to_string(m));
    const Halves table = rounded(random_values(random, vocab, hidden));
    std::vector<std::int32_t> tokens;
    for (std::int64_t row = 0; row < m; ++row) {
      tokens.push_back(static_cast<std::int32_t>(pick(random, 0, vocab - 1)));
    }
    if (m > 2) {
      tokens[0] = -1;
      tokens[1] = static_cast<std::int32_t>(vocab);
    }
    const DeviceBuffer<std::uint16_t> device_table(table);
    const DeviceBuffer<std::int32_t> device_tokens(tokens);
    const DeviceBuffer<float> out(static_cast<std::size_t>(m * hidden));
    ASSERT_TRUE(is_ok(cuda::embed_half_rows({.table = device_table.data(),
                                             .vocab = vocab,
                                             .tokens = device_tokens.data(),
                                             .m = m,
                                             .hidden = hidden,
                                             .out = out.data()},
                                            stream)));
    stream.wait();
    Floats expected;
    for (const std::int32_t token : tokens) {
      const bool known = token >= 0 && token < vocab;
      for (std::int64_t i = 0; i < hidden; ++i) {
        expected.push_back(known ? f16_to_float(table[static_cast<std::size_t>(token * hidden + i)])
                                 : std::nanf(""));
      }
    }
    ASSERT_TRUE(same(out.download(), expected, hidden));
    ASSERT_TRUE(out.guards_intact());
  }
}

TEST_F(HalfRows, SumsAndNormsAreThoseOfTheCpu) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t k : {8, 72, 576, 1024, 1032, 4096, 4104, 8192, 9000}) {
    for (const bool adds : {false, true}) {
      const std::int64_t m = pick(random, 1, 12);
      SCOPED_TRACE("K " + std::to_string(k) + ", M " + std::to_string(m));
      Floats residual = random_values(random, m, k);
      const Halves x = rounded(random_values(random, m, k));
      const Floats weight = random_values(random, 1, k);
      const DeviceBuffer<float> device_residual(residual);
      const DeviceBuffer<std::uint16_t> device_x(x);
      const DeviceBuffer<float> device_weight(weight);
      const DeviceBuffer<std::uint16_t> out(static_cast<std::size_t>(m * k));
      ASSERT_TRUE(is_ok(cuda::add_norm_half_rows({.x = adds ? device_x.data() : nullptr,
                                                  .residual = device_residual.data(),
                                                  .m = m,
                                                  .k = k,
                                                  .norm_weight = device_weight.data(),
                                                  .epsilon = kEpsilon,
                                                  .out = out.data()},
                                                 stream)));
      stream.wait();
      const Floats normed = add_and_norm(adds ? widened(x) : Floats{}, residual, weight);
      ASSERT_TRUE(same(out.download(), rounded(normed), k));
      ASSERT_TRUE(same(device_residual.download(), residual, k)) << "of the residual";
      ASSERT_TRUE(out.guards_intact());
      ASSERT_TRUE(device_residual.guards_intact());
    }
  }
}

TEST_F(HalfRows, SumsAndNormsInTilesAreThoseOfTheCpu) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t k : {8, 72, 576, 1024, 1032, 4096, 4104, 8192, 9000}) {
    const std::int64_t m = pick(random, 1, 20);
    SCOPED_TRACE("K " + std::to_string(k) + ", M " + std::to_string(m));
    Floats residual = random_values(random, m, k);
    const Floats x = random_values(random, m, k);
    const Floats weight = random_values(random, 1, k);
    const DeviceBuffer<float> device_residual(residual);
    const DeviceBuffer<float> device_x(x);
    const DeviceBuffer<float> device_weight(weight);
    const DeviceBuffer<std::uint16_t> out(
        static_cast<std::size_t>(cuda::fp16_tiles_bytes(m, k) / 2));
    ASSERT_TRUE(is_ok(cuda::add_norm_half_tiles({.x = device_x.data(),
                                                 .residual = device_residual.data(),
                                                 .m = m,
                                                 .k = k,
                                                 .norm_weight = device_weight.data(),
                                                 .epsilon = kEpsilon,
                                                 .out = out.data()},
                                                stream)));
    stream.wait();
    Halves expected(out.count(), 0);  // zeros behind K
    const Halves normed = rounded(add_and_norm(x, residual, weight));
    for (std::int64_t row = 0; row < m; ++row) {
      for (std::int64_t i = 0; i < k; ++i) {
        const std::int64_t at = 8 * cuda::fp16_tile_place(m, row, i / 8) + i % 8;
        expected[static_cast<std::size_t>(at)] = normed[static_cast<std::size_t>(row * k + i)];
      }
    }
    ASSERT_TRUE(same(out.download(), expected, cuda::kFp16StepK));
    ASSERT_TRUE(same(device_residual.download(), residual, k)) << "of the residual";
    ASSERT_TRUE(out.guards_intact());
    ASSERT_TRUE(device_residual.guards_intact());
  }
}

TEST_F(HalfRows, GatesAreThoseOfTheCpu) {
  Random random(fresh_seed());
  const Stream stream;
  const CpuOps& ops = cpu_ops(best_isa());
  for (const std::int64_t k : {8, 72, 1016, 1024, 1032, 1536, 11008}) {
    const std::int64_t m = pick(random, 1, 20);
    SCOPED_TRACE("K " + std::to_string(k) + ", M " + std::to_string(m));
    const Halves gate_up = rounded(random_values(random, m, 2 * k));
    const DeviceBuffer<std::uint16_t> device_gate_up(gate_up);
    const DeviceBuffer<std::uint16_t> out(static_cast<std::size_t>(m * k));
    ASSERT_TRUE(is_ok(cuda::silu_multiply_half_rows(
        {.gate_up = device_gate_up.data(), .m = m, .k = k, .out = out.data()}, stream)));
    stream.wait();
    const Floats values = widened(gate_up);
    Floats gated(static_cast<std::size_t>(m * k));
    for (std::int64_t row = 0; row < m; ++row) {
      const float* gate = values.data() + row * 2 * k;
      ops.silu_multiply(gate, gate + k, gated.data() + row * k, k);
    }
    ASSERT_TRUE(same(out.download(), rounded(gated), k));
    ASSERT_TRUE(out.guards_intact());
  }
}

TEST_F(HalfRows, RefuseWhatTheyCannotDo) {
  const Stream stream;
  const DeviceBuffer<float> floats(64);
  const DeviceBuffer<std::uint16_t> halves(64);
  const DeviceBuffer<std::int32_t> tokens(4);
  const auto refused = [](const Status& status) {
    return status.code() == StatusCode::kInvalidArgument;
  };
  const auto norm = [&](const std::function<void(cuda::AddNormHalfArguments&)>& spoil) {
    cuda::AddNormHalfArguments arguments{.x = halves.data(),
                                         .residual = floats.data(),
                                         .m = 1,
                                         .k = 16,
                                         .norm_weight = floats.data() + 32,
                                         .epsilon = 1e-5f,
                                         .out = halves.data() + 32};
    spoil(arguments);
    return refused(cuda::add_norm_half_rows(arguments, stream));
  };
  EXPECT_FALSE(norm([](auto&) {}));
  EXPECT_TRUE(norm([](auto& a) { a.k = 20; }));
  EXPECT_TRUE(norm([](auto& a) { a.residual = nullptr; }));
  EXPECT_TRUE(norm([](auto& a) { a.norm_weight += 1; }));
  EXPECT_TRUE(norm([](auto& a) { a.epsilon = -1.0f; }));
  EXPECT_TRUE(norm([](auto& a) { a.epsilon = std::nanf(""); }));
  const auto tiles = [&](const std::function<void(cuda::AddNormHalfTilesArguments&)>& spoil) {
    cuda::AddNormHalfTilesArguments arguments{.x = floats.data(),
                                              .residual = floats.data() + 16,
                                              .m = 1,
                                              .k = 16,
                                              .norm_weight = floats.data() + 32,
                                              .epsilon = 1e-5f,
                                              .out = halves.data()};
    spoil(arguments);
    return refused(cuda::add_norm_half_tiles(arguments, stream));
  };
  EXPECT_FALSE(tiles([](auto&) {}));
  EXPECT_TRUE(tiles([](auto& a) { a.x = nullptr; }));
  EXPECT_TRUE(tiles([](auto& a) { a.k = 20; }));
  EXPECT_TRUE(tiles([](auto& a) { a.out = nullptr; }));
  EXPECT_TRUE(refused(cuda::silu_multiply_half_rows(
      {.gate_up = halves.data(), .m = 1, .k = 12, .out = halves.data()}, stream)));
  EXPECT_TRUE(refused(cuda::silu_multiply_half_rows(
      {.gate_up = nullptr, .m = 1, .k = 16, .out = halves.data()}, stream)));
  EXPECT_TRUE(refused(cuda::embed_half_rows({.table = halves.data(),
                                             .vocab = 1,
                                             .tokens = nullptr,
                                             .m = 1,
                                             .hidden = 16,
                                             .out = floats.data()},
                                            stream)));
  stream.wait();
}

}  // namespace
}  // namespace liquidgemm::testing
