// A step's q, k and v on the device, with what the CPU makes of them: q in f16 or bf16, the bytes
// of every page.
#pragma once

#include <numeric>
#include <string>
#include <vector>

#include "base/half.h"
#include "gemm/numerics.h"
#include "gemm_cuda/cuda_fixture.h"
#include "ops/cpu/ops.h"
#include "ops/cuda/rows.h"
#include "ops/kv_static.h"
#include "ops_cuda/elements.h"

namespace liquidgemm::testing {

using cuda::testing::element_name;
using cuda::testing::from_two_bytes;
using cuda::testing::to_two_bytes;

struct NormRopeShape {
  cuda::KvElement element = cuda::KvElement::kF16;
  int head_dim = 0;
  int heads = 0;
  int kv_heads = 0;
  std::int64_t rows = 0;
  bool q_norm = false;
  bool k_norm = false;

  int width() const { return cuda::kv_width(head_dim); }
  std::int64_t columns() const { return std::int64_t{heads + 2 * kv_heads} * head_dim; }
  std::string describe() const {
    return std::string(element_name(element)) + ", head_dim " + std::to_string(head_dim) +
           ", heads " + std::to_string(heads) + " / " + std::to_string(kv_heads) + ", rows " +
           std::to_string(rows) + (q_norm ? ", q norm" : "") + (k_norm ? ", k norm" : "");
  }
};

// One head of a row: ordinary values, or such as are hard to store.
inline void fill_head(Random& random, float* head, int head_dim) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::uniform_real_distribution<float> exponent(-140.0f, 120.0f);
  const auto kind = random() % 16;
  const float constant = normal(random);
  const float largest = std::exp2(exponent(random));
  for (int i = 0; i < head_dim; ++i) {
    const float sign = random() % 2 ? 1.0f : -1.0f;
    head[i] = normal(random);
    if (kind == 0) head[i] = sign * std::exp2(exponent(random));
    if (kind == 1) head[i] = sign * 0.0f;
    if (kind == 2) head[i] *= 0x1p-26f;  // steps that round to zero or to subnormals in f16
    if (kind == 3) head[i] *= 1e5f;      // beyond f16
    if (kind == 4) head[i] = constant;
    if (kind == 5) head[i] = largest * normal(random);
    if (kind == 6) head[i] = std::clamp(head[i], -1.0f, 1.0f) * 0x1p-100f;
  }
  if (kind == 7) head[random() % head_dim] = std::numeric_limits<float>::quiet_NaN();
  if (kind == 8) head[random() % head_dim] = -std::numeric_limits<float>::infinity();
}

inline bool is_nan(cuda::KvElement element, std::uint16_t bits) {
  return std::isnan(from_two_bytes(element, bits));
}

// What the bytes of the pages must be. NaNs of any kind match: where one is expected and one is
// found, the one found is taken over.
class PageImage {
 public:
  PageImage(const cuda::KvPageShape& shape, std::vector<std::uint8_t> before,
            const std::vector<std::uint8_t>& found)
      : shape_(shape), bytes_(std::move(before)), found_(found) {}

  // `values` [head_dim] become the keys or values of a token.
  // `reciprocal`: what they are multiplied with in a static cache.
  void store(std::int64_t page, int layer, int head, int token, bool key,
             const std::vector<float>& values, const float* reciprocal) {
    at_ = page * cuda::kv_page_bytes(shape_) + cuda::kv_head_page_offset(shape_, layer, head);
    const auto head_dim = static_cast<int>(values.size());
    const auto place = [&](int d) {
      return key ? cuda::key_place(shape_, token, d) : cuda::value_place(shape_, token, d);
    };
    const int parameters = key ? cuda::key_parameter_offset(shape_.element, shape_.width, token)
                               : cuda::value_parameter_offset(shape_.element, shape_.width, token);
    switch (shape_.element) {
      case cuda::KvElement::kF16:
      case cuda::KvElement::kBf16:
        for (int d = 0; d < shape_.width; ++d) {
          store_half(place(d) / 8, d < head_dim ? to_two_bytes(shape_.element, values[d]) : 0);
        }
        return;
      case cuda::KvElement::kInt8: {
        std::vector<std::int8_t> codes(values.size());
        const float scale = cpu_ops(Isa::kScalar).to_int8(values.data(), codes.data(), head_dim);
        store_float(parameters, scale);
        for (int d = 0; d < shape_.width; ++d) {
          bytes_[at_ + place(d) / 8] =
              static_cast<std::uint8_t>((d < head_dim ? codes[d] : 0) + 128);
        }
        return;
      }
      case cuda::KvElement::kInt8Static:
        for (int d = 0; d < shape_.width; ++d) {
          const int code = d < head_dim ? numerics::kv_static_code(values[d], reciprocal[d]) : 0;
          bytes_[at_ + place(d) / 8] = static_cast<std::uint8_t>(code + 128);
        }
        return;
      case cuda::KvElement::kInt4: store_int4(values, place, parameters); return;
    }
  }

  ::testing::AssertionResult matches() const {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      if (bytes_[i] == found_[i]) continue;
      const auto byte = static_cast<std::int64_t>(i);
      const std::int64_t page_bytes = cuda::kv_page_bytes(shape_);
      const int head_bytes = cuda::kv_head_page_bytes(shape_.element, shape_.width);
      return ::testing::AssertionFailure()
             << "page " << byte / page_bytes << ", head page " << byte % page_bytes / head_bytes
             << ", byte " << byte % page_bytes % head_bytes << ": " << int{found_[i]}
             << ", expected " << int{bytes_[i]};
    }
    return ::testing::AssertionSuccess();
  }

 private:
  void store_half(std::int64_t offset, std::uint16_t half) {
    std::uint16_t found;
    std::memcpy(&found, found_.data() + at_ + offset, 2);
    if (is_nan(shape_.element, half) && is_nan(shape_.element, found)) half = found;
    std::memcpy(bytes_.data() + at_ + offset, &half, 2);
  }
  void store_float(std::int64_t offset, float value) {
    float found;
    std::memcpy(&found, found_.data() + at_ + offset, 4);
    if (std::isnan(value) && std::isnan(found)) value = found;
    std::memcpy(bytes_.data() + at_ + offset, &value, 4);
  }
  template <typename Place>
  void store_int4(const std::vector<float>& values, const Place& place, int parameters) {
    // -0 below +0.
    const auto less = [](float a, float b) {
      return a < b || (a == b && std::signbit(a) && !std::signbit(b));
    };
    bool finite = true;
    for (const float value : values) finite = finite && std::isfinite(value);
    const float low = *std::min_element(values.begin(), values.end(), less);
    const float high = *std::max_element(values.begin(), values.end(), less);
    const std::uint16_t scale = float_to_f16(numerics::kv4_step(low, high, finite));
    const float step = f16_to_float(scale);
    const std::uint16_t zero = float_to_f16(numerics::kv4_middle(low, step));
    store_half(parameters, scale);
    store_half(parameters + 2, zero);
    for (int d = 0; d < shape_.width; ++d) {
      const bool real = d < static_cast<int>(values.size());
      const int code = real ? numerics::kv4_code(values[d], step, f16_to_float(zero)) : 0;
      std::uint8_t& byte = bytes_[at_ + place(d) / 8];
      const int shift = static_cast<int>(place(d) % 8);
      byte = static_cast<std::uint8_t>((byte & ~(15 << shift)) | (code + 8) << shift);
    }
  }

  cuda::KvPageShape shape_;
  std::vector<std::uint8_t> bytes_;
  const std::vector<std::uint8_t>& found_;
  std::int64_t at_ = 0;  // the head page
};

class NormRopeStep {
 public:
  static constexpr int kPositions = 2000;
  static constexpr int kLayers = 3;

  NormRopeStep(Random& random, const NormRopeShape& shape)
      : shape_(shape),
        pages_(static_cast<int>(shape.rows / 16 + 2)),
        half_(shape.head_dim / 2),
        ld_(shape.columns() + 4 * pick(random, 0, 3)),
        cos_(static_cast<std::size_t>(kPositions * half_)),
        sin_(cos_.size()),
        q_norm_(random_floats(random, shape.head_dim)),
        k_norm_(random_floats(random, shape.head_dim)),
        k_scale_(random_scales(random)),
        k_reciprocal_(random_scales(random)),
        v_reciprocal_(random_scales(random)),
        device_k_scale_(k_scale_),
        device_k_reciprocal_(k_reciprocal_),
        device_v_reciprocal_(v_reciprocal_),
        device_cos_(cos_.size()),
        device_sin_(sin_.size()),
        device_q_norm_(q_norm_),
        device_k_norm_(k_norm_),
        device_qkv_(static_cast<std::size_t>(shape.rows * ld_)),
        device_positions_(static_cast<std::size_t>(shape.rows)),
        device_pages_of_rows_(static_cast<std::size_t>(shape.rows)),
        device_q_(static_cast<std::size_t>(shape.rows * shape.heads * shape.width())),
        device_pages_(static_cast<std::size_t>(pages_ * cuda::kv_page_bytes(page_shape()))) {
    std::uniform_real_distribution<float> angle(-4.0f, 4.0f);
    for (std::size_t i = 0; i < cos_.size(); ++i) {
      const float a = angle(random);
      cos_[i] = std::cos(a);
      sin_[i] = std::sin(a);
    }
    device_cos_.upload(cos_);
    device_sin_.upload(sin_);
    layer_ = static_cast<int>(pick(random, 0, kLayers - 1));
    renew(random);
  }

  cuda::KvPageShape page_shape() const {
    return {shape_.element, shape_.width(), shape_.kv_heads, kLayers};
  }

  // Other rows at other places; the outputs are poisoned.
  void renew(Random& random) {
    qkv_ = random_floats(random, shape_.rows * ld_);
    for (std::int64_t row = 0; row < shape_.rows; ++row) {
      for (int head = 0; head < shape_.heads + 2 * shape_.kv_heads; ++head) {
        fill_head(random, qkv_.data() + row * ld_ + head * shape_.head_dim, shape_.head_dim);
      }
    }
    // No two rows in one slot.
    std::vector<int> slots(static_cast<std::size_t>(pages_ * 64));
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), random);
    positions_.clear();
    pages_of_rows_.clear();
    for (std::int64_t row = 0; row < shape_.rows; ++row) {
      const int slot = slots[static_cast<std::size_t>(row)];
      positions_.push_back(static_cast<std::int32_t>(64 * pick(random, 0, 30) + slot % 64));
      pages_of_rows_.push_back(random() % 8 == 0 ? -1 : slot / 64);
    }
    device_qkv_.upload(qkv_);
    device_positions_.upload(positions_);
    device_pages_of_rows_.upload(pages_of_rows_);
    device_q_.fill(DeviceBuffer<std::uint16_t>::kPoison);
    device_pages_.fill(DeviceBuffer<std::uint8_t>::kPoison);
  }

  cuda::NormRopeCacheArguments arguments() const {
    cuda::NormRopeCacheArguments arguments;
    arguments.qkv = device_qkv_.data();
    arguments.ld_qkv = ld_;
    arguments.rows = shape_.rows;
    arguments.heads = shape_.heads;
    arguments.head_dim = shape_.head_dim;
    if (shape_.q_norm) arguments.q_norm = device_q_norm_.data();
    if (shape_.k_norm) arguments.k_norm = device_k_norm_.data();
    arguments.epsilon = kEpsilon;
    arguments.cos = device_cos_.data();
    arguments.sin = device_sin_.data();
    arguments.positions = device_positions_.data();
    arguments.pages_of_rows = device_pages_of_rows_.data();
    arguments.shape = page_shape();
    arguments.layer = layer_;
    arguments.pages = device_pages_.data();
    arguments.q = device_q_.data();
    if (shape_.element == cuda::KvElement::kInt8Static) {
      arguments.k_scale = device_k_scale_.data();
      arguments.k_reciprocal = device_k_reciprocal_.data();
      arguments.v_reciprocal = device_v_reciprocal_.data();
    }
    return arguments;
  }

  ::testing::AssertionResult matches_the_cpu() const {
    if (const auto same = q_matches(); !same) return same;
    const std::vector<std::uint8_t> found = device_pages_.download();
    PageImage image(page_shape(),
                    std::vector<std::uint8_t>(found.size(), DeviceBuffer<std::uint8_t>::kPoison),
                    found);
    for (std::int64_t row = 0; row < shape_.rows; ++row) {
      if (pages_of_rows_[row] < 0) continue;
      for (int head = 0; head < shape_.kv_heads; ++head) {
        for (const bool key : {true, false}) {
          image.store(pages_of_rows_[row], layer_, head, positions_[row] % 64, key,
                      head_values(row, shape_.heads + (key ? 0 : shape_.kv_heads) + head),
                      (key ? k_reciprocal_ : v_reciprocal_).data() + head * shape_.head_dim);
        }
      }
    }
    if (const auto same = image.matches(); !same) return same;
    return guards_intact();
  }

 private:
  static constexpr float kEpsilon = 1e-5f;

  // Not inverse to each other: the kernel only multiplies with them.
  std::vector<float> random_scales(Random& random) const {
    std::uniform_real_distribution<float> exponent(-6.0f, 6.0f);
    std::vector<float> scales(static_cast<std::size_t>(shape_.kv_heads * shape_.head_dim));
    for (float& scale : scales) scale = std::exp2(exponent(random));
    return scales;
  }

  // A head after norm and rotation.
  std::vector<float> head_values(std::int64_t row, int head) const {
    const CpuOps& ops = cpu_ops(Isa::kScalar);
    const float* from = qkv_.data() + row * ld_ + head * shape_.head_dim;
    std::vector<float> values(from, from + shape_.head_dim);
    if (head >= shape_.heads + shape_.kv_heads) return values;
    const bool is_q = head < shape_.heads;
    if (is_q ? shape_.q_norm : shape_.k_norm) {
      ops.rms_norm(values.data(), (is_q ? q_norm_ : k_norm_).data(), values.data(), shape_.head_dim,
                   kEpsilon);
    }
    const std::int64_t angles = std::int64_t{positions_[row]} * half_;
    ops.rope(values.data(), cos_.data() + angles, sin_.data() + angles, shape_.head_dim);
    return values;
  }

  ::testing::AssertionResult q_matches() const {
    const std::vector<std::uint16_t> found = device_q_.download();
    for (std::int64_t row = 0; row < shape_.rows; ++row) {
      for (int head = 0; head < shape_.heads; ++head) {
        const std::int64_t q_head = row * shape_.heads + head;
        std::vector<float> values = head_values(row, head);
        if (shape_.element == cuda::KvElement::kInt8Static) {
          const int kv_head = head / (shape_.heads / shape_.kv_heads);
          for (int d = 0; d < shape_.head_dim; ++d) {
            values[d] = values[d] * k_scale_[kv_head * shape_.head_dim + d];
          }
        }
        std::vector<std::uint16_t> q;
        for (const float value : values) q.push_back(to_two_bytes(shape_.element, value));
        q.resize(static_cast<std::size_t>(shape_.width()), 0);
        for (int d = 0; d < shape_.width(); ++d) {
          const std::uint16_t bits = found[q_head * shape_.width() + d];
          if (bits == q[d]) continue;
          if (is_nan(shape_.element, bits) && is_nan(shape_.element, q[d])) continue;
          return ::testing::AssertionFailure()
                 << "row " << row << " head " << head << " dimension " << d << ": q is "
                 << from_two_bytes(shape_.element, bits) << ", expected "
                 << from_two_bytes(shape_.element, q[d]);
        }
      }
    }
    return ::testing::AssertionSuccess();
  }

  ::testing::AssertionResult guards_intact() const {
    for (const auto& intact :
         {device_qkv_.guards_intact(), device_q_.guards_intact(), device_pages_.guards_intact(),
          device_positions_.guards_intact(), device_pages_of_rows_.guards_intact(),
          device_cos_.guards_intact(), device_sin_.guards_intact(), device_k_scale_.guards_intact(),
          device_k_reciprocal_.guards_intact(), device_v_reciprocal_.guards_intact()}) {
      if (!intact) return intact;
    }
    return ::testing::AssertionSuccess();
  }

  NormRopeShape shape_;
  int pages_, half_, layer_ = 0;
  std::int64_t ld_;
  std::vector<float> qkv_, cos_, sin_, q_norm_, k_norm_;
  std::vector<float> k_scale_, k_reciprocal_, v_reciprocal_;  // of a static cache
  DeviceBuffer<float> device_k_scale_, device_k_reciprocal_, device_v_reciprocal_;
  std::vector<std::int32_t> positions_, pages_of_rows_;
  DeviceBuffer<float> device_cos_, device_sin_, device_q_norm_, device_k_norm_, device_qkv_;
  DeviceBuffer<std::int32_t> device_positions_, device_pages_of_rows_;
  DeviceBuffer<std::uint16_t> device_q_;
  DeviceBuffer<std::uint8_t> device_pages_;
};

}  // namespace liquidgemm::testing
