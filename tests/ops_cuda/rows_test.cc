// Embedding, norm with rotation and cache write, and row gathering on the GPU, against the CPU's
// operations bit for bit.
#include "ops/cuda/rows.h"

#include <functional>

#include "gemm_cuda/gemm_harness.h"
#include "gemm_cuda/graph.h"
#include "norm_rope_harness.h"
#include "ops_cuda/kv4_differences.h"

namespace liquidgemm::testing {
namespace {

using cuda::KvElement;
using cuda::testing::kElements;

class CudaRows : public CudaTest {};

// ---- Embedding ---------------------------------------------------------------------------------

TEST_F(CudaRows, EmbeddingsAreThoseOfTheCpu) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t hidden : {8, 64, 72, 576, 1016, 1024, 1032, 4096}) {
    const std::int64_t vocab = pick(random, 1, 300);
    const std::int64_t rows = pick(random, 1, 40);
    SCOPED_TRACE("hidden " + std::to_string(hidden) + ", vocabulary " + std::to_string(vocab) +
                 ", rows " + std::to_string(rows));
    const Layer layer = random_int8(random, vocab, hidden);
    auto linear = make_linear(layer.view(), best_isa(), test_pool());
    ASSERT_TRUE(is_ok(linear.status()));

    const std::int64_t ld_table = hidden + 8 * pick(random, 0, 2);
    std::vector<std::int8_t> padded(static_cast<std::size_t>(vocab * ld_table), 99);
    for (std::int64_t token = 0; token < vocab; ++token) {
      std::copy_n(layer.int8.data() + token * hidden, hidden, padded.data() + token * ld_table);
    }
    std::vector<std::int32_t> tokens;
    for (std::int64_t row = 0; row < rows; ++row) {
      tokens.push_back(static_cast<std::int32_t>(pick(random, 0, vocab - 1)));
    }
    if (rows > 3) {
      tokens[0] = -1;
      tokens[1] = static_cast<std::int32_t>(vocab);
      tokens[2] = std::numeric_limits<std::int32_t>::max();
      tokens[3] = std::numeric_limits<std::int32_t>::min();
    }
    const DeviceBuffer<std::int8_t> table(padded);
    const DeviceBuffer<float> scale(layer.channel_scale);
    const DeviceBuffer<std::int32_t> device_tokens(tokens);
    const std::int64_t ld_out = hidden + 4 * pick(random, 0, 2);
    const DeviceBuffer<float> out(static_cast<std::size_t>(rows * ld_out));
    cuda::EmbedArguments arguments;
    arguments.table = table.data();
    arguments.ld_table = ld_table;
    arguments.scale = scale.data();
    arguments.vocab = vocab;
    arguments.tokens = device_tokens.data();
    arguments.rows = rows;
    arguments.hidden = hidden;
    arguments.out = out.data();
    arguments.ld_out = ld_out;
    ASSERT_TRUE(is_ok(cuda::embed_rows(arguments, stream)));
    stream.wait();

    const std::vector<float> found = out.download();
    std::vector<float> expected(static_cast<std::size_t>(hidden));
    for (std::int64_t row = 0; row < rows; ++row) {
      std::fill(expected.begin(), expected.end(), std::numeric_limits<float>::quiet_NaN());
      if (tokens[row] >= 0 && tokens[row] < vocab) {
        (*linear)->weight_row(tokens[row], expected.data());
      }
      for (std::int64_t i = 0; i < ld_out; ++i) {
        const float want = i < hidden ? expected[i] : poison_value<float>();
        ASSERT_TRUE(same_float(found[row * ld_out + i], want))
            << "row " << row << " column " << i << ": " << found[row * ld_out + i] << ", expected "
            << want;
      }
    }
    ASSERT_TRUE(out.guards_intact());
  }
}

// ---- Norm, rotation, cache ---------------------------------------------------------------------

TEST_F(CudaRows, QueriesKeysAndValuesAreThoseOfTheCpu) {
  Random random(fresh_seed());
  const Stream stream;
  for (const KvElement element : kElements) {
    for (const int head_dim : {8, 16, 24, 64, 72, 80, 96, 120, 128}) {
      for (int turn = 0; turn < 4; ++turn) {
        NormRopeShape shape;
        shape.element = element;
        shape.head_dim = head_dim;
        shape.kv_heads = static_cast<int>(pick(random, 1, 9));
        shape.heads = shape.kv_heads * static_cast<int>(pick(random, 1, 7));
        shape.rows = turn == 0 ? 1 : pick(random, 2, 60);
        shape.q_norm = turn % 2 == 1;
        shape.k_norm = turn % 2 == 1 || random() % 4 == 0;
        SCOPED_TRACE(shape.describe());
        const NormRopeStep step(random, shape);
        ASSERT_TRUE(is_ok(cuda::norm_rope_cache(step.arguments(), stream)));
        stream.wait();
        ASSERT_TRUE(step.matches_the_cpu());
      }
    }
  }
}

TEST_F(CudaRows, QuotientsOfEveryStepAreTheContracts) {
  const Stream stream;
  const DeviceBuffer<unsigned long long> differences(std::vector<unsigned long long>{0});
  CHECK_CUDA(cuda::testing::count_kv4_differences(fresh_seed(), differences.data(), stream));
  stream.wait();
  EXPECT_EQ(differences.download().front(), 0u);
}

TEST_F(CudaRows, AGraphTakesThePositionsOfTheMoment) {
  Random random(fresh_seed());
  const Stream stream;
  for (const KvElement element : kElements) {
    NormRopeShape shape;
    shape.element = element;
    shape.head_dim = 128;
    shape.heads = 12;
    shape.kv_heads = 4;
    shape.rows = 37;
    shape.q_norm = shape.k_norm = true;
    NormRopeStep step(random, shape);
    const Graph graph(stream, [&] { return cuda::norm_rope_cache(step.arguments(), stream); });
    for (int replay = 0; replay < 3; ++replay) {
      SCOPED_TRACE(replay);
      step.renew(random);
      graph.replay(stream);
      stream.wait();
      ASSERT_TRUE(step.matches_the_cpu());
    }
  }
}

TEST_F(CudaRows, NormRopeCacheRefusesWhatItCannotDo) {
  Random random(fresh_seed());
  const Stream stream;
  NormRopeShape shape;
  shape.element = KvElement::kInt4;
  shape.head_dim = 64;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.rows = 3;
  shape.q_norm = true;
  const NormRopeStep step(random, shape);
  using Arguments = cuda::NormRopeCacheArguments;
  const auto code_of = [&](const std::function<void(Arguments&)>& spoil) {
    Arguments arguments = step.arguments();
    spoil(arguments);
    return cuda::norm_rope_cache(arguments, stream).code();
  };
  constexpr StatusCode kInvalid = StatusCode::kInvalidArgument;
  EXPECT_EQ(code_of([](Arguments&) {}), StatusCode::kOk);
  for (const int head_dim : {0, -8, 4, 60, 136}) {
    EXPECT_EQ(code_of([&](Arguments& a) { a.head_dim = head_dim; }), StatusCode::kUnsupported);
  }
  EXPECT_EQ(code_of([](Arguments& a) { a.head_dim = 128; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.rows = 0; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.heads = 0; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.shape.kv_heads = 0; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.layer = NormRopeStep::kLayers; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.layer = -1; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.ld_qkv = 64; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.ld_qkv += 1; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.qkv += 1; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.q_norm += 1; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.epsilon = -1.0f; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.epsilon = std::nanf(""); }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.cos = nullptr; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.positions = nullptr; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.pages_of_rows = nullptr; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.pages += 8; }), kInvalid);
  EXPECT_EQ(code_of([](Arguments& a) { a.q = nullptr; }), kInvalid);
  stream.wait();
}

// ---- Gathering ---------------------------------------------------------------------------------

// [rows, width] in rows of ld floats.
struct GatherBuffers {
  GatherBuffers(Random& random, std::int64_t from_rows, std::int64_t rows, std::int64_t width)
      : width(width),
        ld_from(width + 4 * pick(random, 0, 2)),
        ld_to(width + 4 * pick(random, 0, 2)),
        values(random_floats(random, from_rows * ld_from)),
        from(values),
        to(static_cast<std::size_t>(rows * ld_to)) {}

  cuda::GatherMatrix view() const { return {from.data(), ld_from, to.data(), ld_to}; }

  void expect_rows(const std::vector<std::int32_t>& index) const {
    const std::vector<float> found = to.download();
    for (std::size_t row = 0; row < index.size(); ++row) {
      for (std::int64_t i = 0; i < ld_to; ++i) {
        const float want = i < width ? values[index[row] * ld_from + i] : poison_value<float>();
        ASSERT_TRUE(same_float(found[row * ld_to + i], want)) << "row " << row << " column " << i;
      }
    }
    ASSERT_TRUE(to.guards_intact());
    ASSERT_TRUE(from.guards_intact());
  }

  std::int64_t width, ld_from, ld_to;
  std::vector<float> values;
  DeviceBuffer<float> from, to;
};

TEST_F(CudaRows, GathersRows) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t width : {4, 64, 72, 508, 512, 516, 4096}) {
    for (const bool both : {false, true}) {
      const std::int64_t from_rows = pick(random, 1, 60);
      const std::int64_t rows = pick(random, 1, 60);
      SCOPED_TRACE("width " + std::to_string(width) + ", rows " + std::to_string(rows));
      std::vector<std::int32_t> index;
      for (std::int64_t row = 0; row < rows; ++row) {
        index.push_back(static_cast<std::int32_t>(pick(random, 0, from_rows - 1)));
      }
      const GatherBuffers first(random, from_rows, rows, width);
      const GatherBuffers second(random, from_rows, rows, width);
      const DeviceBuffer<std::int32_t> device_index(index);
      cuda::GatherArguments arguments;
      arguments.index = device_index.data();
      arguments.rows = rows;
      arguments.width = width;
      arguments.first = first.view();
      if (both) arguments.second = second.view();
      ASSERT_TRUE(is_ok(cuda::gather_rows(arguments, stream)));
      stream.wait();
      first.expect_rows(index);
      if (both) second.expect_rows(index);
    }
  }
}

TEST_F(CudaRows, EmbedAndGatherRefuseWhatTheyCannotDo) {
  const Stream stream;
  const DeviceBuffer<std::int8_t> table(64);
  const DeviceBuffer<float> floats(64);
  const DeviceBuffer<std::int32_t> integers(4);
  cuda::EmbedArguments embed;
  embed.table = table.data();
  embed.ld_table = embed.hidden = 16;
  embed.scale = floats.data();
  embed.vocab = 4;
  embed.tokens = integers.data();
  embed.rows = 1;
  embed.out = floats.data();
  embed.ld_out = 16;
  const auto embed_refused = [&](const std::function<void(cuda::EmbedArguments&)>& spoil) {
    cuda::EmbedArguments arguments = embed;
    spoil(arguments);
    return cuda::embed_rows(arguments, stream).code() == StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(embed_refused([](auto& a) { a.hidden = 12; }));
  EXPECT_TRUE(embed_refused([](auto& a) { a.hidden = 24; }));
  EXPECT_TRUE(embed_refused([](auto& a) { a.ld_table = 20; }));
  EXPECT_TRUE(embed_refused([](auto& a) { a.rows = 0; }));
  EXPECT_TRUE(embed_refused([](auto& a) { a.tokens = nullptr; }));
  EXPECT_TRUE(embed_refused([](auto& a) { a.scale = nullptr; }));
  EXPECT_TRUE(embed_refused([](auto& a) { a.out += 1; }));

  cuda::GatherArguments gather;
  gather.index = integers.data();
  gather.rows = 1;
  gather.width = 8;
  gather.first = {floats.data(), 8, floats.data() + 32, 8};
  gather.second = gather.first;
  const auto gather_refused = [&](const std::function<void(cuda::GatherArguments&)>& spoil) {
    cuda::GatherArguments arguments = gather;
    spoil(arguments);
    return cuda::gather_rows(arguments, stream).code() == StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(gather_refused([](auto& a) { a.width = 6; }));
  EXPECT_TRUE(gather_refused([](auto& a) { a.rows = -1; }));
  EXPECT_TRUE(gather_refused([](auto& a) { a.index = nullptr; }));
  EXPECT_TRUE(gather_refused([](auto& a) { a.first.from = nullptr; }));
  EXPECT_TRUE(gather_refused([](auto& a) { a.second.to = nullptr; }));
  EXPECT_TRUE(gather_refused([](auto& a) { a.second.ld_from = 4; }));
}

}  // namespace
}  // namespace liquidgemm::testing
