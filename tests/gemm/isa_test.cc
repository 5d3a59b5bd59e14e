#include <gtest/gtest.h>

#include "gemm/gemm.h"

namespace liquidgemm {
namespace {

TEST(Isa, NamesReadBack) {
  for (Isa isa : kIsas) {
    const Result<Isa> parsed = parse_isa(isa_name(isa));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, isa);
  }
}

TEST(Isa, AnUnknownNameListsTheKnownOnes) {
  for (std::string_view name : {"", "AVX2", "avx512", "sse", "avx2 "}) {
    const Result<Isa> parsed = parse_isa(name);
    ASSERT_FALSE(parsed.ok()) << name;
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(parsed.status().message().find("avx512-vnni"), std::string::npos);
  }
}

TEST(Isa, ScalarAlwaysRunsAndTheBestOneDoesToo) {
  EXPECT_TRUE(check_isa(Isa::kScalar).ok());
  EXPECT_TRUE(check_isa(best_isa()).ok());
}

TEST(Isa, ForcingWhatTheMachineLacksIsAnError) {
  ThreadPool pool(1);
  const float values[4] = {1, 2, 3, 4};
  WeightView weight;
  weight.kind = WeightView::Kind::kFloat;
  weight.name = "w";
  weight.n = 2;
  weight.k = 2;
  weight.f32 = values;
  for (Isa isa : kIsas) {
    const bool runs = check_isa(isa).ok();
    EXPECT_EQ(runs, isa <= best_isa());
    const auto linear = make_linear(weight, isa, pool);
    ASSERT_EQ(linear.ok(), runs);
    if (runs) {
      EXPECT_NE((*linear)->describe().find(isa_name(isa)), std::string::npos);
    } else {
      EXPECT_EQ(linear.status().code(), StatusCode::kUnsupported);
      EXPECT_NE(linear.status().message().find(isa_name(isa)), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace liquidgemm
