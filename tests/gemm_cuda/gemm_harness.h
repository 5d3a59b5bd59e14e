// A layer on the device with what its outputs must be, bit for bit.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/half.h"
#include "cuda_fixture.h"
#include "gemm/numerics.h"

namespace liquidgemm::testing {

inline ThreadPool& test_pool() {
  static ThreadPool pool;
  return pool;
}

inline std::int64_t output_columns(const CudaGemmDesc& desc) {
  return desc.gated && desc.output != CudaOutput::kInt32 ? desc.n / 2 : desc.n;
}
inline std::int64_t output_bytes(CudaOutput output) {
  return output == CudaOutput::kInt32 || output == CudaOutput::kFloat32 ? 4 : 2;
}

// An element of the output as its bits, 16 or 32 of them.
inline std::uint32_t output_bits(CudaOutput output, float value) {
  switch (output) {
    case CudaOutput::kFloat16: return float_to_f16(value);
    case CudaOutput::kBFloat16: return float_to_bf16(value);
    default: return std::bit_cast<std::uint32_t>(value);
  }
}
inline bool same_output(CudaOutput output, std::uint32_t a, std::uint32_t b) {
  if (output == CudaOutput::kInt32 || a == b) return a == b;
  if (output == CudaOutput::kFloat32) {
    return (a & 0x7FFFFFFF) > 0x7F800000 && (b & 0x7FFFFFFF) > 0x7F800000;
  }
  const std::uint32_t infinity = output == CudaOutput::kFloat16 ? 0x7C00 : 0x7F80;
  return (a & 0x7FFF) > infinity && (b & 0x7FFF) > infinity;
}

// The tokens on the device. Gaps between the rows and all around hold bytes that must not matter.
class DeviceTokens {
 public:
  DeviceTokens(Random& random, const Tokens& tokens)
      : m_(tokens.m),
        ld_((tokens.k + 15) / 16 * 16 + 16 * pick(random, 0, 2)),
        x8_(static_cast<std::size_t>(m_ * ld_)),
        scale_(tokens.scale),
        sum_(tokens.sum) {
    std::vector<std::int8_t> rows(x8_.count());
    for (std::int8_t& value : rows) value = static_cast<std::int8_t>(pick(random, -128, 127));
    for (std::int64_t row = 0; row < m_; ++row) {
      std::memcpy(rows.data() + row * ld_, tokens.x8.data() + row * tokens.ld,
                  static_cast<std::size_t>(tokens.k));
    }
    x8_.upload(rows);
  }

  // From row `first` on.
  void set(CudaGemmArguments& arguments, std::int64_t first = 0) const {
    arguments.x8 = x8_.data() + first * ld_;
    arguments.ld_x = ld_;
    arguments.x_scale = scale_.data() + first;
    arguments.x_sum = sum_.data() + first;
  }

 private:
  std::int64_t m_, ld_;
  DeviceBuffer<std::int8_t> x8_;
  DeviceBuffer<float> scale_;
  DeviceBuffer<std::int32_t> sum_;
};

// y with guards and gaps.
class DeviceOutput {
 public:
  DeviceOutput(const CudaGemmDesc& desc, std::int64_t m, std::int64_t gap)
      : output_(desc.output),
        m_(m),
        columns_(output_columns(desc)),
        ld_((columns_ + 7) / 8 * 8 + 8 * gap),
        bytes_(static_cast<std::size_t>(m * ld_ * output_bytes(output_))) {}

  void set(CudaGemmArguments& arguments) const {
    arguments.y = bytes_.data();
    arguments.ld_y = ld_;
  }
  void poison() const { bytes_.fill(DeviceBuffer<std::uint8_t>::kPoison); }
  std::vector<std::uint8_t> download() const { return bytes_.download(); }

  // `expected` [m, columns] as bits.
  ::testing::AssertionResult equals(const std::vector<std::uint32_t>& expected) const {
    const std::vector<std::uint8_t> bytes = bytes_.download();
    const auto size = static_cast<std::size_t>(output_bytes(output_));
    std::uint32_t poison = 0;
    std::memset(&poison, DeviceBuffer<std::uint8_t>::kPoison, size);
    for (std::int64_t row = 0; row < m_; ++row) {
      for (std::int64_t column = 0; column < ld_; ++column) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, bytes.data() + (row * ld_ + column) * output_bytes(output_), size);
        if (column >= columns_) {
          if (bits == poison) continue;
          return ::testing::AssertionFailure()
                 << "wrote into the gap: row " << row << " column " << column << " of " << columns_;
        }
        const std::uint32_t want = expected[row * columns_ + column];
        if (same_output(output_, bits, want)) continue;
        return ::testing::AssertionFailure()
               << "row " << row << " column " << column << ": " << text(bits) << ", expected "
               << text(want) << (bits == poison ? " (never written)" : "");
      }
    }
    return bytes_.guards_intact();
  }

 private:
  std::string text(std::uint32_t bits) const {
    if (output_ == CudaOutput::kInt32) return std::to_string(static_cast<std::int32_t>(bits));
    if (output_ == CudaOutput::kFloat32) return std::to_string(std::bit_cast<float>(bits));
    const auto half = static_cast<std::uint16_t>(bits);
    return std::to_string(output_ == CudaOutput::kFloat16 ? f16_to_float(half)
                                                          : bf16_to_float(half));
  }

  CudaOutput output_;
  std::int64_t m_, columns_, ld_;
  DeviceBuffer<std::uint8_t> bytes_;
};

// A layer in host memory and packed on the device. bias and gated may differ from run to run.
class TestLayer {
 public:
  TestLayer(Random& random, Layer layer, bool gated, cudaStream_t stream)
      : layer_(std::move(layer)),
        gated_(gated),
        bias_(random_floats(random, layer_.n)),
        device_bias_(bias_),
        packed_(packed_weight_bytes(desc(CudaOutput::kInt32, false))) {
    const DeviceSource source(layer_);
    const Status packed =
        pack_weights(desc(CudaOutput::kInt32, false), source.view(), packed_.data(), stream);
    if (!packed.ok()) throw std::runtime_error(packed.to_string());
    auto linear = make_linear(layer_.view(), best_isa(), test_pool());
    if (!linear.ok()) throw std::runtime_error(linear.status().to_string());
    linear_ = std::move(*linear);
  }

  CudaGemmDesc desc(CudaOutput output, bool bias) const {
    CudaGemmDesc desc = desc_of(layer_, output);
    desc.bias = bias;
    desc.gated = gated_;
    return desc;
  }
  const Layer& layer() const { return layer_; }
  std::int64_t n() const { return layer_.n; }
  std::int64_t k() const { return layer_.k; }

  void set(CudaGemmArguments& arguments, bool bias) const {
    arguments.weights = packed_.data();
    arguments.bias = bias ? device_bias_.data() : nullptr;
  }

  // The CPU's INT32 sums: the oracle's own for what is small enough, else those of the kernels that
  // are tested against it.
  std::vector<std::int32_t> sums(const Tokens& tokens) const {
    std::vector<std::int32_t> sums(static_cast<std::size_t>(tokens.m * layer_.n));
    if (tokens.m * layer_.n * layer_.k < 1 << 20) {
      reference_accumulate(layer_.view(), tokens.view(), sums.data());
    } else {
      linear_->accumulate(tokens.view(), sums.data(), test_pool());
    }
    return sums;
  }

  std::vector<std::uint32_t> expected(const CudaGemmDesc& desc, const Tokens& tokens,
                                      const std::vector<std::int32_t>& sums) const {
    if (desc.output == CudaOutput::kInt32) return {sums.begin(), sums.end()};
    std::vector<std::uint32_t> bits;
    const std::int64_t columns = output_columns(desc);
    bits.reserve(static_cast<std::size_t>(tokens.m * columns));
    for (std::int64_t row = 0; row < tokens.m; ++row) {
      const auto linear = [&](std::int64_t n) {
        const float y = numerics::scale_output(sums[row * layer_.n + n], tokens.scale[row],
                                               layer_.channel_scale[n]);
        return desc.bias ? y + bias_[n] : y;
      };
      for (std::int64_t n = 0; n < columns; ++n) {
        const float y = desc.gated ? numerics::silu(linear(n)) * linear(columns + n) : linear(n);
        bits.push_back(output_bits(desc.output, y));
      }
    }
    return bits;
  }

 private:
  Layer layer_;
  bool gated_;
  std::vector<float> bias_;
  DeviceBuffer<float> device_bias_;
  DeviceBuffer<std::uint8_t> packed_;
  std::unique_ptr<CpuLinear> linear_;
};

// A plan's workspace, zeroed once as the interface asks.
class Workspace {
 public:
  explicit Workspace(const CudaGemmPlan& plan) : bytes_(plan.workspace_bytes()) { bytes_.fill(0); }
  void set(CudaGemmArguments& arguments) const { arguments.workspace = bytes_.data(); }
  ::testing::AssertionResult guards_intact() const { return bytes_.guards_intact(); }

 private:
  DeviceBuffer<std::uint8_t> bytes_;
};

// Where gated floats leave their rows' largest magnitudes.
class DeviceAmax {
 public:
  DeviceAmax(const CudaGemmDesc& desc, std::int64_t m, std::int64_t gap)
      : asked_(desc.gated && desc.output == CudaOutput::kFloat32),
        m_(m),
        stride_(m + gap),
        words_(static_cast<std::size_t>(kCudaAmaxParts * stride_)) {}

  void set(CudaGemmArguments& arguments) const {
    if (asked_) arguments.y_amax = {words_.data(), stride_};
  }
  // The same launch without them runs other code, which has to be right as well.
  void leave_out(CudaGemmArguments& arguments) {
    arguments.y_amax = {};
    asked_ = false;
  }
  void clear() const { words_.fill(0); }

  // `expected` [m, columns] as the bits of floats.
  ::testing::AssertionResult equals(const std::vector<std::uint32_t>& expected) const {
    if (!asked_) return ::testing::AssertionSuccess();
    const std::vector<std::uint32_t> words = words_.download();
    const std::size_t columns = expected.size() / static_cast<std::size_t>(m_);
    constexpr std::uint32_t kInfinity = 0x7F800000;
    for (std::int64_t row = 0; row < stride_; ++row) {
      std::uint32_t got = 0, want = 0;
      for (int part = 0; part < kCudaAmaxParts; ++part) {
        got = std::max(got, words[part * stride_ + row]);
      }
      for (std::size_t i = 0; row < m_ && i < columns; ++i) {
        want = std::max(want, expected[row * columns + i] & 0x7FFFFFFF);
      }
      if (got == want || (got > kInfinity && want > kInfinity)) continue;
      return ::testing::AssertionFailure()
             << "amax of row " << row << " of " << m_ << ": " << std::bit_cast<float>(got)
             << ", expected " << std::bit_cast<float>(want);
    }
    return words_.guards_intact();
  }

 private:
  bool asked_;
  std::int64_t m_, stride_;
  DeviceBuffer<std::uint32_t> words_;
};

inline std::string describe_case(const CudaGemmDesc& desc, std::int64_t m) {
  return "M " + std::to_string(m) + ", N " + std::to_string(desc.n) + ", K " +
         std::to_string(desc.k) + ", group " + std::to_string(desc.group_size) + ", " +
         std::string(cuda_output_name(desc.output)) + (desc.bias ? ", bias" : "") +
         (desc.gated ? ", gated" : "");
}

// Launches `plan` twice on the same workspace and compares both outputs; gated floats the second
// time without their rows' largest magnitudes.
inline ::testing::AssertionResult run_equals(const CudaGemmPlan& plan, const CudaGemmDesc& desc,
                                             std::int64_t m, CudaGemmArguments arguments,
                                             const std::vector<std::uint32_t>& expected,
                                             std::int64_t gap, cudaStream_t stream) {
  const DeviceOutput output(desc, m, gap);
  const Workspace workspace(plan);
  DeviceAmax amax(desc, m, gap);
  output.set(arguments);
  workspace.set(arguments);
  amax.set(arguments);
  for (int launch = 0; launch < 2; ++launch) {
    if (launch == 1) amax.leave_out(arguments);
    output.poison();
    amax.clear();
    const Status status = plan.launch(arguments, stream);
    if (!status.ok()) return ::testing::AssertionFailure() << status.to_string();
    ::testing::AssertionResult equal = output.equals(expected);
    if (equal) equal = amax.equals(expected);
    if (!equal) {
      return ::testing::AssertionFailure()
             << equal.message() << "\nlaunch " << launch << " of " << plan.describe() << "\n"
             << describe_case(desc, m);
    }
  }
  const ::testing::AssertionResult intact = workspace.guards_intact();
  if (!intact) {
    return ::testing::AssertionFailure()
           << intact.message() << "\nworkspace of " << plan.describe() << "\n"
           << describe_case(desc, m);
  }
  return ::testing::AssertionSuccess();
}

}  // namespace liquidgemm::testing
