#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/half.h"
#include "checkpoint/file_builders.h"
#include "model/checkpoint/block_formats.h"

namespace liquidgemm {
namespace {

using testing::as_bytes;
using testing::raw;

std::vector<float> convert(DType dtype, const std::string& stored, std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count), NAN);
  convert_to_float(dtype, as_bytes(stored).data(), count, out.data());
  return out;
}

std::string read_golden(const std::string& name) {
  std::ifstream file(std::string(LIQUIDGEMM_TEST_DATA) + "/checkpoint/" + name, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Golden files (make_block_formats.py): for each type the blocks that the gguf package wrote, then
// the float32 values that it reads from them.
TEST(BlockFormats, EqualTheGgufPackage) {
  const struct {
    DType dtype;
    const char* name;
  } cases[] = {{DType::kQ8_0, "q8_0.bin"},
               {DType::kQ4_0, "q4_0.bin"},
               {DType::kQ4_1, "q4_1.bin"},
               {DType::kBF16, "bf16.bin"},
               {DType::kF16, "f16.bin"}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const std::string golden = read_golden(c.name);
    constexpr std::int64_t kCount = 7 * 96;
    const std::size_t stored = static_cast<std::size_t>(*tensor_bytes(c.dtype, {7, 96}));
    ASSERT_EQ(golden.size(), stored + kCount * sizeof(float));
    const std::vector<float> values = convert(c.dtype, golden.substr(0, stored), kCount);
    EXPECT_EQ(testing::raw_vector(values), golden.substr(stored));
  }
}

// The formulas, written plainly over every code.
TEST(BlockFormats, FollowTheirFormulas) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> scale(-2.0f, 2.0f);
  for (int round = 0; round < 200; ++round) {
    const std::uint16_t d = float_to_f16(scale(random)), m = float_to_f16(scale(random));
    std::string codes(16, '\0'), bytes(32, '\0');
    for (char& c : codes) c = static_cast<char>(random());
    for (char& c : bytes) c = static_cast<char>(random());
    const auto q8 = convert(DType::kQ8_0, raw(d) + bytes, 32);
    const auto q40 = convert(DType::kQ4_0, raw(d) + codes, 32);
    const auto q41 = convert(DType::kQ4_1, raw(d) + raw(m) + codes, 32);
    for (std::size_t i = 0; i < 32; ++i) {
      const int code = (static_cast<unsigned char>(codes[i % 16]) >> (i < 16 ? 0 : 4)) & 15;
      const float df = f16_to_float(d), mf = f16_to_float(m);
      EXPECT_EQ(q8[i], df * static_cast<float>(static_cast<signed char>(bytes[i])));
      EXPECT_EQ(q40[i], df * static_cast<float>(code - 8));
      const float product = df * static_cast<float>(code);
      EXPECT_EQ(q41[i], product + mf);
    }
  }
}

TEST(BlockFormats, PlainTypes) {
  EXPECT_EQ(convert(DType::kF32, raw(1.5f) + raw(-0.25f), 2), (std::vector<float>{1.5f, -0.25f}));
  EXPECT_EQ(convert(DType::kF64, raw(0.1) + raw(-3.0), 2), (std::vector<float>{0.1f, -3.0f}));
  EXPECT_EQ(convert(DType::kF16, raw(float_to_f16(0.5f)), 1), (std::vector<float>{0.5f}));
  EXPECT_EQ(convert(DType::kBF16, raw(float_to_bf16(-2.0f)), 1), (std::vector<float>{-2.0f}));
  for (DType dtype :
       {DType::kI64, DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool}) {
    EXPECT_FALSE(converts_to_float(dtype));
  }
}

}  // namespace
}  // namespace liquidgemm
