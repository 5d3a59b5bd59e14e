// A layer with random weights, packed several times over: a product that takes another copy each
// time reads its weights from memory, as it does in a model.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "bench/goal_shapes.h"
#include "gemm/gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench::cpu {

enum class WeightKind { kLiquid4, kInt8 };

class Layer {
 public:
  // See weight_copies().
  static constexpr std::int64_t kRotatedBytes = std::int64_t{256} << 20;
  static constexpr std::int64_t kMostCopies = 4096;
  static Result<Layer> make(const Shape& shape, WeightKind kind, int group_size, Isa isa,
                            std::uint64_t seed, std::int64_t copies, ThreadPool& pool);

  const Shape& shape() const { return shape_; }
  const std::vector<std::unique_ptr<CpuLinear>>& copies() const { return copies_; }

  // The checkpoint form of rows begin .. end - 1.
  WeightView view(std::int64_t begin, std::int64_t end) const;
  WeightView view() const { return view(0, shape_.n); }

 private:
  Shape shape_;
  WeightKind kind_ = WeightKind::kLiquid4;
  int group_size_ = 64;
  std::vector<std::uint8_t> packed_, step_, offset_;
  std::vector<std::int8_t> int8_;
  std::vector<float> channel_scale_;
  std::vector<std::unique_ptr<CpuLinear>> copies_;
};

// Bytes that a product must read at least: the codes, of 4-bit weights their steps and offsets, and
// the channels' scales.
double weight_bytes(const Shape& shape, WeightKind kind, int group_size);
// How many copies of that size make Layer::kRotatedBytes or more: at least two, and at most
// Layer::kMostCopies, which of a very small layer are less.
std::int64_t weight_copies(double bytes);

}  // namespace liquidgemm::bench::cpu
