#include "bench/cpu/product.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "gemm/quantize_rows.h"

namespace liquidgemm::bench::cpu {
namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// As bits: equal NaNs are equal, 0 and -0 are not.
std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

Status differs(const Shape& shape, std::int64_t m, std::int64_t token, std::int64_t channel,
               float found, float expected, const char* whose) {
  return internal_error(shape.name + ", M " + std::to_string(m) + ": token " +
                        std::to_string(token) + ", channel " + std::to_string(channel) + " is " +
                        std::to_string(found) + ", but " + whose + " is " +
                        std::to_string(expected) + "; please report this");
}

}  // namespace

Product::Product(const Layer& layer, std::int64_t m, Isa isa, std::uint64_t seed, ThreadPool& pool)
    : layer_(layer),
      m_(m),
      isa_(isa),
      seed_(seed),
      pool_(pool),
      activations_(size(m * layer.shape().k)),
      x8_(size(m * layer.shape().k)),
      scale_(size(m)),
      sum_(size(m)),
      outputs_(size(m * layer.shape().n)) {
  std::mt19937_64 random(seed);
  for (float& x : activations_) {
    x = static_cast<float>(static_cast<std::int32_t>(random() >> 32)) * 0x1p-31f;
  }
}

void Product::quantize() {
  const std::int64_t k = layer_.shape().k;
  pool_.parallel_for(m_, quantize_grain(k), [&](std::int64_t begin, std::int64_t end, int) {
    quantize_activations(isa_, activations_.data() + begin * k, end - begin, k, k,
                         x8_.data() + begin * k, k, scale_.data() + begin, sum_.data() + begin);
  });
}

void Product::multiply() {
  const QuantizedRows rows{
      m_, layer_.shape().k, x8_.data(), layer_.shape().k, scale_.data(), sum_.data()};
  layer_.copies()[next_copy_]->run(rows, nullptr, outputs_.data(), layer_.shape().n, pool_);
  next_copy_ = (next_copy_ + 1) % layer_.copies().size();
}

Status Product::check(std::int64_t& checked) {
  const Shape& shape = layer_.shape();
  const std::vector<float> timed = outputs_;
  std::fill(outputs_.begin(), outputs_.end(), std::numeric_limits<float>::quiet_NaN());
  quantize();
  multiply();
  const auto [one, other] = std::mismatch(outputs_.begin(), outputs_.end(), timed.begin(),
                                          [](float a, float b) { return bits(a) == bits(b); });
  if (one != outputs_.end()) {
    const std::int64_t at = one - outputs_.begin();
    return differs(shape, m_, at / shape.n, at % shape.n, *one, *other, "the timed product's");
  }

  std::vector<std::int64_t> all(size(m_));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  std::vector<std::int64_t> tokens;
  std::mt19937_64 random(seed_ + 1);
  std::sample(all.begin(), all.end(), std::back_inserter(tokens), kCheckedTokens, random);
  std::vector<std::int8_t> x8(size(shape.k));
  std::vector<float> expected(size(shape.n));
  for (const std::int64_t token : tokens) {
    float scale = 0.0f;
    std::int32_t sum = 0;
    reference_quantize_row(activations_.data() + token * shape.k, shape.k, x8.data(), &scale, &sum);
    const QuantizedRows row{1, shape.k, x8.data(), shape.k, &scale, &sum};
    pool_.parallel_for(shape.n, 1, [&](std::int64_t begin, std::int64_t end, int) {
      reference_run(layer_.view(begin, end), row, nullptr, expected.data() + begin, end - begin);
    });
    const float* found = outputs_.data() + token * shape.n;
    for (std::int64_t channel = 0; channel < shape.n; ++channel) {
      const float right = expected[size(channel)];
      if (bits(found[channel]) == bits(right)) continue;
      return differs(shape, m_, token, channel, found[channel], right, "the reference's");
    }
  }
  checked = static_cast<std::int64_t>(tokens.size());
  return ok_status();
}

double product_bytes(const Shape& shape, std::int64_t m) {
  // Activations as float and INT8; the outputs twice, when they are checked.
  return static_cast<double>(m) *
         (5.0 * static_cast<double>(shape.k) + 8.0 * static_cast<double>(shape.n));
}

}  // namespace liquidgemm::bench::cpu
