// The schedules of layers as the engine runs them: floats out, the gate in the epilogue, an INT8
// head. Prints what is fastest beside what is chosen; never asserts speed. Run with
// --gtest_also_run_disabled_tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "cuda_fixture.h"
#include "gemm/cuda/layout.h"
#include "graph.h"

namespace liquidgemm::testing {
namespace {

class CudaScheduleTiming : public CudaTest {};

// Every tile with every division of the work, as far as there are such.
std::vector<std::string> schedules() {
  std::vector<std::string> all{""};
  for (const int tokens : {8, 16, 32, 64, 96, 128, 160, 192, 224, 256}) {
    for (const char* tile :
         {",blocks=1,groups=4,depth=1", ",blocks=1,groups=3,depth=1", ",blocks=1,groups=2,depth=2",
          ",blocks=1,groups=1,depth=4", ",blocks=2,groups=2,depth=1", ",blocks=1,groups=1,depth=2",
          ",blocks=1,groups=2,depth=1", ",blocks=1,groups=1,depth=1"}) {
      for (const char* division :
           {"", ",split=2", ",split=3", ",split=4", ",split=5", ",split=6", ",split=8",
            ",multicast=2", ",stream=1", ",stream=1,multicast=2"}) {
        all.push_back("tokens=" + std::to_string(tokens) + tile + division);
      }
    }
  }
  return all;
}

// Bytes of a layer as they lie packed (layout.h): any codes, with steps and offsets that keep every
// weight below 256, or INT8 weights of usual size. How much power a product takes depends on them.
std::vector<std::uint8_t> random_blocks(int group_size, std::mt19937_64& random) {
  const auto block_bytes = static_cast<std::size_t>(cuda::block_bytes(group_size));
  std::vector<std::uint8_t> bytes(256 * block_bytes);
  std::normal_distribution<float> normal(0.0f, 32.0f);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (group_size == kInt8Weights) {
      bytes[i] = static_cast<std::uint8_t>(std::clamp(normal(random), -127.0f, 127.0f) + 128.0f);
    } else if (i % block_bytes < 2 * cuda::kHalfBlockBytes) {
      bytes[i] = static_cast<std::uint8_t>(random());
    } else if (i % 2 == 0) {
      bytes[i] = static_cast<std::uint8_t>(1 + random() % 16);
    } else {
      bytes[i] = static_cast<std::uint8_t>(random() % (256 - 15 * bytes[i - 1]));
    }
  }
  return bytes;
}

// What launches take turns with: one may begin before the one in front has left its own.
class TwoWorkspaces {
 public:
  explicit TwoWorkspaces(const CudaGemmPlan& plan)
      : bytes_((plan.workspace_bytes() + 255) / 256 * 256 + 256), memory_(2 * bytes_) {
    memory_.fill(0);
  }
  std::uint8_t* of(std::size_t launch) const { return memory_.data() + launch % 2 * bytes_; }

 private:
  std::size_t bytes_;
  DeviceBuffer<std::uint8_t> memory_;
};

// One layer's product as the engine asks for it, with other weights for every launch, more than the
// L2 holds.
class TimedLayer {
 public:
  TimedLayer(const CudaGemmDesc& desc, std::int64_t m)
      : desc_(desc),
        bytes_((packed_weight_bytes(desc) + 255) / 256 * 256),
        copies_(std::max<std::size_t>(2, 150'000'000 / bytes_ + 1)),
        ld_((desc.k + 15) / 16 * 16),
        width_(desc.gated ? desc.n / 2 : desc.n),
        weights_(bytes_ * copies_),
        rows_(static_cast<std::size_t>(m * ld_)),
        scale_(std::vector<float>(static_cast<std::size_t>(m), 1e-4f)),
        sum_(std::vector<std::int32_t>(static_cast<std::size_t>(m), 0)),
        y_(static_cast<std::size_t>(m * width_)) {
    std::mt19937_64 random(1);
    const std::vector<std::uint8_t> blocks = random_blocks(desc.group_size, random);
    // Usual gates.
    const std::vector<float> scales(static_cast<std::size_t>((desc.n + 63) / 64 * 64), 1e-4f);
    const std::size_t scale_bytes = scales.size() * sizeof(float);
    for (std::size_t i = 0; i < copies_; ++i) {
      std::uint8_t* copy = weights_.data() + i * bytes_;
      const std::size_t before_scales = packed_weight_bytes(desc) - scale_bytes;
      repeat(blocks, copy, before_scales);
      CHECK_CUDA(
          cudaMemcpy(copy + before_scales, scales.data(), scale_bytes, cudaMemcpyHostToDevice));
    }
    std::normal_distribution<float> normal(0.0f, 32.0f);
    std::vector<std::uint8_t> tokens(1 << 20);
    for (std::uint8_t& byte : tokens) {
      byte = static_cast<std::uint8_t>(
          static_cast<std::int8_t>(std::clamp(normal(random), -127.0f, 127.0f)));
    }
    repeat(tokens, reinterpret_cast<std::uint8_t*>(rows_.data()), rows_.count());
  }

  std::size_t copies() const { return copies_; }
  std::int64_t width() const { return width_; }
  const float* y() const { return y_.data(); }

  // Of the i-th launch.
  CudaGemmArguments arguments(std::size_t i, const TwoWorkspaces& workspaces) const {
    CudaGemmArguments arguments;
    arguments.weights = weights_.data() + i % copies_ * bytes_;
    arguments.x8 = rows_.data();
    arguments.ld_x = ld_;
    arguments.x_scale = scale_.data();
    arguments.x_sum = sum_.data();
    arguments.y = y_.data();
    arguments.ld_y = width_;
    arguments.workspace = workspaces.of(i);
    arguments.programmatic_launch = true;
    return arguments;
  }

 private:
  static void repeat(const std::vector<std::uint8_t>& from, std::uint8_t* to, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += from.size()) {
      CHECK_CUDA(cudaMemcpy(to + at, from.data(), std::min(from.size(), bytes - at),
                            cudaMemcpyHostToDevice));
    }
  }

  CudaGemmDesc desc_;
  std::size_t bytes_, copies_;
  std::int64_t ld_, width_;
  DeviceBuffer<std::uint8_t> weights_;
  DeviceBuffer<std::int8_t> rows_;
  DeviceBuffer<float> scale_;
  DeviceBuffer<std::int32_t> sum_;
  DeviceBuffer<float> y_;
};

void time_layer(const CudaGemmDesc& desc, std::int64_t m, bool lasts, const CudaDevice& device) {
  const TimedLayer layer(desc, m);
  const std::size_t copies = layer.copies();
  const Stream stream;

  struct Timed {
    double microseconds;
    std::string schedule;
    std::string name;
  };
  using Replay = double (*)(cudaStream_t, const std::function<Status()>&);
  // Microseconds of a launch; negative where there is none.
  const auto time_schedule = [&](const std::string& schedule, Replay replay, std::string& name) {
    const Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, m, device, schedule);
    if (!plan.ok()) return -1.0;
    name = schedule.empty() ? "chosen: " + plan->schedule() : schedule;
    const TwoWorkspaces workspaces(*plan);
    const auto launch = [&]() -> Status {
      for (std::size_t i = 0; i < 2 * copies; ++i) {
        const Status status = plan->launch(layer.arguments(i, workspaces), stream);
        if (!status.ok()) return status;
      }
      return ok_status();
    };
    return replay(stream, launch) * 1e3 / static_cast<double>(2 * copies);
  };
  std::vector<Timed> timed;
  for (const std::string& schedule : schedules()) {
    std::string name;
    const double each = time_schedule(schedule, best_replay, name);
    if (each > 0) timed.push_back({each, schedule, name});
  }
  const Timed chosen = timed.front();
  std::sort(timed.begin(), timed.end(),
            [](const Timed& a, const Timed& b) { return a.microseconds < b.microseconds; });
  std::printf("%lld x %lld%s%s, m %lld: %.2f us %s (%.3f)\n", static_cast<long long>(desc.n),
              static_cast<long long>(desc.k), desc.gated ? " gated" : "",
              desc.group_size == kInt8Weights ? " int8" : "", static_cast<long long>(m),
              chosen.microseconds, chosen.name.c_str(),
              chosen.microseconds / timed.front().microseconds);
  // Many tokens lower the clock, and what is best may be another then.
  const std::size_t best = lasts ? 10 : 5;
  for (std::size_t i = 0; i < std::min(best, timed.size()); ++i) {
    std::printf("    %.2f us %s", timed[i].microseconds, timed[i].name.c_str());
    std::string name;
    if (lasts) {
      std::printf(", lasting %.2f", time_schedule(timed[i].schedule, lasting_replay, name));
    }
    std::printf("\n");
  }
  std::fflush(stdout);
}

struct Shape {
  std::int64_t n, k;
  bool gated;
};

void time_layers(std::initializer_list<Shape> shapes, std::initializer_list<std::int64_t> counts,
                 int group_size, bool lasts, const CudaDevice& device) {
  for (const Shape& shape : shapes) {
    for (const std::int64_t m : counts) {
      time_layer({.n = shape.n,
                  .k = shape.k,
                  .group_size = group_size,
                  .output = CudaOutput::kFloat32,
                  .gated = shape.gated},
                 m, lasts, device);
    }
  }
}

TEST_F(CudaScheduleTiming, DISABLED_LayersOfLlama3) {
  time_layers({{6144, 4096, false}, {4096, 4096, false}, {28672, 4096, true}, {4096, 14336, false}},
              {1, 16, 64, 256}, 64, false, device_);
}

TEST_F(CudaScheduleTiming, DISABLED_LayersOfLlama2) {
  time_layers({{12288, 4096, false}, {22016, 4096, true}, {4096, 11008, false}}, {208}, 64, false,
              device_);
  time_layers(
      {{15360, 5120, false}, {5120, 5120, false}, {27648, 5120, true}, {5120, 13824, false}}, {128},
      64, false, device_);
  time_layers(
      {{10240, 8192, false}, {8192, 8192, false}, {57344, 8192, true}, {8192, 28672, false}}, {192},
      64, false, device_);
}

TEST_F(CudaScheduleTiming, DISABLED_LayersOfLlama2_70B_Lasting) {
  time_layers(
      {{10240, 8192, false}, {8192, 8192, false}, {57344, 8192, true}, {8192, 28672, false}}, {184},
      64, true, device_);
}

// A gated product and what quantises its rows, which looks for the largest of each or is told.
TEST_F(CudaScheduleTiming, DISABLED_GateAndQuantise) {
  const CudaGemmDesc desc{.n = 28672, .k = 4096, .output = CudaOutput::kFloat32, .gated = true};
  for (const std::int64_t m : {1, 4, 16, 32, 64, 96, 128, 192, 256, 512, 1024}) {
    const TimedLayer layer(desc, m);
    const Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, m, device_);
    ASSERT_TRUE(is_ok(plan.status()));
    const TwoWorkspaces workspaces(*plan);
    const std::int64_t stride = (m + 31) / 32 * 32;
    const DeviceBuffer<std::uint32_t> amax(static_cast<std::size_t>(kCudaAmaxParts * stride));
    amax.fill(0);
    const DeviceBuffer<std::int8_t> x8(static_cast<std::size_t>(m * layer.width()));
    const DeviceBuffer<float> scale(static_cast<std::size_t>(m));
    const DeviceBuffer<std::int32_t> sum(static_cast<std::size_t>(m));
    const Stream stream;
    const auto time = [&](bool told, bool quantises) {
      const CudaRowAmax of_rows{told ? amax.data() : nullptr, stride};
      const auto launch = [&]() -> Status {
        for (std::size_t i = 0; i < 2 * layer.copies(); ++i) {
          CudaGemmArguments arguments = layer.arguments(i, workspaces);
          arguments.y_amax = of_rows;
          Status status = plan->launch(arguments, stream);
          if (status.ok() && quantises) {
            status = quantize_rows({.x = layer.y(),
                                    .ld_x = layer.width(),
                                    .type = CudaFloat::kFloat32,
                                    .m = m,
                                    .k = layer.width(),
                                    .x8 = x8.data(),
                                    .ld_x8 = layer.width(),
                                    .scale = scale.data(),
                                    .sum = sum.data(),
                                    .amax = of_rows},
                                   stream);
          }
          if (!status.ok()) return status;
        }
        return ok_status();
      };
      return best_replay(stream, launch) * 1e3 / static_cast<double>(2 * layer.copies());
    };
    std::printf("m %4lld: gate_up %.2f us, telling the largest %.2f; quantised %.2f, told %.2f\n",
                static_cast<long long>(m), time(false, false), time(true, false), time(false, true),
                time(true, true));
    std::fflush(stdout);
  }
}

TEST_F(CudaScheduleTiming, DISABLED_Int8Heads) {
  time_layers({{128256, 4096, false}}, {1, 16, 64, 256}, kInt8Weights, false, device_);
}

}  // namespace
}  // namespace liquidgemm::testing
