// INT8 layers on the W4A8 kernels: split, packed and run, against plain sums over the INT8 weight.
#include "gemm/cuda/int8_weights.h"

#include <functional>

#include "gemm_harness.h"

namespace liquidgemm::testing {
namespace {

class Int8Weights : public CudaTest {};

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// An INT8 layer on the device, in the form that pack_weights reads.
class SplitLayer {
 public:
  SplitLayer(const Layer& layer, cudaStream_t stream)
      : n_(round_up(layer.n, 8)),
        k_(cuda::int8_stacked_k(layer.k)),
        weight_(layer.int8),
        weight_scale_(layer.channel_scale),
        packed_(static_cast<std::size_t>(n_ * k_ / 2)),
        step_(static_cast<std::size_t>(n_ * groups())),
        offset_(static_cast<std::size_t>(n_ * groups())),
        channel_scale_(static_cast<std::size_t>(n_)) {
    arguments_.weight = weight_.data();
    arguments_.weight_scale = weight_scale_.data();
    arguments_.weight_rows = layer.n;
    arguments_.k = layer.k;
    arguments_.n = n_;
    arguments_.packed = packed_.data();
    arguments_.step = step_.data();
    arguments_.offset = offset_.data();
    arguments_.channel_scale = channel_scale_.data();
    const Status split = cuda::split_int8_weights(arguments_, stream);
    if (!split.ok()) throw std::runtime_error(split.to_string());
    CHECK_CUDA(cudaStreamSynchronize(stream));
  }

  std::int64_t n() const { return n_; }
  std::int64_t k() const { return k_; }
  std::int64_t groups() const { return k_ / cuda::kInt8GroupSize; }
  const cuda::Int8WeightArguments& arguments() const { return arguments_; }

  std::vector<std::uint8_t> packed() const { return packed_.download(); }
  std::vector<std::uint8_t> step() const { return step_.download(); }
  std::vector<std::uint8_t> offset() const { return offset_.download(); }
  std::vector<float> channel_scale() const { return channel_scale_.download(); }

  CudaGemmDesc desc(CudaOutput output) const {
    CudaGemmDesc desc;
    desc.n = n_;
    desc.k = k_;
    desc.group_size = cuda::kInt8GroupSize;
    desc.output = output;
    return desc;
  }
  CudaWeightSource source() const {
    CudaWeightSource source;
    source.packed = packed_.data();
    source.group_step = step_.data();
    source.group_offset = offset_.data();
    source.channel_scale = channel_scale_.data();
    source.name = "test.int8";
    return source;
  }
  ::testing::AssertionResult intact() const {
    for (const auto& result :
         {weight_.guards_intact(), weight_scale_.guards_intact(), packed_.guards_intact(),
          step_.guards_intact(), offset_.guards_intact(), channel_scale_.guards_intact()}) {
      if (!result) return result;
    }
    return ::testing::AssertionSuccess();
  }

 private:
  std::int64_t n_, k_;
  DeviceBuffer<std::int8_t> weight_;
  DeviceBuffer<float> weight_scale_;
  DeviceBuffer<std::uint8_t> packed_, step_, offset_;
  DeviceBuffer<float> channel_scale_;
  cuda::Int8WeightArguments arguments_;
};

std::size_t stacked_bytes(const Tokens& tokens) {
  return static_cast<std::size_t>(tokens.m * cuda::int8_stacked_k(tokens.k));
}

// Stacks the rows into `out`. Between the rows of the source lies what must not matter.
void stack(Random& random, const Tokens& tokens, const DeviceBuffer<std::int8_t>& out,
           cudaStream_t stream) {
  const std::int64_t ld =
      random() % 2 ? round_up(tokens.k, 16) + 16 * pick(random, 0, 1) : tokens.ld;
  std::vector<std::int8_t> rows(static_cast<std::size_t>(tokens.m * ld));
  for (std::int8_t& value : rows) value = static_cast<std::int8_t>(pick(random, -128, 127));
  for (std::int64_t row = 0; row < tokens.m; ++row) {
    std::memcpy(rows.data() + row * ld, tokens.x8.data() + row * tokens.ld,
                static_cast<std::size_t>(tokens.k));
  }
  const DeviceBuffer<std::int8_t> x8(rows);
  cuda::Int8ActivationArguments arguments;
  arguments.x8 = x8.data();
  arguments.ld = ld;
  arguments.m = tokens.m;
  arguments.k = tokens.k;
  arguments.out = out.data();
  const Status status = cuda::stack_int8_rows(arguments, stream);
  if (!status.ok()) throw std::runtime_error(status.to_string());
  CHECK_CUDA(cudaStreamSynchronize(stream));
  if (!x8.guards_intact()) throw std::runtime_error("wrote around the source");
}

// Rows of zero weights with scale 1 follow those of the layer.
Layer padded(const Layer& layer, std::int64_t n) {
  Layer padded = layer;
  padded.n = n;
  padded.int8.resize(static_cast<std::size_t>(n * layer.k), 0);
  padded.channel_scale.resize(static_cast<std::size_t>(n), 1.0f);
  return padded;
}

TEST_F(Int8Weights, NibblesOfEveryWeight) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t k : {1, 7, 70, 96, 100, 128, 130, 576, 1500}) {
    const Layer layer = random_int8(random, pick(random, 1, 40), k);
    const SplitLayer split(layer, stream);
    SCOPED_TRACE("N " + std::to_string(layer.n) + ", K " + std::to_string(k));
    const Layer expected = padded(layer, split.n());
    const std::vector<std::uint8_t> packed = split.packed();
    const std::int64_t half = split.k() / 2;
    ASSERT_EQ(half % 128, 0);
    ASSERT_TRUE(half >= k && half < k + 128);
    const auto code = [&](std::int64_t row, std::int64_t column) {
      const int byte = packed[row * half + column / 2];
      return column % 2 ? byte >> 4 : byte & 15;
    };
    for (std::int64_t row = 0; row < split.n(); ++row) {
      for (std::int64_t i = 0; i < half; ++i) {
        const int level = i < k ? expected.int8[row * k + i] + 128 : 0;
        ASSERT_EQ(16 * code(row, i) + code(row, half + i), level) << "row " << row << " k " << i;
      }
    }
    for (std::int64_t i = 0; i < split.n() * split.groups(); ++i) {
      ASSERT_EQ(split.step()[i], i % split.groups() < split.groups() / 2 ? 16 : 1);
      ASSERT_EQ(split.offset()[i], 0);
    }
    ASSERT_EQ(split.channel_scale(), expected.channel_scale);
    ASSERT_TRUE(split.intact());
  }
}

TEST_F(Int8Weights, RowsTwice) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t k : {1, 15, 70, 96, 128, 576, 2049, 9000}) {
    const Tokens tokens = random_tokens(random, pick(random, 1, 20), k);
    SCOPED_TRACE("M " + std::to_string(tokens.m) + ", K " + std::to_string(k));
    const DeviceBuffer<std::int8_t> out(stacked_bytes(tokens));
    stack(random, tokens, out, stream);
    const std::vector<std::int8_t> values = out.download();
    const std::int64_t half = cuda::int8_half(k);
    for (std::int64_t row = 0; row < tokens.m; ++row) {
      for (std::int64_t i = 0; i < 2 * half; ++i) {
        const int want = i % half < k ? tokens.x8[row * tokens.ld + i % half] : 0;
        ASSERT_EQ(int{values[row * 2 * half + i]}, want) << "row " << row << " column " << i;
      }
    }
    ASSERT_TRUE(out.guards_intact());
  }
}

TEST_F(Int8Weights, SumsAreThoseOfTheOracle) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t k : {1, 32, 70, 96, 100, 576, 1500, 4096}) {
    for (const Extreme extreme : {Extreme::kNone, Extreme::kHighest, Extreme::kLowest}) {
      const Layer layer = random_int8(random, pick(random, 1, 200), k, extreme);
      const SplitLayer split(layer, stream);
      const CudaGemmDesc desc = split.desc(CudaOutput::kInt32);
      ASSERT_TRUE(is_ok(can_implement(desc, device_)));
      const DeviceBuffer<std::uint8_t> weights(packed_weight_bytes(desc));
      ASSERT_TRUE(is_ok(pack_weights(desc, split.source(), weights.data(), stream)));
      const Layer expected = padded(layer, split.n());
      for (const std::int64_t m : {std::int64_t{1}, std::int64_t{3}, pick(random, 4, 300)}) {
        SCOPED_TRACE("M " + std::to_string(m) + ", N " + std::to_string(layer.n) + ", K " +
                     std::to_string(k));
        const Tokens tokens = random_tokens(random, m, k, extreme != Extreme::kNone);
        const DeviceBuffer<std::int8_t> x8(stacked_bytes(tokens));
        stack(random, tokens, x8, stream);
        const DeviceBuffer<float> scale(tokens.scale);
        const DeviceBuffer<std::int32_t> sum(tokens.sum);
        Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, m, device_);
        ASSERT_TRUE(is_ok(plan.status()));
        const DeviceBuffer<std::uint8_t> workspace(
            std::max<std::size_t>(plan->workspace_bytes(), 1));
        workspace.fill(0);
        const DeviceOutput output(desc, m, pick(random, 0, 1));
        CudaGemmArguments arguments;
        arguments.weights = weights.data();
        arguments.x8 = x8.data();
        arguments.ld_x = split.k();
        arguments.x_scale = scale.data();
        arguments.x_sum = sum.data();
        arguments.workspace = workspace.data();
        output.set(arguments);
        ASSERT_TRUE(is_ok(plan->launch(arguments, stream)));
        stream.wait();
        std::vector<std::int32_t> sums(static_cast<std::size_t>(m * split.n()));
        reference_accumulate(expected.view(), tokens.view(), sums.data());
        ASSERT_TRUE(output.equals({sums.begin(), sums.end()}));
      }
    }
  }
}

TEST_F(Int8Weights, RefusesWhatItCannotDo) {
  Random random(fresh_seed());
  const Stream stream;
  const SplitLayer split(random_int8(random, 9, 70), stream);
  using Weights = cuda::Int8WeightArguments;
  const auto code_of = [&](const std::function<void(Weights&)>& spoil) {
    Weights arguments = split.arguments();
    spoil(arguments);
    return cuda::split_int8_weights(arguments, stream).code();
  };
  constexpr StatusCode kInvalid = StatusCode::kInvalidArgument;
  EXPECT_EQ(code_of([](Weights& a) { a.k = 0; }), kInvalid);
  EXPECT_EQ(code_of([](Weights& a) { a.k = 33'153; }), StatusCode::kUnsupported);
  EXPECT_EQ(code_of([](Weights& a) { a.k = std::numeric_limits<std::int64_t>::max(); }),
            StatusCode::kUnsupported);
  EXPECT_EQ(code_of([](Weights& a) { a.n = 8; }), kInvalid);
  EXPECT_EQ(code_of([](Weights& a) { a.weight_rows = 0; }), kInvalid);
  EXPECT_EQ(code_of([](Weights& a) { a.weight = nullptr; }), kInvalid);
  EXPECT_EQ(code_of([](Weights& a) { a.channel_scale = nullptr; }), kInvalid);
  EXPECT_EQ(code_of([](Weights& a) { a.packed += 1; }), kInvalid);

  const DeviceBuffer<std::int8_t> x8(2 * 70);
  const DeviceBuffer<std::int8_t> out(static_cast<std::size_t>(2 * cuda::int8_stacked_k(70)));
  cuda::Int8ActivationArguments good;
  good.x8 = x8.data();
  good.ld = 70;
  good.m = 2;
  good.k = 70;
  good.out = out.data();
  using Rows = cuda::Int8ActivationArguments;
  const auto refused = [&](const std::function<void(Rows&)>& spoil) {
    Rows arguments = good;
    spoil(arguments);
    return cuda::stack_int8_rows(arguments, stream).code() == kInvalid;
  };
  EXPECT_TRUE(refused([](Rows& a) { a.ld = 69; }));
  EXPECT_TRUE(refused([](Rows& a) { a.m = 0; }));
  EXPECT_TRUE(refused([](Rows& a) { a.k = 0; }));
  EXPECT_TRUE(refused([](Rows& a) { a.x8 = nullptr; }));
  EXPECT_TRUE(refused([](Rows& a) { a.out += 8; }));
}

}  // namespace
}  // namespace liquidgemm::testing
