// The schedules of layers as the engine runs them: floats out, the gate in the epilogue, an INT8
// head. Prints what is fastest beside what is chosen; never asserts speed. Run with
// --gtest_also_run_disabled_tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "cuda_fixture.h"
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

void time_layer(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device) {
  // Other weights for every launch, more than the L2 holds.
  const std::size_t bytes = (packed_weight_bytes(desc) + 255) / 256 * 256;
  const std::size_t copies = std::max<std::size_t>(2, 150'000'000 / bytes + 1);
  std::vector<std::uint8_t> random_bytes(1 << 20);
  std::mt19937_64 random(1);
  for (std::uint8_t& byte : random_bytes) byte = static_cast<std::uint8_t>(random());
  const DeviceBuffer<std::uint8_t> weights(bytes * copies);
  for (std::size_t at = 0; at < weights.count(); at += random_bytes.size()) {
    CHECK_CUDA(cudaMemcpy(weights.data() + at, random_bytes.data(),
                          std::min(random_bytes.size(), weights.count() - at),
                          cudaMemcpyHostToDevice));
  }
  // Usual gates.
  const std::vector<float> scales(static_cast<std::size_t>((desc.n + 63) / 64 * 64), 1e-4f);
  for (std::size_t i = 0; i < copies; ++i) {
    const std::size_t at = i * bytes + packed_weight_bytes(desc) - scales.size() * 4;
    CHECK_CUDA(
        cudaMemcpy(weights.data() + at, scales.data(), scales.size() * 4, cudaMemcpyHostToDevice));
  }
  const std::int64_t ld = (desc.k + 15) / 16 * 16;
  const DeviceBuffer<std::int8_t> rows(static_cast<std::size_t>(m * ld));
  for (std::size_t at = 0; at < rows.count(); at += random_bytes.size()) {
    CHECK_CUDA(cudaMemcpy(rows.data() + at, random_bytes.data(),
                          std::min(random_bytes.size(), rows.count() - at),
                          cudaMemcpyHostToDevice));
  }
  const DeviceBuffer<float> scale(std::vector<float>(static_cast<std::size_t>(m), 1e-4f));
  const DeviceBuffer<std::int32_t> sum(std::vector<std::int32_t>(static_cast<std::size_t>(m), 0));
  const std::int64_t width = desc.gated ? desc.n / 2 : desc.n;
  const DeviceBuffer<float> y(static_cast<std::size_t>(m * width));
  const Stream stream;

  struct Timed {
    double microseconds;
    std::string schedule;
  };
  std::vector<Timed> timed;
  for (const std::string& schedule : schedules()) {
    const Result<CudaGemmPlan> plan = CudaGemmPlan::make(desc, m, device, schedule);
    if (!plan.ok()) continue;
    // A launch may begin before the one in front has left its own.
    const std::size_t workspace_bytes = (plan->workspace_bytes() + 255) / 256 * 256 + 256;
    const DeviceBuffer<std::uint8_t> workspace(2 * workspace_bytes);
    workspace.fill(0);
    const auto launch = [&]() -> Status {
      for (std::size_t i = 0; i < 2 * copies; ++i) {
        CudaGemmArguments arguments;
        arguments.weights = weights.data() + i % copies * bytes;
        arguments.x8 = rows.data();
        arguments.ld_x = ld;
        arguments.x_scale = scale.data();
        arguments.x_sum = sum.data();
        arguments.y = y.data();
        arguments.ld_y = width;
        arguments.workspace = workspace.data() + i % 2 * workspace_bytes;
        arguments.programmatic_launch = true;
        const Status status = plan->launch(arguments, stream);
        if (!status.ok()) return status;
      }
      return ok_status();
    };
    const double each = best_replay(stream, launch) * 1e3 / static_cast<double>(2 * copies);
    timed.push_back({each, schedule.empty() ? "chosen: " + plan->schedule() : schedule});
  }
  const Timed chosen = timed.front();
  std::sort(timed.begin(), timed.end(),
            [](const Timed& a, const Timed& b) { return a.microseconds < b.microseconds; });
  std::printf("%lld x %lld%s%s, m %lld: %.2f us %s (%.3f)\n", static_cast<long long>(desc.n),
              static_cast<long long>(desc.k), desc.gated ? " gated" : "",
              desc.group_size == kInt8Weights ? " int8" : "", static_cast<long long>(m),
              chosen.microseconds, chosen.schedule.c_str(),
              chosen.microseconds / timed.front().microseconds);
  for (std::size_t i = 0; i < std::min<std::size_t>(5, timed.size()); ++i) {
    std::printf("    %.2f us %s\n", timed[i].microseconds, timed[i].schedule.c_str());
  }
  std::fflush(stdout);
}

struct Shape {
  std::int64_t n, k;
  bool gated;
};

void time_layers(std::initializer_list<Shape> shapes, std::initializer_list<std::int64_t> counts,
                 int group_size, const CudaDevice& device) {
  for (const Shape& shape : shapes) {
    for (const std::int64_t m : counts) {
      time_layer({.n = shape.n,
                  .k = shape.k,
                  .group_size = group_size,
                  .output = CudaOutput::kFloat32,
                  .gated = shape.gated},
                 m, device);
    }
  }
}

TEST_F(CudaScheduleTiming, DISABLED_LayersOfLlama3) {
  time_layers({{6144, 4096, false}, {4096, 4096, false}, {28672, 4096, true}, {4096, 14336, false}},
              {1, 16, 64, 256}, 64, device_);
}

TEST_F(CudaScheduleTiming, DISABLED_LayersOfLlama2) {
  time_layers({{12288, 4096, false}, {22016, 4096, true}, {4096, 11008, false}}, {208}, 64,
              device_);
  time_layers(
      {{15360, 5120, false}, {5120, 5120, false}, {27648, 5120, true}, {5120, 13824, false}}, {128},
      64, device_);
  time_layers(
      {{10240, 8192, false}, {8192, 8192, false}, {57344, 8192, true}, {8192, 28672, false}}, {192},
      64, device_);
}

TEST_F(CudaScheduleTiming, DISABLED_Int8Heads) {
  time_layers({{128256, 4096, false}}, {1, 16, 64, 256}, kInt8Weights, device_);
}

}  // namespace
}  // namespace liquidgemm::testing
