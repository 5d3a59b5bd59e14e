// Every linear layer of a model, as the GPU's backend loads it, against the CPU's: the same INT8
// rows in, the same floats out, bit for bit, for any number of tokens.

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "fresh_seed.h"
#include "gemm_cuda/cuda_fixture.h"
#include "model/checkpoint/model_source.h"
#include "model/cuda/cuda_quantized_linear.h"
#include "model/quantizer.h"
#include "model/weights.h"
#include "ops/cpu/ops.h"
#include "smollm2_path.h"

namespace liquidgemm::testing {
namespace {

constexpr std::int64_t kCounts[] = {1, 8, 33, 64, 257};
constexpr std::int64_t kRows = 257;
constexpr const char* kSmolLm2 = "SmolLM2-135M";

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// Quantised rows; the first are as far out as rows can be.
struct Rows {
  std::int64_t k, ld;
  std::vector<std::int8_t> x8;
  std::vector<float> scale;
  std::vector<std::int32_t> sum;

  Rows(Random& random, std::int64_t width) : k(width), ld(round_up(width, 16)) {
    x8.assign(static_cast<std::size_t>(kRows * ld), 0);
    for (std::int64_t row = 0; row < kRows; ++row) {
      std::int32_t total = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        const auto drawn = static_cast<std::int8_t>(pick(random, -127, 127));
        const std::int8_t value = row == 1 ? 127 : row == 2 ? -127 : row == 3 ? 0 : drawn;
        x8[static_cast<std::size_t>(row * ld + i)] = value;
        total += value;
      }
      sum.push_back(total);
      scale.push_back(std::ldexp(1.0f + static_cast<float>(random() % 8192) / 8192.0f,
                                 static_cast<int>(pick(random, -12, 2))));
    }
  }
};

class LinearLayers : public CudaTest, public ::testing::WithParamInterface<std::string> {
 protected:
  // All parts on the CPU, one by one, side by side: [kRows, width].
  std::vector<float> on_cpu(const std::vector<LoadedMatrix>& parts, const Rows& rows,
                            std::int64_t width) {
    std::vector<float> out(static_cast<std::size_t>(kRows * width));
    std::int64_t column = 0;
    for (const LoadedMatrix& part : parts) {
      const auto linear = make_linear(part.view(), best_isa(), pool_);
      EXPECT_TRUE(is_ok(linear.status()));
      if (!linear.ok()) return out;
      (*linear)->run({.m = kRows,
                      .k = rows.k,
                      .x8 = rows.x8.data(),
                      .ld = rows.ld,
                      .scale = rows.scale.data(),
                      .sum = rows.sum.data()},
                     part.bias.empty() ? nullptr : part.bias.data(), out.data() + column, width,
                     pool_);
      column += part.n;
    }
    return out;
  }

  // SiLU(gate) * up of rows of `width` gates, then ups.
  static std::vector<float> activated(const std::vector<float>& gate_up, std::int64_t width) {
    std::vector<float> out(static_cast<std::size_t>(kRows * width));
    for (std::int64_t row = 0; row < kRows; ++row) {
      const float* gates = gate_up.data() + row * 2 * width;
      cpu_ops(best_isa()).silu_multiply(gates, gates + width, out.data() + row * width, width);
    }
    return out;
  }

  // `gated`: of a gate and its up SiLU(gate) * up is compared.
  void compare(const std::vector<LoadedMatrix>& parts, bool gated, Random& random) {
    const std::string& name = parts.front().name;
    const Rows rows(random, parts.front().k);
    std::int64_t width = 0;
    for (const LoadedMatrix& part : parts) width += part.n;
    std::vector<float> expected = on_cpu(parts, rows, width);
    if (gated) {
      width /= 2;
      expected = activated(expected, width);
    }

    auto made = CudaQuantizedLinear::make(parts, gated, device_, *stream_);
    ASSERT_TRUE(is_ok(made.status())) << name;
    CudaLinear& linear = **made;
    forms_.insert(linear.describe());
    const DeviceBuffer<std::int8_t> x8(rows.x8);
    const DeviceBuffer<float> scale(rows.scale);
    const DeviceBuffer<std::int32_t> sum(rows.sum);
    for (const std::int64_t m : kCounts) {
      const auto bytes = linear.workspace_bytes(m);
      ASSERT_TRUE(is_ok(bytes.status())) << name;
      // Launches leave it as they found it.
      if (!workspace_ || workspace_->bytes() < *bytes) {
        workspace_ = std::make_unique<DeviceBuffer<std::uint8_t>>(std::max<std::size_t>(*bytes, 1));
        workspace_->fill(0);
      }
      const DeviceBuffer<float> y(static_cast<std::size_t>(m * linear.width()));
      ASSERT_TRUE(is_ok(linear.run(
          {.m = m, .x8 = x8.data(), .ld = rows.ld, .scale = scale.data(), .sum = sum.data()},
          {y.data()}, workspace_->data(), *stream_)));
      stream_->wait();
      const std::vector<float> got = y.download();
      for (std::int64_t row = 0; row < m; ++row) {
        ASSERT_EQ(std::memcmp(expected.data() + row * width, got.data() + row * linear.width(),
                              static_cast<std::size_t>(width) * sizeof(float)),
                  0)
            << name << ", row " << row << " of " << m;
      }
      ASSERT_TRUE(y.guards_intact()) << name;
      ASSERT_TRUE(workspace_->guards_intact()) << name;
    }
    ++compared_;
  }

  ThreadPool pool_{0};
  std::optional<Stream> stream_;  // where there is a GPU
  std::unique_ptr<DeviceBuffer<std::uint8_t>> workspace_;
  std::set<std::string> forms_;
  int compared_ = 0;
};

TEST_P(LinearLayers, GiveTheCpusFloats) {
  const bool real = GetParam() == kSmolLm2;
  const std::string path =
      real ? smollm2_path() : std::string(LIQUIDGEMM_TEST_DATA) + "/model/" + GetParam();
  if (real && !std::filesystem::exists(path)) {
    GTEST_SKIP() << "needs " << path
                 << ": scripts/demo.sh downloads it; LIQUIDGEMM_SMOLLM2 names "
                    "another file, or a folder that `liquid quantize` has made of it";
  }
  stream_.emplace();
  Random random(fresh_seed());
  const auto source = open_model_source(path);
  ASSERT_TRUE(is_ok(source.status()));
  const ModelGraph graph = build_graph(source->config);
  std::vector<Precision> precisions{Precision::kW4A8};
  if (!real && !source->config.quantization) precisions.push_back(Precision::kW8A8);
  for (const Precision precision : precisions) {
    auto weights = WeightLoader::create(*source, precision, default_group_size(source->config),
                                        StepRule::kSearch, pool_);
    ASSERT_TRUE(is_ok(weights.status()));
    for (const DecoderLayer& layer : graph.layers) {
      for (const LinearGroup* group : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
        const auto parts = weights->linear_group(*group);
        ASSERT_TRUE(is_ok(parts.status()));
        compare(*parts, group == &layer.gate_up, random);
        if (HasFatalFailure()) return;
      }
    }
    auto head = weights->table(graph.lm_head, graph.config.vocab_size, graph.config.hidden_size);
    ASSERT_TRUE(is_ok(head.status()));
    std::vector<LoadedMatrix> parts;
    parts.push_back(std::move(*head));
    compare(parts, false, random);
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(compared_, static_cast<int>(precisions.size() * (4 * graph.layers.size() + 1)));
  std::string forms;
  for (const std::string& form : forms_) forms += (forms.empty() ? "" : "; ") + form;
  std::printf("%s: %d groups of linear layers (%s)\n", GetParam().c_str(), compared_,
              forms.c_str());
}

INSTANTIATE_TEST_SUITE_P(Models, LinearLayers,
                         ::testing::Values("llama3", "llama31", "llama-bias", "llama-mixed.gguf",
                                           "llama3-w4a8", "qwen25", "qwen3", "smollm2",
                                           "smollm2-odd", kSmolLm2),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '-' || c == '.') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace liquidgemm::testing
