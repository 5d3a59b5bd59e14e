// Reads the test data of tests/data/model (make_goldens.py says what it holds) and runs tokens
// through a backend.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "model/checkpoint/safetensors.h"
#include "model/load.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::testing {

inline std::string model_data(std::string_view name) {
  return std::string(LIQUIDGEMM_TEST_DATA) + "/model/" + std::string(name);
}

// A checkpoint that must be readable.
inline ModelSource open(const std::string& path) {
  auto source = open_model_source(path);
  EXPECT_TRUE(source.ok()) << source.status().to_string();
  return std::move(*source);
}

// Named arrays of a safetensors file.
class Goldens {
 public:
  explicit Goldens(const std::string& path) {
    auto file = MappedFile::open(path);
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    if (!file.ok()) return;
    file_ = std::move(*file);
    auto tensors = parse_safetensors(file_.bytes(), path);
    EXPECT_TRUE(tensors.ok()) << tensors.status().to_string();
    if (!tensors.ok()) return;
    for (StoredTensor& tensor : *tensors) tensors_[tensor.info.name] = std::move(tensor);
  }

  bool has(const std::string& name) const { return tensors_.contains(name); }
  const Shape& shape(const std::string& name) const { return tensors_.at(name).info.shape; }

  // A copy, because the data of a safetensors file need not be aligned.
  template <typename T>
  std::vector<T> get(const std::string& name) const {
    const auto found = tensors_.find(name);
    EXPECT_NE(found, tensors_.end()) << name;
    if (found == tensors_.end()) return {};
    const StoredTensor& tensor = found->second;
    std::vector<T> values(static_cast<std::size_t>(tensor.info.bytes) / sizeof(T));
    std::memcpy(values.data(), file_.bytes().data() + tensor.begin, values.size() * sizeof(T));
    return values;
  }

 private:
  MappedFile file_;
  std::map<std::string, StoredTensor> tensors_;
};

// The instruction sets that this machine has.
inline std::vector<Isa> isas() {
  std::vector<Isa> found;
  for (const Isa isa : kIsas) {
    if (check_isa(isa).ok()) found.push_back(isa);
  }
  return found;
}

inline double rms(std::span<const float> values) {
  double sum = 0.0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

// The root mean square of the difference, over that of the first.
inline double relative_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double off = 0.0, size = 0.0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double x = static_cast<double>(a[i]), d = x - static_cast<double>(b[i]);
    off += d * d;
    size += x * x;
  }
  return std::sqrt(off / size);
}

inline double largest_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = difference;  // keeps a NaN
  }
  return largest;
}

// The logits after the tokens at `positions` (ascending), in one sequence that starts afresh;
// `chunk` tokens a step.
inline std::vector<std::vector<float>> run_logits(Backend& backend, std::span<const TokenId> tokens,
                                                  std::span<const std::int32_t> positions,
                                                  std::int32_t chunk) {
  std::vector<std::vector<float>> kept;
  const auto length = static_cast<std::int32_t>(tokens.size());
  std::vector<std::int32_t> pages(
      static_cast<std::size_t>(pages_for(static_cast<std::int64_t>(tokens.size()))));
  std::iota(pages.rbegin(), pages.rend(), 0);  // not in order of their numbers
  for (std::int32_t first = 0; first < length; first += chunk) {
    const std::int32_t count = std::min(chunk, length - first);
    std::vector<std::int32_t> rows;
    for (const std::int32_t position : positions) {
      if (position >= first && position < first + count) rows.push_back(position - first);
    }
    const SequenceRows sequence{.first_row = 0, .rows = count, .context = first, .pages = pages};
    const Status status = backend.step(
        {.tokens = tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
         .sequences = {&sequence, 1},
         .logits_rows = rows,
         .samples = {}});
    EXPECT_TRUE(status.ok()) << status.to_string();
    if (!status.ok()) return kept;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto logits = backend.logits(static_cast<std::int64_t>(i));
      kept.emplace_back(logits.begin(), logits.end());
    }
  }
  return kept;
}

inline Result<LoadedModel> load_for_test(const std::string& path, const LoadOptions& options) {
  auto source = open_model_source(path);
  if (!source.ok()) return source.status();
  return load_model(*source, options);
}

}  // namespace liquidgemm::testing
