// Statistics on numbers that are known.
#include "bench/serve_metrics.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace liquidgemm::bench {
namespace {

RequestRecord done(double due, double sent, std::vector<double> outputs) {
  RequestRecord record;
  record.state = RequestState::kDone;
  record.due = due;
  record.sent = sent;
  record.end = outputs.back();
  record.outputs = std::move(outputs);
  return record;
}

TEST(Percentile, IsLinearBetweenNeighboursAsNumpyHasIt) {
  // numpy.percentile([1, 2, 4, 8, 16], ...) and of [3, 7]
  const std::vector<double> five = {1, 2, 4, 8, 16};
  EXPECT_DOUBLE_EQ(percentile(five, 0), 1.0);
  EXPECT_DOUBLE_EQ(percentile(five, 10), 1.4);
  EXPECT_DOUBLE_EQ(percentile(five, 50), 4.0);
  EXPECT_DOUBLE_EQ(percentile(five, 90), 12.8);
  EXPECT_DOUBLE_EQ(percentile(five, 99), 15.68);
  EXPECT_DOUBLE_EQ(percentile(five, 100), 16.0);
  EXPECT_DOUBLE_EQ(percentile({3, 7}, 25), 4.0);
  EXPECT_DOUBLE_EQ(percentile({5}, 99), 5.0);
  EXPECT_DOUBLE_EQ(percentile({}, 99), 0.0);
}

TEST(Distribution, IsInMillisecondsAndNeedsNoOrder) {
  const Distribution of = distribution({0.016, 0.001, 0.008, 0.004, 0.002}, {90, 99});
  EXPECT_EQ(of.count, 5u);
  EXPECT_NEAR(of.mean, 6.2, 1e-9);
  EXPECT_NEAR(of.median, 4.0, 1e-9);
  EXPECT_NEAR(of.deviation, 5.4552727, 1e-6);  // numpy.std([1, 2, 4, 8, 16])
  ASSERT_EQ(of.percentiles.size(), 2u);
  EXPECT_NEAR(of.percentiles[0], 12.8, 1e-9);
  EXPECT_NEAR(of.percentiles[1], 15.68, 1e-9);
}

TEST(ServeMetrics, FollowTheDefinitions) {
  LoadRun run;
  run.seconds = 4.0;
  // The server counted 5 tokens in three outputs; the end came after the last of them.
  run.records.push_back(done(0.0, 0.5, {1.0, 1.5, 2.25}));
  run.records[0].end = 2.5;
  run.records[0].usage = {11, 5, 4};
  // No usage: three outputs are three tokens.
  run.records.push_back(done(0.25, 0.25, {0.5, 0.75, 1.25}));
  // A single token has no time for each further one.
  run.records.push_back(done(2.0, 2.5, {3.5}));
  run.records.push_back({});
  run.records[3].state = RequestState::kFailed;
  run.records[3].sent = 0.1;
  run.records[3].outputs = {0.2, 9.0};
  run.records[3].error = "HTTP 500";
  run.records.push_back({});
  run.records[4].state = RequestState::kUnfinished;
  run.records.push_back({});

  const ServeMetrics of = summarize(run, {10, 20, -1, 40, 50, 60}, true, {50});
  EXPECT_EQ(of.done, 3);
  EXPECT_EQ(of.failed, 1);
  EXPECT_EQ(of.unfinished, 2);
  EXPECT_EQ(of.with_usage, 1);
  EXPECT_EQ(of.input_tokens, 11 + 20) << "the server's count goes before ours";
  EXPECT_EQ(of.unknown_input, 1);
  EXPECT_EQ(of.cached_tokens, 4);
  EXPECT_EQ(of.output_tokens, 5 + 3 + 1);
  EXPECT_DOUBLE_EQ(of.requests_per_second(), 0.75);
  EXPECT_DOUBLE_EQ(of.output_per_second(), 9 / 4.0);
  EXPECT_DOUBLE_EQ(of.total_per_second(), 40 / 4.0);
  EXPECT_NEAR(of.ttft.mean, (500.0 + 250.0 + 1000.0) / 3, 1e-9);
  EXPECT_NEAR(of.e2el.mean, (2000.0 + 1000.0 + 1000.0) / 3, 1e-9);
  // (2.0 - 0.5) / 4 and (1.0 - 0.25) / 2
  EXPECT_EQ(of.tpot.count, 2u);
  EXPECT_NEAR(of.tpot.mean, 375.0, 1e-9);
  EXPECT_EQ(of.itl.count, 4u);
  EXPECT_NEAR(of.itl.mean, (500.0 + 750.0 + 250.0 + 500.0) / 4, 1e-9);
  EXPECT_EQ(of.peak_concurrent, 2) << "the third is sent when the first ends";
  // Since 0.25: outputs at 0.75 and 1.25 of 5/3 tokens, at 2.0; at 0.25, 0.5 and 1.0; at 3.25.
  EXPECT_NEAR(of.peak_output_per_second, 5.0 / 3 + 2, 1e-9);
  EXPECT_EQ(of.latest_seconds, 0.0) << "requests wait for others";
  ASSERT_EQ(of.errors.size(), 1u);
  EXPECT_EQ(of.errors[0].first, "HTTP 500");
  EXPECT_EQ(of.errors[0].second, 1);
  EXPECT_DOUBLE_EQ(summarize(run, {10, 20, -1, 40, 50, 60}, false, {}).latest_seconds, 0.5);
}

TEST(ServeMetrics, NothingIsNoDivisionByZero) {
  const ServeMetrics of = summarize({}, {}, false, {99});
  EXPECT_EQ(of.requests_per_second(), 0.0);
  EXPECT_EQ(of.ttft.mean, 0.0);
  EXPECT_EQ(of.ttft.percentiles, std::vector<double>{0.0});
}

}  // namespace
}  // namespace liquidgemm::bench
