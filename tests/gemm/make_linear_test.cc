// What make_linear refuses, and how it says so.
#include <gtest/gtest.h>

#include "gemm/random_layers.h"

namespace liquidgemm::testing {
namespace {

void expect_refused(const WeightView& view, StatusCode code, std::string_view part) {
  ThreadPool pool(2);
  for (Isa isa : machine_isas()) {
    const auto linear = make_linear(view, isa, pool);
    ASSERT_FALSE(linear.ok()) << part;
    EXPECT_EQ(linear.status().code(), code) << linear.status().to_string();
    EXPECT_NE(linear.status().message().find(view.name), std::string::npos);
    EXPECT_NE(linear.status().message().find(part), std::string::npos)
        << linear.status().to_string();
  }
}

TEST(MakeLinear, RefusesShapesItCannotRun) {
  Random random(1);
  const Layer liquid = random_liquid4(random, 4, 64, 64);
  WeightView view = liquid.view();
  view.k = 66312;
  expect_refused(view, StatusCode::kUnsupported, "66311");
  view.k = 63;
  expect_refused(view, StatusCode::kInvalidArgument, "even");
  view = liquid.view();
  for (int group : {0, -64, 16, 48, 256}) {
    view.group_size = group;
    expect_refused(view, StatusCode::kInvalidArgument, "32, 64 or 128");
  }
  for (std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 40}) {
    view = liquid.view();
    view.n = bad;
    expect_refused(view, StatusCode::kInvalidArgument, "between 1 and");
    view = liquid.view();
    view.k = bad;
    expect_refused(view, StatusCode::kInvalidArgument, "between 1 and");
  }
}

TEST(MakeLinear, RefusesAViewWithoutItsData) {
  Random random(1);
  const Layer liquid = random_liquid4(random, 4, 64, 64);
  for (int part = 0; part < 4; ++part) {
    WeightView view = liquid.view();
    if (part == 0) view.packed = nullptr;
    if (part == 1) view.step = nullptr;
    if (part == 2) view.offset = nullptr;
    if (part == 3) view.channel_scale = nullptr;
    expect_refused(view, StatusCode::kInvalidArgument, "no ");
  }
}

// Kernels rely on q * s + a <= 255 and 1 <= s <= 16.
TEST(MakeLinear, RefusesCodesOutsideTheContract) {
  Random random(fresh_seed());
  const Layer good = random_liquid4(random, 50, 160, 32);
  const auto refuse = [&](auto change) {
    Layer bad = good;
    change(bad);
    ThreadPool pool(2);
    const auto linear = make_linear(bad.view(), Isa::kScalar, pool);
    ASSERT_FALSE(linear.ok());
    EXPECT_NE(linear.status().message().find("test.layer"), std::string::npos);
    EXPECT_NE(linear.status().message().find("37"), std::string::npos)
        << linear.status().to_string();
  };
  refuse([](Layer& layer) { layer.step[37 * 5 + 2] = 0; });
  refuse([](Layer& layer) { layer.step[37 * 5 + 2] = 17; });
  refuse([](Layer& layer) {
    layer.packed[37 * 80 + 40] = 0xF0;
    layer.step[37 * 5 + 2] = 16;
    layer.offset[37 * 5 + 2] = 16;
  });
  for (float scale : {0.0f, -1.0f, 0x1p-130f, std::numeric_limits<float>::infinity(),
                      std::numeric_limits<float>::quiet_NaN()}) {
    refuse([&](Layer& layer) { layer.channel_scale[37] = scale; });
  }
}

TEST(MakeLinear, RefusesBadInt8Scales) {
  Random random(1);
  Layer layer = random_int8(random, 3, 8);
  layer.channel_scale[1] = std::numeric_limits<float>::quiet_NaN();
  ThreadPool pool(1);
  EXPECT_FALSE(make_linear(layer.view(), Isa::kScalar, pool).ok());
}

TEST(MakeLinear, SaysWhatRuns) {
  Random random(1);
  ThreadPool pool(1);
  for (Isa isa : machine_isas()) {
    const std::string name(isa_name(isa));
    const auto liquid = make_linear(random_liquid4(random, 4, 64, 32).view(), isa, pool);
    const auto int8 = make_linear(random_int8(random, 4, 5).view(), isa, pool);
    const auto floats = make_linear(random_float(random, 4, 5).view(), isa, pool);
    ASSERT_TRUE(liquid.ok() && int8.ok() && floats.ok());
    EXPECT_EQ((*liquid)->describe(), "liquid4 g32 " + name);
    EXPECT_EQ((*int8)->describe(), "int8 " + name);
    EXPECT_EQ((*floats)->describe(), "float " + name);
    EXPECT_EQ((*liquid)->n(), 4);
    EXPECT_EQ((*liquid)->k(), 64);
    EXPECT_GE((*liquid)->packed_bytes(), 4u * 64 / 2);
  }
}

}  // namespace
}  // namespace liquidgemm::testing
