// Operations that a device times by its own clock.
#include "bench/timed_backend.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "engine/engine.h"
#include "model/checkpoint/dummy_source.h"
#include "model/load.h"

namespace liquidgemm::bench {
namespace {

// A backend whose clock goes on by a second with every operation, and by a hundred where it is told
// to wait: it never should be.
class ClockedBackend final : public Backend {
 public:
  explicit ClockedBackend(Backend& inner) : inner_(inner) { graph_ = &inner.graph(); }

  Status plan(const ModelGraph&, WeightLoader&, const BackendLimits&) override {
    return ok_status();
  }
  std::span<const float> logits(std::int64_t row) const override { return inner_.logits(row); }
  std::span<const SampledToken> sampled() const override { return inner_.sampled(); }
  std::span<const TokenScore> scores() const override { return inner_.scores(); }
  const BackendLimits& limits() const override { return inner_.limits(); }
  std::int64_t page_bytes() const override { return inner_.page_bytes(); }
  std::size_t weight_bytes() const override { return inner_.weight_bytes(); }
  std::vector<std::string> describe() const override { return inner_.describe(); }
  void begin(const StepInput& input) override { tick(), inner_.begin(input); }
  void embed(RowBuffer out) override { tick(), inner_.embed(out); }
  LinearInput add_norm_quantize(std::size_t layer, bool post_attention, bool first) override {
    return tick(), inner_.add_norm_quantize(layer, post_attention, first);
  }
  void linear(std::size_t layer, const LinearGroup& group, const LinearInput& input,
              RowBuffer out) override {
    tick(), inner_.linear(layer, group, input, out);
  }
  LinearInput linear_gated_quantize(std::size_t layer, const LinearInput& input) override {
    return tick(), inner_.linear_gated_quantize(layer, input);
  }
  void qk_norm_rope_cache(std::size_t layer) override { tick(), inner_.qk_norm_rope_cache(layer); }
  void attention(std::size_t layer, RowBuffer out) override {
    tick(), inner_.attention(layer, out);
  }
  LinearInput quantize(RowBuffer in) override { return tick(), inner_.quantize(in); }
  LinearInput final_norm_quantize() override { return tick(), inner_.final_norm_quantize(); }
  void lm_head(const LinearInput& input) override { tick(), inner_.lm_head(input); }
  void sample() override { tick(), inner_.sample(); }
  void score() override { tick(), inner_.score(); }
  void wait() override { clock_ += 100.0; }
  bool mark(std::size_t index) override {
    marks_.resize(std::max(marks_.size(), index + 1));
    marks_[index] = clock_;
    return true;
  }
  double seconds_between(std::size_t first, std::size_t last) const override {
    return marks_.at(last) - marks_.at(first);
  }

 private:
  void tick() { clock_ += 1.0; }

  Backend& inner_;
  double clock_ = 0.0;
  std::vector<double> marks_;
};

TEST(TimedBackend, TakesTheDevicesClockWhereThereIsOne) {
  ModelConfig config;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.layers = 3;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 100;
  config.max_position = 128;
  config.tied_embeddings = true;
  LoadOptions options;
  options.threads = 1;
  options.text = false;
  const auto model = load_model(dummy_source("dummy", config, 32, 1), options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  ClockedBackend clocked(*model->backend);
  TimedBackend timed(clocked);
  Engine engine(timed);
  Request request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 4;
  ASSERT_TRUE(engine.submit(std::move(request)).ok());
  int steps = 0;
  for (; !engine.idle(); ++steps) ASSERT_TRUE(engine.step().ok());
  EXPECT_TRUE(timed.device_clock());
  ASSERT_EQ(steps, 4);
  const auto seconds = [&](Operation kind) {
    return timed.seconds()[static_cast<std::size_t>(kind)];
  };
  EXPECT_EQ(seconds(Operation::kEmbed), 4.0 * 2);  // with begin()
  EXPECT_EQ(seconds(Operation::kQkv), 4.0 * 3);
  EXPECT_EQ(seconds(Operation::kNorm), 4.0 * (2 * 3 + 1));
  EXPECT_EQ(seconds(Operation::kQuantize), 4.0 * 3);
  EXPECT_EQ(seconds(Operation::kLmHead), 4.0);
  EXPECT_EQ(std::accumulate(timed.seconds().begin(), timed.seconds().end(), 0.0),
            4.0 * (2 + 9 * 3 + 3));
  // Without one.
  TimedBackend waited(*model->backend);
  Engine other(waited);
  Request again;
  again.prompt = {1, 2, 3};
  again.max_tokens = 1;
  ASSERT_TRUE(other.submit(std::move(again)).ok());
  while (!other.idle()) ASSERT_TRUE(other.step().ok());
  EXPECT_FALSE(waited.device_clock());
}

}  // namespace
}  // namespace liquidgemm::bench
