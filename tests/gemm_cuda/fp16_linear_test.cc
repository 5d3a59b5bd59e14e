// FP16 layers on the GPU: near sums in double, and the same bits whatever else is in the batch.
#include "gemm/cuda/fp16_linear.h"

#include <cmath>
#include <cstdio>
#include <functional>

#include "base/half.h"
#include "gemm_cuda/cuda_fixture.h"
#include "gemm_cuda/graph.h"

namespace liquidgemm::testing {
namespace {

class Fp16Linear : public CudaTest {};

using Halves = std::vector<std::uint16_t>;

Halves random_halves(Random& random, std::int64_t count, int exponent = 0) {
  Halves values;
  for (const float value : random_floats(random, count)) {
    values.push_back(float_to_f16(std::ldexp(value, exponent)));
  }
  return values;
}

// Rows of x in the order that the kernel reads.
Halves tiles_of(const Halves& x, std::int64_t m, std::int64_t k) {
  Halves tiles(static_cast<std::size_t>(cuda::fp16_tiles_bytes(m, k) / 2), 0);
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t at = 8 * cuda::fp16_tile_place(m, row, i / 8) + i % 8;
      tiles[static_cast<std::size_t>(at)] = x[static_cast<std::size_t>(row * k + i)];
    }
  }
  return tiles;
}

// A layer on the device, packed in pieces of `together` rows.
class PackedLayer {
 public:
  PackedLayer(const Halves& weights, std::int64_t n, std::int64_t k, cudaStream_t stream,
              std::int64_t together = std::int64_t{1} << 30)
      : n_(n), k_(k), packed_(static_cast<std::size_t>(cuda::fp16_packed_bytes(n, k))) {
    for (std::int64_t first = 0; first < n; first += together) {
      const std::int64_t rows = std::min(together, n - first);
      const std::span<const std::uint16_t> all(weights);
      const DeviceBuffer<std::uint16_t> piece(
          all.subspan(static_cast<std::size_t>(first * k), static_cast<std::size_t>(rows * k)));
      EXPECT_TRUE(is_ok(cuda::pack_fp16_weights({.weight = piece.data(),
                                                 .rows = rows,
                                                 .k = k,
                                                 .first_row = first,
                                                 .packed = packed_.data()},
                                                stream)));
      CHECK_CUDA(cudaStreamSynchronize(stream));
    }
    EXPECT_TRUE(packed_.guards_intact());
  }

  // Every byte of the packed weights is `byte`.
  PackedLayer(std::int64_t n, std::int64_t k, std::uint8_t byte)
      : n_(n), k_(k), packed_(static_cast<std::size_t>(cuda::fp16_packed_bytes(n, k))) {
    packed_.fill(byte);
  }

  std::vector<std::uint8_t> bytes() const { return packed_.download(); }

  // `tiles` holds m rows of x as the kernel reads them.
  Status launch(const void* tiles, std::int64_t m, float* y, std::int64_t ld_y,
                cudaStream_t stream) const {
    return cuda::fp16_linear(
        {.packed = packed_.data(), .n = n_, .k = k_, .x = tiles, .m = m, .y = y, .ld_y = ld_y},
        stream);
  }

  // y [m, n] of rows of x, with gaps between them that must stay as they are.
  std::vector<float> run(const Halves& x, std::int64_t m, cudaStream_t stream,
                         std::int64_t gap = 0) const {
    const DeviceBuffer<std::uint16_t> tiles(tiles_of(x, m, k_));
    const std::int64_t ld = n_ + gap;
    const DeviceBuffer<float> out(static_cast<std::size_t>(m * ld));
    EXPECT_TRUE(is_ok(launch(tiles.data(), m, out.data(), ld, stream)));
    CHECK_CUDA(cudaStreamSynchronize(stream));
    EXPECT_TRUE(out.guards_intact());
    const std::vector<float> all = out.download();
    std::vector<float> y;
    for (std::int64_t row = 0; row < m; ++row) {
      const auto begin = all.begin() + row * ld;
      y.insert(y.end(), begin, begin + n_);
      for (auto at = begin + n_; at != begin + ld; ++at) {
        EXPECT_TRUE(same_float(*at, poison_value<float>())) << "wrote into a gap";
      }
    }
    return y;
  }

 private:
  std::int64_t n_, k_;
  DeviceBuffer<std::uint8_t> packed_;
};

TEST_F(Fp16Linear, IsNearTheSumsInDouble) {
  Random random(fresh_seed());
  const Stream stream;
  const struct {
    std::int64_t n, k;
  } shapes[] = {{8, 32},   {64, 64},   {72, 96},     {136, 576},  {264, 1056},
                {520, 72}, {1000, 32}, {250 * 8, 8}, {256, 2048}, {328, 4000}};
  const std::int64_t rows[] = {1, 7, 8, 9, 16, 17, 32, 33, 64, 65, 96, 97, 128, 129, 200, 257, 391};
  for (const auto& [n, k] : shapes) {
    const Halves weights = random_halves(random, n * k, -4);
    const PackedLayer layer(weights, n, k, stream);
    for (int i = 0; i < 5; ++i) {
      const std::int64_t m = rows[random() % std::size(rows)];
      SCOPED_TRACE("N " + std::to_string(n) + ", K " + std::to_string(k) + ", M " +
                   std::to_string(m));
      const Halves x = random_halves(random, m * k);
      const std::vector<float> y = layer.run(x, m, stream, 8 * pick(random, 0, 3));
      for (std::int64_t row = 0; row < m; ++row) {
        for (std::int64_t channel = 0; channel < n; ++channel) {
          double sum = 0.0, size = 0.0;
          for (std::int64_t j = 0; j < k; ++j) {
            const double product =
                static_cast<double>(f16_to_float(x[static_cast<std::size_t>(row * k + j)])) *
                static_cast<double>(
                    f16_to_float(weights[static_cast<std::size_t>(channel * k + j)]));
            sum += product;
            size += std::fabs(product);
          }
          const double found = y[static_cast<std::size_t>(row * n + channel)];
          // A rounding, or a few that drop bits, for each 16 k.
          const double bound = size * 0x1p-22 * (static_cast<double>(k) / 16 + 4);
          ASSERT_LE(std::fabs(found - sum), bound) << "row " << row << ", channel " << channel;
        }
      }
    }
  }
}

TEST_F(Fp16Linear, ARowDoesNotSeeItsBatch) {
  Random random(fresh_seed());
  const Stream stream;
  constexpr std::int64_t kM = 391;
  const struct { std::int64_t n, k; } shapes[] = {{328, 1056}, {64, 4096}};
  for (const auto& [n, k] : shapes) {
    const PackedLayer layer(random_halves(random, n * k, -4), n, k, stream);
    Halves x = random_halves(random, kM * k);
    const std::vector<float> all = layer.run(x, kM, stream);
    for (const std::int64_t m : {1,  7,  8,  9,  15,  16,  17,  31,  32,  33,  63, 64,
                                 65, 95, 96, 97, 127, 128, 129, 200, 256, 257, 300}) {
      const std::int64_t first = pick(random, 0, kM - m);
      Halves rows(x.begin() + first * k, x.begin() + (first + m) * k);
      // A neighbour that is no number.
      const std::int64_t spoiled = m > 1 && random() % 2 ? pick(random, 0, m - 1) : -1;
      if (spoiled >= 0) rows[static_cast<std::size_t>(spoiled * k)] = 0x7E00;
      const std::vector<float> y = layer.run(rows, m, stream);
      for (std::int64_t row = 0; row < m; ++row) {
        for (std::int64_t i = 0; i < n; ++i) {
          const float found = y[static_cast<std::size_t>(row * n + i)];
          if (row == spoiled) {
            ASSERT_TRUE(std::isnan(found));
            continue;
          }
          ASSERT_TRUE(same_float(found, all[static_cast<std::size_t>((first + row) * n + i)]))
              << "M " << m << ", row " << row << ", channel " << i;
        }
      }
    }
  }
}

TEST_F(Fp16Linear, PacksInPiecesAsInOne) {
  Random random(fresh_seed());
  const Stream stream;
  for (int round = 0; round < 8; ++round) {
    const std::int64_t n = 8 * pick(random, 1, 60), k = 8 * pick(random, 1, 60);
    const Halves weights = random_halves(random, n * k);
    EXPECT_EQ(PackedLayer(weights, n, k, stream).bytes(),
              PackedLayer(weights, n, k, stream, 64 * pick(random, 1, 3)).bytes());
  }
}

TEST_F(Fp16Linear, RunsInAGraph) {
  Random random(fresh_seed());
  const Stream stream;
  constexpr std::int64_t kN = 200, kK = 320, kM = 40;
  const PackedLayer layer(random_halves(random, kN * kK), kN, kK, stream);
  const Halves x = random_halves(random, kM * kK);
  const std::vector<float> expected = layer.run(x, kM, stream);

  const DeviceBuffer<std::uint16_t> tiles(tiles_of(x, kM, kK));
  const DeviceBuffer<float> out(static_cast<std::size_t>(kM * kN));
  const Graph graph(stream, [&] { return layer.launch(tiles.data(), kM, out.data(), kN, stream); });
  for (int i = 0; i < 3; ++i) {
    out.fill(0xFF);
    graph.replay(stream);
    stream.wait();
    EXPECT_EQ(out.download(), expected);
  }
}

TEST_F(Fp16Linear, RefusesWhatItCannotDo) {
  const Stream stream;
  const DeviceBuffer<std::uint8_t> packed(1 << 14);
  const DeviceBuffer<std::uint16_t> x(1 << 12);
  const DeviceBuffer<float> y(1 << 10);
  const auto run = [&](const std::function<void(cuda::Fp16LinearArguments&)>& spoil) {
    cuda::Fp16LinearArguments arguments{.packed = packed.data(),
                                        .n = 16,
                                        .k = 72,
                                        .x = x.data(),
                                        .m = 3,
                                        .y = y.data(),
                                        .ld_y = 16};
    spoil(arguments);
    return cuda::fp16_linear(arguments, stream).code() == StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(run([](auto&) {}));
  EXPECT_TRUE(run([](auto& a) { a.n = 12; }));
  EXPECT_TRUE(run([](auto& a) { a.k = 36; }));
  EXPECT_TRUE(run([](auto& a) { a.m = 0; }));
  EXPECT_TRUE(run([](auto& a) { a.ld_y = 20; }));
  EXPECT_TRUE(run([](auto& a) { a.ld_y = 8; }));
  EXPECT_TRUE(run([](auto& a) { a.y += 1; }));
  EXPECT_TRUE(run([](auto& a) { a.x = nullptr; }));
  EXPECT_TRUE(run([&](auto& a) { a.packed = packed.data() + 8; }));
  const auto pack = [&](const std::function<void(cuda::PackFp16Arguments&)>& spoil) {
    cuda::PackFp16Arguments arguments{
        .weight = x.data(), .rows = 16, .k = 72, .first_row = 0, .packed = packed.data()};
    spoil(arguments);
    return cuda::pack_fp16_weights(arguments, stream).code() == StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(pack([](auto&) {}));
  EXPECT_TRUE(pack([](auto& a) { a.k = 12; }));
  EXPECT_TRUE(pack([](auto& a) { a.first_row = 32; }));
  EXPECT_TRUE(pack([](auto& a) { a.weight = nullptr; }));
  stream.wait();
}

// Never asserts speed; run with --gtest_also_run_disabled_tests.
TEST_F(Fp16Linear, DISABLED_Timing) {
  constexpr std::int64_t kN = 128256, kK = 4096, kMost = 512;
  const Stream stream;
  const PackedLayer layer(kN, kK, 0x2C);
  const DeviceBuffer<std::uint8_t> x(static_cast<std::size_t>(cuda::fp16_tiles_bytes(kMost, kK)));
  x.fill(0x2C);
  const DeviceBuffer<float> y(static_cast<std::size_t>(kMost * kN));
  for (const std::int64_t m : {1, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512}) {
    const double seconds =
        1e-3 * best_replay(stream, [&] { return layer.launch(x.data(), m, y.data(), kN, stream); });
    std::printf("M %4lld  %7.1f us  weights at %5.2f TB/s  %6.1f TFLOP/s\n",
                static_cast<long long>(m), 1e6 * seconds, 2e-12 * kN * kK / seconds,
                2e-12 * static_cast<double>(m) * kN * kK / seconds);
  }
}

}  // namespace
}  // namespace liquidgemm::testing
