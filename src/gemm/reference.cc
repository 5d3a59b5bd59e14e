// The oracle: plain loops over the checkpoint form, written to be read. Every kernel is tested
// against these functions bit for bit.
#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "gemm/gemm.h"
#include "gemm/numerics.h"

namespace liquidgemm {
namespace {

// q * s + a of one weight, or w8 + 128: an unsigned code, 128 above the signed weight.
std::int32_t unsigned_code(const WeightView& weight, std::int64_t n, std::int64_t k) {
  if (weight.kind == WeightView::Kind::kInt8) return weight.int8[n * weight.k + k] + 128;
  const std::int64_t groups = (weight.k + weight.group_size - 1) / weight.group_size;
  const std::int64_t group = n * groups + k / weight.group_size;
  const std::uint8_t pair = weight.packed[n * (weight.k / 2) + k / 2];
  const int q = k % 2 == 0 ? pair & 0x0F : pair >> 4;
  return q * weight.step[group] + weight.offset[group];
}

std::int32_t accumulate_one(const WeightView& weight, const QuantizedRows& x, std::int64_t row,
                            std::int64_t n) {
  std::int32_t sum = 0;
  for (std::int64_t k = 0; k < weight.k; ++k) {
    sum += unsigned_code(weight, n, k) * x.x8[row * x.ld + k];
  }
  return sum - 128 * x.sum[row];
}

}  // namespace

void reference_accumulate(const WeightView& weight, const QuantizedRows& x, std::int32_t* out) {
  for (std::int64_t row = 0; row < x.m; ++row) {
    for (std::int64_t n = 0; n < weight.n; ++n) {
      out[row * weight.n + n] = accumulate_one(weight, x, row, n);
    }
  }
}

void reference_run(const WeightView& weight, const QuantizedRows& x, const float* bias, float* out,
                   std::int64_t ld_out) {
  for (std::int64_t row = 0; row < x.m; ++row) {
    for (std::int64_t n = 0; n < weight.n; ++n) {
      const std::int32_t sum = accumulate_one(weight, x, row, n);
      const float y = numerics::scale_output(sum, x.scale[row], weight.channel_scale[n]);
      out[row * ld_out + n] = bias ? y + bias[n] : y;
    }
  }
}

void reference_run_float(const WeightView& weight, const float* x, std::int64_t m,
                         std::int64_t ld_x, const float* bias, float* out, std::int64_t ld_out) {
  const bool fp16 = weight.kind == WeightView::Kind::kFp16;
  const auto value = [&](std::int64_t n, std::int64_t k) {
    const std::int64_t at = n * weight.k + k;
    if (!fp16) return weight.f32[at];
    return f16_to_float(
        static_cast<std::uint16_t>(weight.f16[2 * at] | weight.f16[2 * at + 1] << 8));
  };
  const auto input = [&](std::int64_t row, std::int64_t k) {
    const float given = x[row * ld_x + k];
    return fp16 ? f16_to_float(float_to_f16(given)) : given;
  };
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::int64_t n = 0; n < weight.n; ++n) {
      float total = 0.0f;
      for (std::int64_t begin = 0; begin < weight.k; begin += numerics::kFloatBlock) {
        const std::int64_t end = std::min<std::int64_t>(begin + numerics::kFloatBlock, weight.k);
        float block = 0.0f;
        for (std::int64_t k = begin; k < end; ++k) {
          block = std::fmaf(input(row, k), value(n, k), block);
        }
        total = total + block;
      }
      out[row * ld_out + n] = bias ? total + bias[n] : total;
    }
  }
}

bool reference_quantize_row(const float* x, std::int64_t k, std::int8_t* x8, float* scale,
                            std::int32_t* sum) {
  bool finite = true;
  float largest = 0.0f;
  for (std::int64_t i = 0; i < k; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::max(largest, std::fabs(x[i]));
  }
  const numerics::RowScale row = numerics::row_scale(largest, finite);
  *scale = row.scale;
  *sum = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    x8[i] =
        row.reciprocal == 0.0f ? std::int8_t{0} : numerics::quantize_value(x[i], row.reciprocal);
    *sum += x8[i];
  }
  return finite;
}

}  // namespace liquidgemm
