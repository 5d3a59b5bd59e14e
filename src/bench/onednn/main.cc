// liquid-bench-onednn N K M ROUNDS SECONDS: times oneDNN's product of unsigned 8-bit activations
// and signed 8-bit weights to INT32, as `liquid bench gemm --device cpu` times ours, and prints one
// line of JSON. Not for people: `liquid bench gemm` starts it.
//
// Nothing slows it down: the weights are in the format that oneDNN chooses, unsigned activations
// spare it the correction of signed ones, and no scales are applied.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <exception>
#include <random>
#include <vector>

#include "base/median.h"
#include "bench/cpu/layer.h"
#include "bench/cpu/timing.h"

namespace liquidgemm::bench::cpu {
namespace {

using dnnl::memory;

dnnl::matmul::primitive_desc describe(const memory::desc& x, const memory::desc& w,
                                      const memory::desc& y, const dnnl::engine& engine) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::matmul::primitive_desc(engine, x, w, y);
#else
  return dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, w, y), engine);
#endif
}

struct Operands {
  std::int64_t n, k, m;
  std::vector<std::uint8_t> x;  // [M][K]
  std::vector<std::int8_t> w;   // [N][K]
  std::vector<std::int32_t> y;  // [M][N]
};

Operands make_operands(std::int64_t n, std::int64_t k, std::int64_t m) {
  Operands result{n, k, m, {}, {}, {}};
  result.x.resize(static_cast<std::size_t>(m * k));
  result.w.resize(static_cast<std::size_t>(n * k));
  result.y.resize(static_cast<std::size_t>(m * n));
  std::mt19937 random(1);
  // Without VNNI oneDNN adds two products in 16 bits, which saturate. Half the range never does
  // (2 * 127 * 128 < 2^15), and takes as long.
  for (auto& value : result.x) value = static_cast<std::uint8_t>(random() % 128);
  for (auto& value : result.w) value = static_cast<std::int8_t>(random() % 256);
  return result;
}

// The first and the last token, all channels.
bool correct(const Operands& operands) {
  for (const std::int64_t token : {std::int64_t{0}, operands.m - 1}) {
    for (std::int64_t channel = 0; channel < operands.n; ++channel) {
      const std::uint8_t* x = operands.x.data() + token * operands.k;
      const std::int8_t* w = operands.w.data() + channel * operands.k;
      std::int32_t sum = 0;
      for (std::int64_t i = 0; i < operands.k; ++i) sum += x[i] * w[i];
      if (operands.y[static_cast<std::size_t>(token * operands.n + channel)] != sum) return false;
    }
  }
  return true;
}

int measure(std::int64_t n, std::int64_t k, std::int64_t m, int rounds, double seconds) {
  Operands operands = make_operands(n, k, m);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  using Type = memory::data_type;
  using Tag = memory::format_tag;
  const memory::desc x_form({m, k}, Type::u8, Tag::ab);
  const memory::desc y_form({m, n}, Type::s32, Tag::ab);
  const auto plan = describe(x_form, memory::desc({k, n}, Type::s8, Tag::any), y_form, engine);
  const dnnl::matmul product(plan);
  memory x(x_form, engine, operands.x.data());
  memory y(y_form, engine, operands.y.data());
  memory plain(memory::desc({k, n}, Type::s8, Tag::ba), engine, operands.w.data());
  std::vector<memory> copies;
  const std::int64_t count = weight_copies(static_cast<double>(n) * static_cast<double>(k));
  for (std::int64_t i = 0; i < count; ++i) {
    copies.emplace_back(plan.weights_desc(), engine);
    dnnl::reorder(plain, copies.back()).execute(stream, plain, copies.back());
  }
  stream.wait();

  std::size_t next = 0;
  const auto multiply = [&] {
    product.execute(stream,
                    {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, copies[next]}, {DNNL_ARG_DST, y}});
    stream.wait();
    next = (next + 1) % copies.size();
  };
  const std::int64_t calls = calls_for(seconds, multiply);
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    times.push_back(seconds_of(calls, multiply) / static_cast<double>(calls));
  }
  if (!correct(operands)) {
    std::fprintf(stderr, "liquid-bench-onednn: a sum is wrong; its times say nothing\n");
    return 1;
  }
  const auto [least, most] = std::minmax_element(times.begin(), times.end());
  const double spread = *most - *least;
  const double middle = median(times);
  const dnnl_version_t* version = dnnl_version();
  std::printf(
      "{\"version\": \"%d.%d.%d\", \"implementation\": \"%s\", \"median_seconds\": %.9e, "
      "\"spread\": %.6f}\n",
      version->major, version->minor, version->patch, plan.impl_info_str(), middle,
      spread / middle);
  return 0;
}

}  // namespace
}  // namespace liquidgemm::bench::cpu

int main(int count, char** values) {
  if (count != 6) {
    std::fprintf(stderr, "usage: liquid-bench-onednn N K M ROUNDS SECONDS\n");
    return 2;
  }
  const std::int64_t n = std::atoll(values[1]);
  const std::int64_t k = std::atoll(values[2]);
  const std::int64_t m = std::atoll(values[3]);
  const int rounds = std::atoi(values[4]);
  const double seconds = std::atof(values[5]);
  if (n < 1 || k < 1 || m < 1 || rounds < 1 || !(seconds > 0)) {
    std::fprintf(stderr, "liquid-bench-onednn: all five numbers must be positive\n");
    return 2;
  }
  try {
    return liquidgemm::bench::cpu::measure(n, k, m, rounds, seconds);
  } catch (const std::exception& error) {  // oneDNN and the allocator throw
    std::fprintf(stderr, "liquid-bench-onednn: %s\n", error.what());
    return 1;
  }
}
