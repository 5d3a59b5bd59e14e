// How a caller uses the Hopper GEMM: many launches, two streams, graphs, programmatic launch, plans
// by their schedule string; and what is refused.
#include <array>
#include <functional>

#include "gemm_cuda/graph.h"
#include "gemm_harness.h"

namespace liquidgemm::testing {
namespace {

class CudaGemmUsage : public CudaTest {
 protected:
  CudaGemmPlan make(const CudaGemmDesc& desc, std::int64_t m) const {
    Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, m, device_);
    if (!plan.ok()) throw std::runtime_error(plan.status().to_string());
    return std::move(*plan);
  }
};

TEST_F(CudaGemmUsage, AHundredLaunchesAreIdentical) {
  Random random(fresh_seed());
  const Stream stream;
  // Few rows and a long K, where K is split; and many tiles.
  for (const auto& [n, k, m] : {std::array<std::int64_t, 3>{264, 8224, 5}, {2056, 1056, 200}}) {
    const TestLayer layer(random, random_liquid4(random, n, k, 64), false, stream);
    const Tokens tokens = random_tokens(random, m, k);
    const CudaGemmDesc desc = layer.desc(CudaOutput::kBFloat16, true);
    const CudaGemmPlan plan = make(desc, m);
    const DeviceTokens device_tokens(random, tokens);
    const DeviceOutput output(desc, m, 1);
    const Workspace workspace(plan);
    CudaGemmArguments arguments;
    layer.set(arguments, true);
    device_tokens.set(arguments);
    output.set(arguments);
    workspace.set(arguments);
    ASSERT_TRUE(is_ok(plan.launch(arguments, stream)));
    ASSERT_TRUE(output.equals(layer.expected(desc, tokens, layer.sums(tokens))));
    const std::vector<std::uint8_t> first = output.download();
    for (int i = 0; i < 100; ++i) {
      output.poison();
      ASSERT_TRUE(is_ok(plan.launch(arguments, stream)));
      ASSERT_EQ(output.download(), first) << "launch " << i;
    }
  }
}

// Launches without a pause between them, all on one workspace.
TEST_F(CudaGemmUsage, LaunchesInARowShareAWorkspace) {
  Random random(fresh_seed());
  const Stream stream;
  const TestLayer layer(random, random_liquid4(random, 392, 4128, 128), false, stream);
  const Tokens tokens = random_tokens(random, 12, layer.k());
  const CudaGemmDesc desc = layer.desc(CudaOutput::kInt32, false);
  const CudaGemmPlan plan = make(desc, tokens.m);
  const DeviceTokens device_tokens(random, tokens);
  const Workspace workspace(plan);
  const auto expected = layer.expected(desc, tokens, layer.sums(tokens));
  std::vector<std::unique_ptr<DeviceOutput>> outputs;
  for (int i = 0; i < 50; ++i) outputs.push_back(std::make_unique<DeviceOutput>(desc, tokens.m, 1));
  for (const auto& output : outputs) {
    CudaGemmArguments arguments;
    layer.set(arguments, false);
    device_tokens.set(arguments);
    output->set(arguments);
    workspace.set(arguments);
    ASSERT_TRUE(is_ok(plan.launch(arguments, stream)));
  }
  for (const auto& output : outputs) ASSERT_TRUE(output->equals(expected));
}

TEST_F(CudaGemmUsage, TwoStreamsWithTwoWorkspaces) {
  Random random(fresh_seed());
  const Stream streams[2];
  const TestLayer layer(random, random_liquid4(random, 520, 4128, 64), false, streams[0]);
  const CudaGemmDesc desc = layer.desc(CudaOutput::kFloat16, false);
  struct Side {
    Tokens tokens;
    CudaGemmPlan plan;
    std::unique_ptr<DeviceTokens> device_tokens;
    std::unique_ptr<Workspace> workspace;
    std::vector<std::unique_ptr<DeviceOutput>> outputs;
  };
  Side sides[2];
  for (int i = 0; i < 2; ++i) {
    Side& side = sides[i];
    side.tokens = random_tokens(random, i == 0 ? 9 : 40, layer.k());
    side.plan = make(desc, side.tokens.m);
    side.device_tokens = std::make_unique<DeviceTokens>(random, side.tokens);
    side.workspace = std::make_unique<Workspace>(side.plan);
    for (int launch = 0; launch < 40; ++launch) {
      side.outputs.push_back(std::make_unique<DeviceOutput>(desc, side.tokens.m, 0));
    }
  }
  for (std::size_t launch = 0; launch < sides[0].outputs.size(); ++launch) {
    for (int i = 0; i < 2; ++i) {
      CudaGemmArguments arguments;
      layer.set(arguments, false);
      sides[i].device_tokens->set(arguments);
      sides[i].workspace->set(arguments);
      sides[i].outputs[launch]->set(arguments);
      ASSERT_TRUE(is_ok(sides[i].plan.launch(arguments, streams[i])));
    }
  }
  for (const Side& side : sides) {
    const auto expected = layer.expected(desc, side.tokens, layer.sums(side.tokens));
    for (const auto& output : side.outputs) ASSERT_TRUE(output->equals(expected));
    EXPECT_TRUE(side.workspace->guards_intact());
  }
}

// Quantise and multiply, as the engine does: rows in, outputs out, on one stream.
class Chain {
 public:
  Chain(const TestLayer& layer, const CudaGemmDesc& desc, std::int64_t m, const CudaGemmPlan& plan)
      : layer_(layer),
        desc_(desc),
        m_(m),
        plan_(plan),
        x_(static_cast<std::size_t>(m * layer.k())),
        x8_(static_cast<std::size_t>(m * layer.k())),
        scale_(static_cast<std::size_t>(m)),
        sum_(static_cast<std::size_t>(m)),
        output_(desc, m, 1),
        workspace_(plan) {}

  std::vector<float> random_rows(Random& random) const {
    return random_floats(random, m_ * layer_.k());
  }
  void upload(const std::vector<float>& rows) const { x_.upload(rows); }
  // From other device memory, in the stream's order.
  void copy(const DeviceBuffer<float>& rows, cudaStream_t stream) const {
    CHECK_CUDA(
        cudaMemcpyAsync(x_.data(), rows.data(), x_.bytes(), cudaMemcpyDeviceToDevice, stream));
  }

  Status run(bool programmatic, const DeviceOutput& output, cudaStream_t stream) const {
    CudaQuantizeArguments quantize;
    quantize.x = x_.data();
    quantize.ld_x = layer_.k();
    quantize.type = CudaFloat::kFloat32;
    quantize.m = m_;
    quantize.k = layer_.k();
    quantize.x8 = x8_.data();
    quantize.ld_x8 = layer_.k();
    quantize.scale = scale_.data();
    quantize.sum = sum_.data();
    if (Status status = quantize_rows(quantize, stream); !status.ok()) return status;
    CudaGemmArguments arguments;
    layer_.set(arguments, desc_.bias);
    arguments.x8 = x8_.data();
    arguments.ld_x = layer_.k();
    arguments.x_scale = scale_.data();
    arguments.x_sum = sum_.data();
    output.set(arguments);
    workspace_.set(arguments);
    arguments.programmatic_launch = programmatic;
    return plan_.launch(arguments, stream);
  }
  Status run(bool programmatic, cudaStream_t stream) const {
    return run(programmatic, output_, stream);
  }
  const DeviceOutput& output() const { return output_; }

  std::vector<std::uint32_t> expected(const std::vector<float>& rows) const {
    Tokens tokens;
    tokens.m = m_;
    tokens.k = tokens.ld = layer_.k();
    tokens.x8.resize(rows.size());
    tokens.scale.resize(static_cast<std::size_t>(m_));
    tokens.sum.resize(static_cast<std::size_t>(m_));
    for (std::int64_t row = 0; row < m_; ++row) {
      const std::int64_t at = row * tokens.k;
      reference_quantize_row(rows.data() + at, tokens.k, tokens.x8.data() + at, &tokens.scale[row],
                             &tokens.sum[row]);
    }
    return layer_.expected(desc_, tokens, layer_.sums(tokens));
  }

 private:
  const TestLayer& layer_;
  CudaGemmDesc desc_;
  std::int64_t m_;
  const CudaGemmPlan& plan_;
  DeviceBuffer<float> x_;
  DeviceBuffer<std::int8_t> x8_;
  DeviceBuffer<float> scale_;
  DeviceBuffer<std::int32_t> sum_;
  DeviceOutput output_;
  Workspace workspace_;
};

TEST_F(CudaGemmUsage, AGraphReplaysWithNewRows) {
  Random random(fresh_seed());
  const Stream stream;
  for (const bool programmatic : {false, true}) {
    const TestLayer layer(random, random_liquid4(random, 272, 2080, 64), true, stream);
    const CudaGemmDesc desc = layer.desc(CudaOutput::kFloat16, true);
    const CudaGemmPlan plan = make(desc, 21);
    const Chain chain(layer, desc, 21, plan);
    const Graph graph(stream, [&] { return chain.run(programmatic, stream); });
    for (int replay = 0; replay < 5; ++replay) {
      const std::vector<float> rows = chain.random_rows(random);
      chain.upload(rows);
      chain.output().poison();
      graph.replay(stream);
      stream.wait();
      EXPECT_TRUE(chain.output().equals(chain.expected(rows)))
          << "replay " << replay << (programmatic ? ", programmatic" : "");
    }
  }
}

// The GEMM may start early, but never reads rows that the quantiser has yet to write.
TEST_F(CudaGemmUsage, ProgrammaticLaunchWaitsForTheRows) {
  Random random(fresh_seed());
  const Stream stream;
  for (const std::int64_t m : {1, 16, 150}) {
    const TestLayer layer(random, random_liquid4(random, 520, 4096, 64), false, stream);
    const CudaGemmDesc desc = layer.desc(CudaOutput::kBFloat16, false);
    const CudaGemmPlan plan = make(desc, m);
    const Chain chain(layer, desc, m, plan);
    constexpr int kSteps = 20;
    std::vector<std::vector<float>> rows;
    std::vector<std::unique_ptr<DeviceBuffer<float>>> device_rows;
    std::vector<std::unique_ptr<DeviceOutput>> outputs;
    for (int i = 0; i < kSteps; ++i) {
      rows.push_back(chain.random_rows(random));
      device_rows.push_back(std::make_unique<DeviceBuffer<float>>(rows.back()));
      outputs.push_back(std::make_unique<DeviceOutput>(desc, m, 0));
    }
    for (int i = 0; i < kSteps; ++i) {
      chain.copy(*device_rows[i], stream);
      ASSERT_TRUE(is_ok(chain.run(true, *outputs[i], stream)));
    }
    for (int i = 0; i < kSteps; ++i) {
      ASSERT_TRUE(outputs[i]->equals(chain.expected(rows[i]))) << "M " << m << ", step " << i;
    }
  }
}

TEST_F(CudaGemmUsage, APlanComesBackFromItsSchedule) {
  for (const std::int64_t m : {1, 8, 40, 128, 1000, 4096}) {
    for (const bool gated : {false, true}) {
      CudaGemmDesc desc;
      desc.n = 4096;
      desc.k = 4096;
      desc.gated = gated;
      const CudaGemmPlan plan = make(desc, m);
      EXPECT_FALSE(plan.schedule().empty());
      EXPECT_NE(plan.describe().find(plan.schedule()), std::string::npos) << plan.describe();
      const Result<CudaGemmPlan> again = CudaGemmPlan::make(desc, m, device_, plan.schedule());
      ASSERT_TRUE(is_ok(again.status()));
      EXPECT_EQ(again->describe(), plan.describe());
      EXPECT_EQ(again->workspace_bytes(), plan.workspace_bytes());
    }
  }
}

// Two plans may run the same kernel with rings of different length.
TEST_F(CudaGemmUsage, PlansOfOneKernelDoNotDisturbEachOther) {
  Random random(fresh_seed());
  const Stream stream;
  const TestLayer layer(random, random_liquid4(random, 520, 4128, 64), false, stream);
  const Tokens tokens = random_tokens(random, 16, layer.k());
  const CudaGemmDesc desc = layer.desc(CudaOutput::kFloat16, false);
  const DeviceTokens device_tokens(random, tokens);
  const auto expected = layer.expected(desc, tokens, layer.sums(tokens));
  std::vector<CudaGemmPlan> plans;
  for (const char* stages : {"10", "3", "7"}) {
    auto plan = CudaGemmPlan::make(desc, tokens.m, device_,
                                   std::string("tokens=16,groups=4,stages=") + stages);
    ASSERT_TRUE(is_ok(plan.status()));
    plans.push_back(std::move(*plan));
  }
  for (const CudaGemmPlan& plan : plans) {
    const DeviceOutput output(desc, tokens.m, 1);
    const Workspace workspace(plan);
    CudaGemmArguments arguments;
    layer.set(arguments, false);
    device_tokens.set(arguments);
    output.set(arguments);
    workspace.set(arguments);
    ASSERT_TRUE(is_ok(plan.launch(arguments, stream))) << plan.describe();
    ASSERT_TRUE(output.equals(expected)) << plan.describe();
  }
}

// What one plan leaves in a workspace is no flag for another.
TEST_F(CudaGemmUsage, PlansTakeTurnsWithOneWorkspace) {
  Random random(fresh_seed());
  const Stream stream;
  const TestLayer layer(random, random_liquid4(random, 2056, 4128, 64), false, stream);
  const Tokens tokens = random_tokens(random, 16, layer.k());
  const CudaGemmDesc desc = layer.desc(CudaOutput::kFloat16, false);
  const DeviceTokens device_tokens(random, tokens);
  const auto expected = layer.expected(desc, tokens, layer.sums(tokens));
  std::vector<CudaGemmPlan> plans;
  std::size_t bytes = 0;
  for (const char* schedule :
       {"tokens=8,groups=4,stream=1,workers=5", "tokens=16,groups=4,stream=1",
        "tokens=64,groups=3,stream=1", "tokens=16,groups=4,stream=1,multicast=2",
        "tokens=128,groups=2,stream=1,workers=7"}) {
    auto plan = CudaGemmPlan::make(desc, tokens.m, device_, schedule);
    ASSERT_TRUE(is_ok(plan.status()));
    EXPECT_GT(plan->workspace_bytes(), 0u) << schedule;
    bytes = std::max(bytes, plan->workspace_bytes());
    plans.push_back(std::move(*plan));
  }
  const DeviceBuffer<std::uint8_t> workspace(bytes);
  workspace.fill(0);
  for (int i = 0; i < 40; ++i) {
    const CudaGemmPlan& plan = plans[static_cast<std::size_t>(pick(random, 0, 4))];
    const DeviceOutput output(desc, tokens.m, 1);
    CudaGemmArguments arguments;
    layer.set(arguments, false);
    device_tokens.set(arguments);
    output.set(arguments);
    arguments.workspace = workspace.data();
    ASSERT_TRUE(is_ok(plan.launch(arguments, stream))) << plan.describe();
    ASSERT_TRUE(output.equals(expected)) << plan.describe();
  }
}

TEST_F(CudaGemmUsage, RefusesBadSchedules) {
  CudaGemmDesc desc;
  desc.n = 1024;
  desc.k = 1024;
  const std::string good = make(desc, 16).schedule();
  for (const std::string& bad :
       {std::string("x"), std::string(" "), std::string("128"), good + "x", good + " " + good,
        good + ",colour=1", std::string("tokens=-8"), std::string("tokens=7"),
        std::string(100000, '9'), std::string(64, '\0'), std::string("99999999999999999999x1")}) {
    const Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, 16, device_, bad);
    EXPECT_EQ(plan.status().code(), StatusCode::kInvalidArgument) << bad.substr(0, 100);
  }
}

TEST_F(CudaGemmUsage, RefusesShapesAndDevices) {
  CudaGemmDesc good;
  good.n = 64;
  good.k = 64;
  ASSERT_TRUE(is_ok(can_implement(good, device_)));
  const auto refused = [&](const std::function<void(CudaGemmDesc&)>& spoil, const char* part) {
    CudaGemmDesc desc = good;
    spoil(desc);
    const Status status = can_implement(desc, device_);
    EXPECT_FALSE(status.ok()) << part;
    EXPECT_NE(status.message().find(part), std::string::npos) << status.to_string();
    EXPECT_FALSE(CudaGemmPlan::make(desc, 16, device_).ok());
    EXPECT_EQ(packed_weight_bytes(desc), 0u);
  };
  for (const std::int64_t n : {std::int64_t{0}, std::int64_t{-8}, std::int64_t{4}, std::int64_t{12},
                               std::int64_t{1} << 40}) {
    refused([n](CudaGemmDesc& desc) { desc.n = n; }, "multiple of 8");
  }
  for (const std::int64_t k : {0, -32, 16, 48, 8200}) {
    refused([k](CudaGemmDesc& desc) { desc.k = k; }, "multiple of 32");
  }
  refused([](CudaGemmDesc& desc) { desc.k = 66336; }, "66311");
  for (const int group : {-64, 16, 48, 96, 256}) {
    refused([group](CudaGemmDesc& desc) { desc.group_size = group; }, "32, 64 or 128");
  }
  good.group_size = kInt8Weights;
  for (const std::int64_t k : {1, 7, 48, 66311}) {
    good.k = k;
    ASSERT_TRUE(is_ok(can_implement(good, device_)));
  }
  for (const std::int64_t k : {0, -1}) {
    refused([k](CudaGemmDesc& desc) { desc.k = k; }, "1 or more");
  }
  refused([](CudaGemmDesc& desc) { desc.k = 66312; }, "66311");
  refused(
      [](CudaGemmDesc& desc) {
        desc.gated = true;
        desc.n = 72;
      },
      "multiple of 16");
  for (const std::int64_t m : {0, -1}) EXPECT_FALSE(CudaGemmPlan::make(good, m, device_).ok());

  CudaDevice other = device_;
  other.compute_major = 8;
  EXPECT_EQ(can_implement(good, other).code(), StatusCode::kUnsupported);
  other = device_;
  other.driver_version = 12030;
  EXPECT_EQ(can_implement(good, other).code(), StatusCode::kUnsupported);
  other = device_;
  other.shared_bytes_per_block = 100 * 1024;
  EXPECT_EQ(can_implement(good, other).code(), StatusCode::kUnsupported);
}

TEST_F(CudaGemmUsage, RefusesArgumentsItCannotUse) {
  Random random(1);
  const Stream stream;
  const TestLayer layer(random, random_liquid4(random, 72, 4096, 64), false, stream);
  const Tokens tokens = random_tokens(random, 4, layer.k());
  const DeviceTokens device_tokens(random, tokens);
  const CudaGemmDesc desc = layer.desc(CudaOutput::kFloat16, true);
  const CudaGemmPlan plan = make(desc, tokens.m);
  const DeviceOutput output(desc, tokens.m, 1);
  const Workspace workspace(plan);
  CudaGemmArguments good;
  layer.set(good, true);
  device_tokens.set(good);
  output.set(good);
  workspace.set(good);
  const std::vector<std::uint8_t> untouched = output.download();
  int turn = 0;
  const auto refused = [&](const std::function<void(CudaGemmArguments&)>& spoil) {
    CudaGemmArguments arguments = good;
    spoil(arguments);
    const Status status = plan.launch(arguments, stream);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument)
        << "argument " << turn << ": " << status.to_string();
    ++turn;
  };
  refused([](CudaGemmArguments& a) { a.weights = nullptr; });
  refused([](CudaGemmArguments& a) { a.x8 = nullptr; });
  refused([](CudaGemmArguments& a) { a.x8 += 8; });
  refused([](CudaGemmArguments& a) { a.ld_x += 8; });
  refused([](CudaGemmArguments& a) { a.ld_x = 4080; });
  refused([](CudaGemmArguments& a) { a.x_scale = nullptr; });
  refused([](CudaGemmArguments& a) { a.x_sum = nullptr; });
  refused([](CudaGemmArguments& a) { a.bias = nullptr; });
  refused([](CudaGemmArguments& a) { a.y = nullptr; });
  refused([](CudaGemmArguments& a) { a.y = static_cast<std::uint8_t*>(a.y) + 2; });
  refused([](CudaGemmArguments& a) { a.ld_y = 64; });
  refused([](CudaGemmArguments& a) { a.ld_y += 4; });
  const DeviceBuffer<std::uint32_t> amax(kCudaAmaxParts * 4);
  refused([&](CudaGemmArguments& a) { a.y_amax = {amax.data(), 4}; });  // of f16
  if (plan.workspace_bytes() > 0) refused([](CudaGemmArguments& a) { a.workspace = nullptr; });
  EXPECT_EQ(output.download(), untouched);
  EXPECT_FALSE(CudaGemmPlan().launch(good, stream).ok()) << "a plan that make() did not make";
}

}  // namespace
}  // namespace liquidgemm::testing
