// Activations on the GPU against the oracle (reference_quantize_row) and the CPU's norm, bit for
// bit: scales, sums, every INT8 value and the residual that is written back.
#include <bit>
#include <functional>

#include "base/half.h"
#include "cuda_fixture.h"
#include "gemm/numerics.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::testing {
namespace {

class Quantize : public CudaTest {};

constexpr CudaFloat kTypes[] = {CudaFloat::kFloat16, CudaFloat::kBFloat16, CudaFloat::kFloat32};
const char* type_name(CudaFloat type) {
  if (type == CudaFloat::kFloat16) return "f16";
  return type == CudaFloat::kBFloat16 ? "bf16" : "f32";
}
std::int64_t type_bytes(CudaFloat type) { return type == CudaFloat::kFloat32 ? 4 : 2; }

// What `value` becomes when it is stored as `type`.
float rounded(CudaFloat type, float value) {
  if (type == CudaFloat::kFloat16) return f16_to_float(float_to_f16(value));
  if (type == CudaFloat::kBFloat16) return bf16_to_float(float_to_bf16(value));
  return value;
}

// A matrix of one type with gaps between its rows, on the host as floats and on the device.
class Matrix {
 public:
  Matrix(CudaFloat type, std::int64_t m, std::int64_t k, std::int64_t ld)
      : type_(type),
        m_(m),
        k_(k),
        ld_(ld),
        device_(static_cast<std::size_t>(m * ld * type_bytes(type))) {}

  std::int64_t ld() const { return ld_; }
  void* data() const { return device_.data(); }

  // `values` [m, k] are already of the type. The gaps stay poisoned.
  void upload(const std::vector<float>& values) const {
    std::vector<std::uint8_t> bytes = device_.download();
    for (std::int64_t row = 0; row < m_; ++row) {
      for (std::int64_t i = 0; i < k_; ++i) {
        const float value = values[row * k_ + i];
        std::uint8_t* at = bytes.data() + (row * ld_ + i) * type_bytes(type_);
        if (type_ == CudaFloat::kFloat32) {
          std::memcpy(at, &value, 4);
        } else {
          const std::uint16_t bits =
              type_ == CudaFloat::kFloat16 ? float_to_f16(value) : float_to_bf16(value);
          std::memcpy(at, &bits, 2);
        }
      }
    }
    device_.upload(bytes);
  }

  ::testing::AssertionResult equals(const std::vector<float>& expected) const {
    const std::vector<std::uint8_t> bytes = device_.download();
    for (std::int64_t row = 0; row < m_; ++row) {
      for (std::int64_t i = 0; i < ld_; ++i) {
        const std::uint8_t* at = bytes.data() + (row * ld_ + i) * type_bytes(type_);
        if (i >= k_) {
          for (std::int64_t byte = 0; byte < type_bytes(type_); ++byte) {
            if (at[byte] == DeviceBuffer<std::uint8_t>::kPoison) continue;
            return ::testing::AssertionFailure() << "wrote into the gap behind row " << row;
          }
          continue;
        }
        std::uint32_t bits = 0;
        std::memcpy(&bits, at, static_cast<std::size_t>(type_bytes(type_)));
        float value = std::bit_cast<float>(bits);
        if (type_ == CudaFloat::kFloat16) value = f16_to_float(static_cast<std::uint16_t>(bits));
        if (type_ == CudaFloat::kBFloat16) value = bf16_to_float(static_cast<std::uint16_t>(bits));
        if (!same_float(value, expected[row * k_ + i])) {
          return ::testing::AssertionFailure() << "row " << row << " column " << i << ": " << value
                                               << ", expected " << expected[row * k_ + i];
        }
      }
    }
    return device_.guards_intact();
  }

 private:
  CudaFloat type_;
  std::int64_t m_, k_, ld_;
  DeviceBuffer<std::uint8_t> device_;
};

// What the kernels write.
class Outputs {
 public:
  Outputs(std::int64_t m, std::int64_t k, std::int64_t ld)
      : m_(m), k_(k), ld_(ld), x8_(m * ld), scale_(m), sum_(m) {}

  void set(CudaQuantizeArguments& arguments) const {
    arguments.m = m_;
    arguments.k = k_;
    arguments.x8 = x8_.data();
    arguments.ld_x8 = ld_;
    arguments.scale = scale_.data();
    arguments.sum = sum_.data();
  }

  void clear_sums() const { sum_.upload(std::vector<std::int32_t>(sum_.download().size(), 0)); }

  // `rows` [m, k] are what is quantised.
  ::testing::AssertionResult equal_reference(const std::vector<float>& rows) const {
    const std::vector<std::int8_t> x8 = x8_.download();
    const std::vector<float> scale = scale_.download();
    const std::vector<std::int32_t> sum = sum_.download();
    std::vector<std::int8_t> expected(k_);
    for (std::int64_t row = 0; row < m_; ++row) {
      float expected_scale;
      std::int32_t expected_sum;
      reference_quantize_row(rows.data() + row * k_, k_, expected.data(), &expected_scale,
                             &expected_sum);
      if (!same_float(scale[row], expected_scale)) {
        return ::testing::AssertionFailure()
               << "row " << row << ": scale " << scale[row] << ", expected " << expected_scale;
      }
      if (sum[row] != expected_sum) {
        return ::testing::AssertionFailure()
               << "row " << row << ": sum " << sum[row] << ", expected " << expected_sum;
      }
      for (std::int64_t i = 0; i < ld_; ++i) {
        const std::int8_t want = i < k_ ? expected[i] : poison_value<std::int8_t>();
        if (x8[row * ld_ + i] != want) {
          return ::testing::AssertionFailure()
                 << "row " << row << " column " << i << ": " << int{x8[row * ld_ + i]}
                 << ", expected " << int{want};
        }
      }
    }
    for (const auto& intact : {x8_.guards_intact(), scale_.guards_intact(), sum_.guards_intact()}) {
      if (!intact) return intact;
    }
    return ::testing::AssertionSuccess();
  }

 private:
  std::int64_t m_, k_, ld_;
  DeviceBuffer<std::int8_t> x8_;
  DeviceBuffer<float> scale_;
  DeviceBuffer<std::int32_t> sum_;
};

enum class RowKind {
  kNormal,
  kWide,      // magnitudes over the whole range of the type
  kHalfway,   // values that fall on and beside rounding boundaries
  kZero,      // +0 and -0
  kTiny,      // largest magnitude around 2^-100
  kDenormal,  // denormal in the type
  kNan,
  kInfinity,
  kCount
};

std::vector<float> random_row(Random& random, RowKind kind, CudaFloat type, std::int64_t k) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  const float top = type == CudaFloat::kFloat16 ? 15.0f : 126.0f;
  std::uniform_real_distribution<float> exponent(-top, top);
  // The step between denormals, with all denormals a few of it.
  const float denormal = type == CudaFloat::kFloat16    ? 0x1p-24f
                         : type == CudaFloat::kBFloat16 ? 0x1p-133f
                                                        : 0x1p-149f;
  const auto largest = static_cast<float>(pick(random, 100, 1000));
  std::vector<float> row(static_cast<std::size_t>(k));
  for (float& value : row) {
    value = normal(random);
    const float sign = random() % 2 ? 1.0f : -1.0f;
    if (kind == RowKind::kWide) value = sign * std::exp2(exponent(random));
    if (kind == RowKind::kHalfway) {
      value = sign * (static_cast<float>(pick(random, 0, 126)) + 0.5f) * (largest / 127.0f);
    }
    if (kind == RowKind::kZero) value = sign * 0.0f;
    if (kind == RowKind::kTiny) value = std::clamp(value, -1.0f, 1.0f) * 0x1p-100f;
    if (kind == RowKind::kDenormal) value = sign * denormal * static_cast<float>(random() % 64);
    value = rounded(type, value);
  }
  if (kind == RowKind::kHalfway) row[random() % row.size()] = rounded(type, largest);
  if (kind == RowKind::kTiny && random() % 2) row[random() % row.size()] = rounded(type, 0x1p-100f);
  if (kind == RowKind::kNan) row[random() % row.size()] = std::numeric_limits<float>::quiet_NaN();
  if (kind == RowKind::kInfinity) {
    const float infinity = std::numeric_limits<float>::infinity();
    row[random() % row.size()] = random() % 2 ? infinity : -infinity;
  }
  return row;
}

std::vector<float> random_rows(Random& random, CudaFloat type, std::int64_t m, std::int64_t k) {
  std::vector<float> rows;
  const auto first = random();
  for (std::int64_t row = 0; row < m; ++row) {
    const auto kind = static_cast<RowKind>((first + row) % static_cast<int>(RowKind::kCount));
    const std::vector<float> values = random_row(random, kind, type, k);
    rows.insert(rows.end(), values.begin(), values.end());
  }
  return rows;
}

std::string describe_case(CudaFloat type, std::int64_t m, std::int64_t k) {
  return std::string(type_name(type)) + ", M " + std::to_string(m) + ", K " + std::to_string(k);
}

// Around every size at which a thread gets one chunk more, or a row other blocks or other memory.
std::vector<std::int64_t> widths(Random& random, std::int64_t largest) {
  std::vector<std::int64_t> widths = {8,     16,    24,    120,   576,   1016,   1024, 1032,
                                      2048,  2056,  4088,  4096,  4104,  8192,   8200, 11008,
                                      14336, 16384, 16392, 28672, 32768, largest};
  for (int i = 0; i < 10; ++i) widths.push_back(8 * pick(random, 1, 1200));
  return widths;
}

TEST_F(Quantize, RowsAreThoseOfTheOracle) {
  Random random(fresh_seed());
  const Stream stream;
  auto turn = random() % 3;
  for (const CudaFloat type : kTypes) {
    for (const std::int64_t k : widths(random, 66304)) {
      // By their number, wide rows are shared by eight blocks each, by two, or by none.
      constexpr std::int64_t kFewest[] = {1, 33, 129};
      const std::int64_t few = k > 4096 ? kFewest[turn++ % 3] : 1;
      const std::int64_t m = pick(random, few, few + (few == 1 ? 19 : 4));
      SCOPED_TRACE(describe_case(type, m, k));
      const std::vector<float> rows = random_rows(random, type, m, k);
      const Matrix x(type, m, k, k + 8 * pick(random, 0, 3));
      x.upload(rows);
      const Outputs outputs(m, k, k + 8 * pick(random, 0, 3));
      CudaQuantizeArguments arguments;
      arguments.x = x.data();
      arguments.ld_x = x.ld();
      arguments.type = type;
      outputs.set(arguments);
      ASSERT_TRUE(is_ok(quantize_rows(arguments, stream)));
      ASSERT_TRUE(outputs.equal_reference(rows));
      ASSERT_TRUE(x.equals(rows));
    }
  }
}

// Shared by as many blocks as there is work for, and the sum added to what is there.
TEST_F(Quantize, RowsOfKnownAmaxAreThoseOfTheOracle) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t k : widths(random, 66304)) {
    const std::int64_t m = k > 4096 && random() % 2 ? pick(random, 33, 36) : pick(random, 1, 20);
    SCOPED_TRACE(describe_case(CudaFloat::kFloat32, m, k));
    const std::vector<float> rows = random_rows(random, CudaFloat::kFloat32, m, k);
    const Matrix x(CudaFloat::kFloat32, m, k, k + 8 * pick(random, 0, 3));
    x.upload(rows);
    const Outputs outputs(m, k, k + 8 * pick(random, 0, 3));
    // Every part may be the largest; the others hold less.
    const std::int64_t stride = m + pick(random, 0, 3);
    std::vector<std::uint32_t> parts(kCudaAmaxParts * stride, 0xFFFFFFFF);
    for (std::int64_t row = 0; row < m; ++row) {
      std::uint32_t largest = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        const auto bits = std::bit_cast<std::uint32_t>(rows[row * k + i]) & 0x7FFFFFFF;
        largest = std::max(largest, bits);
      }
      const auto holds = random() % kCudaAmaxParts;
      for (std::size_t part = 0; part < kCudaAmaxParts; ++part) {
        parts[part * stride + row] = part == holds ? largest : largest - largest / 3;
      }
    }
    const DeviceBuffer<std::uint32_t> amax(parts);
    CudaQuantizeArguments arguments;
    arguments.x = x.data();
    arguments.ld_x = x.ld();
    arguments.type = CudaFloat::kFloat32;
    arguments.amax = {amax.data(), stride};
    outputs.set(arguments);
    outputs.clear_sums();
    ASSERT_TRUE(is_ok(quantize_rows(arguments, stream)));
    ASSERT_TRUE(outputs.equal_reference(rows));
    ASSERT_TRUE(x.equals(rows));
  }
}

// Every bit pattern that a 16-bit type has, a row of 1024 neighbours at a time.
TEST_F(Quantize, EveryHalfAndEveryBfloat16) {
  const Stream stream;
  constexpr std::int64_t kRows = 64, kWidth = 1024;
  for (const CudaFloat type : {CudaFloat::kFloat16, CudaFloat::kBFloat16}) {
    SCOPED_TRACE(type_name(type));
    std::vector<float> rows;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      rows.push_back(type == CudaFloat::kFloat16 ? f16_to_float(half) : bf16_to_float(half));
    }
    const Matrix x(type, kRows, kWidth, kWidth);
    x.upload(rows);
    const Outputs outputs(kRows, kWidth, kWidth);
    CudaQuantizeArguments arguments;
    arguments.x = x.data();
    arguments.ld_x = x.ld();
    arguments.type = type;
    outputs.set(arguments);
    ASSERT_TRUE(is_ok(quantize_rows(arguments, stream)));
    EXPECT_TRUE(outputs.equal_reference(rows));
  }
}

TEST_F(Quantize, NormsAreThoseOfTheCpu) {
  Random random(fresh_seed());
  const Stream stream;
  const CpuOps& ops = cpu_ops(best_isa());
  int turn = 0;
  for (const CudaFloat residual_type : kTypes) {
    for (const CudaFloat x_type : kTypes) {
      for (const std::int64_t k : widths(random, 65536)) {
        const std::int64_t m = pick(random, 1, k > 8192 ? 4 : 12);
        const bool adds = ++turn % 4 != 0;
        SCOPED_TRACE(describe_case(residual_type, m, k) + ", x " +
                     (adds ? type_name(x_type) : "null"));
        std::vector<float> stored = random_rows(random, residual_type, m, k);
        const std::vector<float> added = random_rows(random, x_type, m, k);
        const std::vector<float> weight = random_floats(random, k);
        const Matrix residual(residual_type, m, k, k + 8 * pick(random, 0, 3));
        const Matrix x(x_type, m, k, k + 8 * pick(random, 0, 3));
        residual.upload(stored);
        x.upload(added);
        const DeviceBuffer<float> device_weight(weight);
        const Outputs outputs(m, k, k + 8 * pick(random, 0, 3));

        CudaAddNormQuantizeArguments arguments;
        outputs.set(arguments.rows);
        if (adds) {
          arguments.rows.x = x.data();
          arguments.rows.ld_x = x.ld();
          arguments.rows.type = x_type;
        }
        arguments.residual = residual.data();
        arguments.ld_residual = residual.ld();
        arguments.residual_type = residual_type;
        arguments.norm_weight = device_weight.data();
        arguments.epsilon = random() % 4 == 0 ? 0.0f : 1e-5f;
        // Few words or many for each row, or none.
        const std::size_t count = 1 + random() % (m * 3000);
        const DeviceBuffer<std::uint32_t> cleared(count);
        arguments.cleared = turn % 3 != 0 ? cleared.data() : nullptr;
        arguments.cleared_words = static_cast<std::int64_t>(count);
        ASSERT_TRUE(is_ok(add_norm_quantize_rows(arguments, stream)));
        const std::vector<std::uint32_t> words = cleared.download();
        const auto want = turn % 3 != 0 ? 0 : poison_value<std::uint32_t>();
        ASSERT_EQ(std::count(words.begin(), words.end(), want), count);
        ASSERT_TRUE(cleared.guards_intact());

        std::vector<float> normed(stored.size());
        for (std::int64_t row = 0; row < m; ++row) {
          float* values = stored.data() + row * k;
          if (adds) {
            ops.add(values, added.data() + row * k, k);
            for (std::int64_t i = 0; i < k; ++i) values[i] = rounded(residual_type, values[i]);
          }
          ops.rms_norm(values, weight.data(), normed.data() + row * k, k, arguments.epsilon);
        }
        ASSERT_TRUE(residual.equals(stored));
        ASSERT_TRUE(outputs.equal_reference(normed));
        ASSERT_TRUE(x.equals(added));
      }
    }
  }
}

TEST_F(Quantize, RefusesWhatItCannotDo) {
  const Stream stream;
  constexpr std::int64_t m = 2, k = 64;
  const Matrix x(CudaFloat::kFloat16, m, k, k);
  const Matrix residual(CudaFloat::kFloat16, m, k, k);
  const DeviceBuffer<float> weight(k);
  const Outputs outputs(m, k, k);
  CudaAddNormQuantizeArguments good;
  outputs.set(good.rows);
  good.rows.x = x.data();
  good.rows.ld_x = k;
  good.residual = residual.data();
  good.ld_residual = k;
  good.norm_weight = weight.data();
  using Arguments = CudaAddNormQuantizeArguments;
  const auto refused = [&](bool plain, const std::function<void(Arguments&)>& spoil) {
    Arguments arguments = good;
    spoil(arguments);
    const Status status = add_norm_quantize_rows(arguments, stream);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.to_string();
    if (!plain) return;
    EXPECT_EQ(quantize_rows(arguments.rows, stream).code(), StatusCode::kInvalidArgument);
  };
  for (const std::int64_t bad : {0, -1}) {
    refused(true, [&](Arguments& a) { a.rows.m = bad; });
    refused(true, [&](Arguments& a) { a.rows.k = bad; });
  }
  refused(true, [](Arguments& a) { a.rows.k = 60; });
  refused(true, [](Arguments& a) { a.rows.k = 1 << 20; });
  refused(true, [](Arguments& a) { a.rows.ld_x = 56; });
  refused(true, [](Arguments& a) { a.rows.ld_x = 68; });
  refused(true, [](Arguments& a) { a.rows.ld_x8 = 56; });
  refused(true, [](Arguments& a) { a.rows.ld_x8 = 68; });
  refused(true, [](Arguments& a) { a.rows.x8 = nullptr; });
  refused(true, [](Arguments& a) { a.rows.x8 += 1; });
  refused(true, [](Arguments& a) { a.rows.scale = nullptr; });
  refused(true, [](Arguments& a) { a.rows.sum = nullptr; });
  refused(true, [](Arguments& a) { a.rows.x = static_cast<const std::uint8_t*>(a.rows.x) + 2; });
  refused(false, [](Arguments& a) { a.residual = nullptr; });
  refused(false, [](Arguments& a) { a.ld_residual = 56; });
  refused(false, [](Arguments& a) { a.norm_weight = nullptr; });
  refused(false, [](Arguments& a) { a.epsilon = -1.0f; });
  refused(false, [](Arguments& a) { a.epsilon = std::numeric_limits<float>::quiet_NaN(); });
  const DeviceBuffer<std::uint32_t> amax(kCudaAmaxParts * m);
  refused(true, [&](Arguments& a) { a.rows.amax = {amax.data(), m}; });  // of f16 rows, or a norm
  refused(true, [&](Arguments& a) {
    a.rows.type = CudaFloat::kFloat32;
    a.rows.amax = {amax.data(), m - 1};
  });
  CudaQuantizeArguments no_x = good.rows;
  no_x.x = nullptr;
  EXPECT_EQ(quantize_rows(no_x, stream).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace liquidgemm::testing
