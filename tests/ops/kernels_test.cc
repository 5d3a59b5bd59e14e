// Norm, gate, rope, exp and the conversions: every instruction set against the scalar table bit
// for bit, and the scalar table against the contract or double precision.
#include <algorithm>
#include <cstring>
#include <functional>

#include "base/half.h"
#include "gemm/numerics.h"
#include "ops/kv_static.h"
#include "ops_test_util.h"

namespace liquidgemm::ops_test {
namespace {

constexpr std::int64_t kGuard = 32;

// Runs `kernel(ops, out)` on every ISA into a poisoned buffer with guards on both sides, checks the
// guards and that all ISAs agree, and returns the scalar output.
std::vector<float> run_everywhere(std::int64_t width,
                                  const std::function<void(const CpuOps&, float*)>& kernel) {
  std::vector<float> scalar;
  for (const Isa isa : all_isas()) {
    std::vector<float> buffer(static_cast<std::size_t>(width + 2 * kGuard), kPoison);
    kernel(cpu_ops(isa), buffer.data() + kGuard);
    for (std::int64_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(buffer[static_cast<std::size_t>(i)], kPoison) << isa_name(isa);
      EXPECT_EQ(buffer[static_cast<std::size_t>(kGuard + width + i)], kPoison) << isa_name(isa);
    }
    std::vector<float> out(buffer.begin() + kGuard, buffer.begin() + kGuard + width);
    if (isa == Isa::kScalar) {
      scalar = out;
    } else {
      EXPECT_TRUE(same_bits(scalar, out)) << isa_name(isa) << ", width " << width;
    }
  }
  return scalar;
}

// The contract's tree, written as it is worded.
float contract_sum_of_squares(const std::vector<float>& x) {
  std::vector<float> lane(numerics::kNormLanes, 0.0f);
  for (std::size_t k = 0; k < x.size(); ++k) {
    const float square = x[k] * x[k];
    lane[k % numerics::kNormLanes] = lane[k % numerics::kNormLanes] + square;
  }
  for (std::size_t half = numerics::kNormLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
  }
  return lane[0];
}

TEST(Norm, EveryWidthFollowsTheTree) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  for (const std::int64_t width :
       {1, 5, 15, 16, 17, 64, 100, 128, 576, 1023, 1024, 1025, 1040, 2048, 4096, 5000}) {
    const std::vector<float> x = random_floats(rng, width, 3.0f);
    const std::vector<float> weight = random_floats(rng, width);
    const float sum = contract_sum_of_squares(x);
    double exact = 0.0;
    for (const float value : x) exact += static_cast<double>(value) * value;
    for (const Isa isa : all_isas()) {
      const float got = cpu_ops(isa).sum_of_squares(x.data(), width);
      EXPECT_TRUE(same_bits(got, sum)) << isa_name(isa) << ", width " << width;
    }
    EXPECT_NEAR(sum, exact, exact * 1e-5);

    const std::vector<float> out = run_everywhere(width, [&](const CpuOps& ops, float* y) {
      ops.rms_norm(x.data(), weight.data(), y, width, 1e-5f);
    });
    const double reciprocal = 1.0 / std::sqrt(exact / static_cast<double>(width) + 1e-5);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = static_cast<double>(x[i]) * reciprocal * weight[i];
      EXPECT_NEAR(out[i], want, 1e-5 * std::abs(want) + 1e-12);
    }
    // In place.
    const std::vector<float> in_place = run_everywhere(width, [&](const CpuOps& ops, float* y) {
      std::copy(x.begin(), x.end(), y);
      ops.rms_norm(y, weight.data(), y, width, 1e-5f);
    });
    EXPECT_TRUE(same_bits(in_place, out));
  }
}

TEST(Norm, NonFiniteRows) {
  for (const float bad : {kNan, kInf, -kInf, 3e38f}) {
    for (const std::int64_t width : {1, 7, 33, 1030}) {
      std::vector<float> x(static_cast<std::size_t>(width), 1.0f);
      const std::vector<float> weight(static_cast<std::size_t>(width), 2.0f);
      x.back() = bad;
      const std::vector<float> out = run_everywhere(width, [&](const CpuOps& ops, float* y) {
        ops.rms_norm(x.data(), weight.data(), y, width, 1e-6f);
      });
      if (std::isnan(bad)) {
        for (const float y : out) EXPECT_TRUE(std::isnan(y));
      } else if (std::isinf(bad)) {
        EXPECT_TRUE(std::isnan(out.back()));  // inf * 0
        if (width > 1) {
          EXPECT_EQ(out.front(), 0.0f);
        }
      }
    }
  }
}

TEST(Add, AddsInPlace) {
  std::mt19937_64 rng(fresh_seed());
  for (const std::int64_t width : {1, 16, 31, 576, 1025}) {
    const std::vector<float> x = random_floats(rng, width), y = random_floats(rng, width);
    const std::vector<float> out = run_everywhere(width, [&](const CpuOps& ops, float* z) {
      std::copy(x.begin(), x.end(), z);
      ops.add(z, y.data(), width);
    });
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_TRUE(same_bits(out[i], x[i] + y[i]));
  }
}

TEST(Exp, KeepsTheStatedErrorOverItsRange) {
  // A prime stride through the floats from -87 to 88, so that all low bits occur.
  const std::uint32_t stride = kSanitized ? 100003 : 5003;
  double worst = 0.0;
  std::vector<float> x;
  for (const auto& [sign, limit] : {std::pair{-1.0f, 87.0f}, std::pair{1.0f, 88.0f}}) {
    const std::uint32_t end = std::bit_cast<std::uint32_t>(limit);
    for (std::uint32_t bits = 0; bits <= end; bits += stride) {
      x.push_back(sign * std::bit_cast<float>(bits));
    }
    x.push_back(sign * limit);
  }
  for (const float value : x) {
    const double want = std::exp(static_cast<double>(value));
    worst = std::max(worst, std::abs(numerics::exp_contract(value) - want) / want);
  }
  EXPECT_LT(worst, 3e-7);
  RecordProperty("worst", std::to_string(worst * 1e7));

  for (const float special : {0.0f, -0.0f, kNan, kInf, -kInf, -100.0f, 100.0f, 0x1p-149f, -87.5f,
                              88.5f, 3.4e38f, -3.4e38f}) {
    x.push_back(special);
  }
  const std::int64_t width = static_cast<std::int64_t>(x.size());
  const std::vector<float> out = run_everywhere(
      width, [&](const CpuOps& ops, float* y) { ops.exp_minus(x.data(), 0.0f, y, width); });
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_TRUE(same_bits(out[i], numerics::exp_contract(x[i]))) << x[i];
  }
  EXPECT_EQ(numerics::exp_contract(0.0f), 1.0f);
  EXPECT_EQ(numerics::exp_contract(-kInf), numerics::exp_contract(-87.0f));
  EXPECT_EQ(numerics::exp_contract(kInf), numerics::exp_contract(88.0f));
  EXPECT_TRUE(std::isnan(numerics::exp_contract(kNan)));
}

TEST(Exp2, KeepsTheStatedErrorBelowZero) {
  const std::uint32_t end = std::bit_cast<std::uint32_t>(-125.0f);
  double worst = 0.0;
  for (std::uint32_t bits = std::bit_cast<std::uint32_t>(-0.0f); bits <= end; bits += 5003) {
    const auto value = std::bit_cast<float>(bits);
    const double want = std::exp2(static_cast<double>(value));
    worst = std::max(worst, std::abs(numerics::exp2_contract(value) - want) / want);
  }
  EXPECT_LT(worst, 2e-7);
  RecordProperty("worst", std::to_string(worst * 1e7));
  EXPECT_EQ(numerics::exp2_contract(0.0f), 1.0f);
  EXPECT_EQ(numerics::exp2_contract(-1.0f), 0.5f);
  EXPECT_EQ(numerics::exp2_contract(-kInf), 0x1p-125f);
  EXPECT_TRUE(std::isnan(numerics::exp2_contract(kNan)));
}

TEST(Exp, SubtractsTheShiftFirst) {
  std::mt19937_64 rng(fresh_seed());
  const std::vector<float> x = random_floats(rng, 333, 20.0f);
  const std::vector<float> out = run_everywhere(
      333, [&](const CpuOps& ops, float* y) { ops.exp_minus(x.data(), 17.25f, y, 333); });
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_TRUE(same_bits(out[i], numerics::exp_contract(x[i] - 17.25f)));
  }
}

TEST(Silu, FollowsTheContractAndTheFunction) {
  std::mt19937_64 rng(fresh_seed());
  for (const std::int64_t width : {1, 15, 16, 1536, 1537}) {
    std::vector<float> gate = random_floats(rng, width, 10.0f);
    const std::vector<float> up = random_floats(rng, width);
    const std::vector<float> extremes = {100.0f, -100.0f, kInf, -kInf, kNan, 0.0f, -0.0f, 1e-40f};
    for (std::size_t i = 0; i < extremes.size() && i < gate.size(); ++i) gate[i] = extremes[i];
    const std::vector<float> out = run_everywhere(width, [&](const CpuOps& ops, float* y) {
      ops.silu_multiply(gate.data(), up.data(), y, width);
    });
    for (std::size_t i = 0; i < gate.size(); ++i) {
      EXPECT_TRUE(same_bits(out[i], numerics::silu(gate[i]) * up[i])) << gate[i];
      if (!std::isfinite(gate[i]) || std::abs(gate[i]) < 1e-30f) continue;
      const double want = gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i]))) * up[i];
      EXPECT_NEAR(out[i], want, 1e-6 * std::abs(want) + 1e-35) << gate[i];
    }
    const std::vector<float> in_place = run_everywhere(width, [&](const CpuOps& ops, float* y) {
      std::copy(gate.begin(), gate.end(), y);
      ops.silu_multiply(y, up.data(), y, width);
    });
    EXPECT_TRUE(same_bits(in_place, out));
  }
  EXPECT_EQ(numerics::silu(100.0f), 100.0f);
  EXPECT_EQ(numerics::silu(kInf), kInf);
  EXPECT_TRUE(std::isnan(numerics::silu(kNan)));
  EXPECT_LT(std::abs(numerics::silu(-100.0f)), 1e-35f);
}

TEST(Rope, RotatesPairsOfTheTwoHalves) {
  std::mt19937_64 rng(fresh_seed());
  for (const std::int64_t head_dim : {2, 10, 32, 64, 80, 96, 128, 256}) {
    const std::int64_t half = head_dim / 2;
    const std::vector<float> head = random_floats(rng, head_dim);
    std::vector<float> cos(static_cast<std::size_t>(half)), sin(static_cast<std::size_t>(half));
    std::vector<double> angle(static_cast<std::size_t>(half));
    for (std::size_t i = 0; i < angle.size(); ++i) {
      angle[i] = 777.0 * std::pow(10000.0, -2.0 * static_cast<double>(i) / head_dim);
      cos[i] = static_cast<float>(std::cos(angle[i]));
      sin[i] = static_cast<float>(std::sin(angle[i]));
    }
    const std::vector<float> out = run_everywhere(head_dim, [&](const CpuOps& ops, float* y) {
      std::copy(head.begin(), head.end(), y);
      ops.rope(y, cos.data(), sin.data(), head_dim);
    });
    for (std::size_t i = 0; i < angle.size(); ++i) {
      const std::size_t j = i + static_cast<std::size_t>(half);
      EXPECT_TRUE(same_bits(out[i], head[i] * cos[i] - head[j] * sin[i]));
      EXPECT_TRUE(same_bits(out[j], head[j] * cos[i] + head[i] * sin[i]));
      const double length = std::hypot(head[i], head[j]);
      EXPECT_NEAR(out[i], head[i] * std::cos(angle[i]) - head[j] * std::sin(angle[i]),
                  4e-7 * length);
      EXPECT_NEAR(out[j], head[j] * std::cos(angle[i]) + head[i] * std::sin(angle[i]),
                  4e-7 * length);
    }
  }
}

std::vector<std::uint16_t> half_everywhere(const std::vector<float>& x) {
  const std::size_t guard = kGuard;
  std::vector<std::uint16_t> scalar;
  for (const Isa isa : all_isas()) {
    std::vector<std::uint16_t> buffer(x.size() + 2 * guard, 0xBEEF);
    cpu_ops(isa).to_f16(x.data(), buffer.data() + guard, static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < guard; ++i) {
      EXPECT_EQ(buffer[i], 0xBEEF);
      EXPECT_EQ(buffer[guard + x.size() + i], 0xBEEF);
    }
    const auto begin = buffer.begin() + kGuard;
    const std::vector<std::uint16_t> out(begin, begin + static_cast<std::int64_t>(x.size()));
    if (isa == Isa::kScalar) scalar = out;
    EXPECT_TRUE(out == scalar) << isa_name(isa);
  }
  return scalar;
}

TEST(Half, EveryHalfSurvivesAndEveryTieGoesToEven) {
  std::vector<float> x;
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    x.push_back(f16_to_float(static_cast<std::uint16_t>(h)));
  }
  const std::vector<std::uint16_t> same = half_everywhere(x);
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const bool nan = (h & 0x7FFF) > 0x7C00;
    EXPECT_EQ(same[h], nan ? ((h & 0x8000) | 0x7E00) : h);
  }
  // The middles between neighbours, one float below and one above them.
  x.clear();
  std::vector<std::uint16_t> want;
  for (std::uint32_t h = 0; h < 0x7C00; ++h) {
    const float low = f16_to_float(static_cast<std::uint16_t>(h));
    const float high = h == 0x7BFF ? 65536.0f : f16_to_float(static_cast<std::uint16_t>(h + 1));
    const float middle = low + (high - low) / 2;
    for (const float sign : {1.0f, -1.0f}) {
      const std::uint32_t s = sign < 0 ? 0x8000 : 0;
      x.push_back(sign * middle);
      want.push_back(static_cast<std::uint16_t>(s | (h % 2 == 0 ? h : h + 1)));
      x.push_back(sign * std::nextafter(middle, 0.0f));
      want.push_back(static_cast<std::uint16_t>(s | h));
      x.push_back(sign * std::nextafter(middle, kInf));
      want.push_back(static_cast<std::uint16_t>(s | (h + 1)));
    }
  }
  EXPECT_TRUE(half_everywhere(x) == want);
}

TEST(Half, RandomFloatsOfAllKindsMatchTheBaseConversion) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  std::vector<float> x(kSanitized ? 20001 : 1000003);
  for (float& value : x) value = std::bit_cast<float>(static_cast<std::uint32_t>(rng()));
  // Half of them where halves live.
  for (std::size_t i = 0; i < x.size(); i += 2) {
    x[i] = std::ldexp(1.0f + static_cast<float>(rng() % 4096) / 4096.0f,
                      static_cast<int>(rng() % 44) - 27);
  }
  const std::vector<std::uint16_t> out = half_everywhere(x);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(out[i], float_to_f16(x[i])) << x[i];
}

TEST(Bfloat16, TiesGoToEvenAndAllElseMatchesTheBaseConversion) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  std::vector<float> x;
  std::vector<std::uint16_t> want;
  for (std::uint32_t h = 0; h < 0x7F80; ++h) {
    // What is stored, the middle to the next number, and its two neighbours.
    const auto from = std::bit_cast<float>(h << 16 | 0x8000u);
    for (const float value : {bf16_to_float(static_cast<std::uint16_t>(h)), from,
                              std::nextafter(from, 0.0f), std::nextafter(from, kInf)}) {
      x.push_back(h % 2 == 0 ? value : -value);
    }
    const std::uint32_t sign = h % 2 == 0 ? 0u : 0x8000u;
    for (const std::uint32_t bits : {h, h + h % 2, h, h + 1}) {
      want.push_back(static_cast<std::uint16_t>(sign | bits));
    }
  }
  for (int i = 0; i < (kSanitized ? 20001 : 300007); ++i) {
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(rng())));
    want.push_back(float_to_bf16(x.back()));
  }
  for (const float value : {kInf, -kInf, kNan, -0.0f}) {
    x.push_back(value);
    want.push_back(float_to_bf16(value));
  }
  for (const Isa isa : all_isas()) {
    std::vector<Bf16> out(x.size() + 2 * kGuard, Bf16{0xBEEF});
    cpu_ops(isa).to_bf16(x.data(), out.data() + kGuard, static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(static_cast<std::uint16_t>(out[kGuard + i]), want[i]) << isa_name(isa) << x[i];
    }
    for (std::size_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(out[i], Bf16{0xBEEF});
      EXPECT_EQ(out[kGuard + x.size() + i], Bf16{0xBEEF});
    }
  }
}

TEST(Int8, StaticCodesFollowTheirRule) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  for (const std::int64_t width : {1, 5, 16, 33, 64, 128, 577}) {
    std::vector<float> x = random_floats(rng, width, 60.0f), reciprocal = x;
    for (std::size_t i = 0; i < x.size(); ++i) {
      // Powers of two: halves are ties.
      reciprocal[i] = rng() % 2 ? std::ldexp(1.0f, static_cast<int>(rng() % 3)) : 0.37f;
      if (rng() % 3 == 0) x[i] = static_cast<float>(static_cast<int>(rng() % 509) - 254) / 2;
    }
    x[rng() % x.size()] = std::vector<float>{kNan, kInf, -kInf, 1e38f, 127.5f}[rng() % 5];
    for (const Isa isa : all_isas()) {
      std::vector<std::int8_t> out(x.size() + 2 * kGuard, 77);
      cpu_ops(isa).to_int8_static(x.data(), reciprocal.data(), out.data() + kGuard, width);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double rounded = std::nearbyint(static_cast<double>(x[i] * reciprocal[i]));
        const double want = std::isnan(x[i]) ? -127.0 : std::clamp(rounded, -127.0, 127.0);
        EXPECT_EQ(out[kGuard + i], want) << isa_name(isa) << " " << x[i] << " " << reciprocal[i];
        EXPECT_EQ(out[kGuard + i], numerics::kv_static_code(x[i], reciprocal[i]));
      }
      for (std::size_t i = 0; i < kGuard; ++i) {
        EXPECT_EQ(out[i], 77);
        EXPECT_EQ(out[kGuard + x.size() + i], 77);
      }
    }
  }
}

TEST(Int8, EveryRowFollowsTheRowRule) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  for (const std::int64_t width : {1, 5, 16, 33, 64, 128, 577}) {
    for (int kind = 0; kind < 9; ++kind) {
      std::vector<float> x = random_floats(rng, width, std::ldexp(1.0f, 20 * kind - 80));
      if (kind == 5) std::fill(x.begin(), x.end(), -0.0f);
      if (kind == 6) x.back() = kNan;
      if (kind == 7) x.front() = -kInf;
      if (kind == 8) {
        // Ties: with a largest value of 127 the row is its own codes, halves in between.
        for (float& value : x) value = static_cast<float>(static_cast<int>(rng() % 509) - 254) / 2;
        x[rng() % x.size()] = 127.0f;
      }
      float most = 0.0f;
      bool finite = true;
      for (const float value : x) {
        finite = finite && std::isfinite(value);
        most = std::max(most, std::abs(value));
      }
      const numerics::RowScale row = numerics::row_scale(most, finite);
      for (const Isa isa : all_isas()) {
        std::vector<std::int8_t> out(x.size() + 2 * kGuard, 77);
        const float scale = cpu_ops(isa).to_int8(x.data(), out.data() + kGuard, width);
        EXPECT_TRUE(same_bits(scale, row.scale)) << isa_name(isa) << " " << kind;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const int want =
              row.reciprocal == 0.0f ? 0 : numerics::quantize_value(x[i], row.reciprocal);
          EXPECT_EQ(out[kGuard + i], want) << isa_name(isa) << " " << x[i];
        }
        for (std::size_t i = 0; i < kGuard; ++i) {
          EXPECT_EQ(out[i], 77);
          EXPECT_EQ(out[kGuard + x.size() + i], 77);
        }
      }
    }
  }
  // Below 2^-100 a row is zero and its scale 1.
  const std::vector<float> tiny(20, 0x1p-101f);
  std::vector<std::int8_t> out(20, 77);
  EXPECT_EQ(cpu_ops(best_isa()).to_int8(tiny.data(), out.data(), 20), 1.0f);
  EXPECT_EQ(out, std::vector<std::int8_t>(20, 0));
}

}  // namespace
}  // namespace liquidgemm::ops_test
