// A random cache in the GPU's pages, queries at chosen positions, both kernels over them, and what
// the result should be, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/half.h"
#include "gemm/numerics.h"
#include "gemm_cuda/cuda_fixture.h"
#include "ops/cuda/attention.h"
#include "ops/cuda/attention_rows.h"
#include "ops/kv_static.h"
#include "ops_cuda/decode_lists.h"
#include "ops_cuda/elements.h"

namespace liquidgemm::cuda::testing {

using liquidgemm::testing::DeviceBuffer;
using liquidgemm::testing::is_ok;
using liquidgemm::testing::Stream;

struct AttentionSizes {
  KvElement element = KvElement::kF16;
  int kv_heads = 1;
  int group = 1;
  int head_dim = 64;

  int heads() const { return kv_heads * group; }
};

inline std::string name_of(const AttentionSizes& sizes) {
  return std::string(element_name(sizes.element)) + ", kv heads " + std::to_string(sizes.kv_heads) +
         ", group " + std::to_string(sizes.group) + ", head_dim " + std::to_string(sizes.head_dim);
}

// One query: a position of a sequence, which sees the tokens up to itself.
struct Query {
  int sequence;
  int position;
};

// The bits of one element.
inline std::uint32_t element_bits(const std::uint8_t* head_page, std::int64_t place, int bits) {
  std::uint32_t value = 0;
  std::memcpy(&value, head_page + place / 8, bits == 16 ? 2 : 1);
  return value >> (place % 8) & ((1u << bits) - 1);
}

class RandomCache {
 public:
  static constexpr int kLayers = 2;
  static constexpr int kLayer = 1;

  RandomCache(const AttentionSizes& sizes, std::vector<int> lengths, std::mt19937_64& random)
      : sizes_(sizes), lengths_(std::move(lengths)), random_(random) {
    shape_ = {sizes.element, kv_width(sizes.head_dim), sizes.kv_heads, kLayers};
    int pages = 3;  // not all are in use
    for (const int length : lengths_) pages += pages_of(length);
    std::uniform_real_distribution<float> exponent(-9.0f, -3.0f);
    for (int i = 0; i < sizes.kv_heads * sizes.head_dim; ++i) {
      v_scale_.push_back(std::exp2(exponent(random_)));
    }
    std::vector<int> ids(static_cast<std::size_t>(pages));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random_);
    // All that is not written below reads as NaN.
    bytes_.assign(static_cast<std::size_t>(pages * kv_page_bytes(shape_)), 0xFF);
    auto next = ids.begin();
    for (const int length : lengths_) {
      tables_.emplace_back(next, next + pages_of(length));
      next += pages_of(length);
      for (int token = 0; token < length; ++token) {
        for (int head = 0; head < sizes.kv_heads; ++head) write_token(tables_.back(), token, head);
      }
    }
    device_.emplace(bytes_);
    device_v_scale_.emplace(v_scale_);
  }

  const AttentionSizes& sizes() const { return sizes_; }
  const KvPageShape& shape() const { return shape_; }
  const std::uint8_t* device() const { return device_->data(); }
  // Static int8 only.
  const float* device_v_scale() const {
    return sizes_.element == KvElement::kInt8Static ? device_v_scale_->data() : nullptr;
  }
  const std::vector<int>& table(int sequence) const {
    return tables_[static_cast<std::size_t>(sequence)];
  }
  int length(int sequence) const { return lengths_[static_cast<std::size_t>(sequence)]; }
  // Makes a token's values, or its keys, read as NaN in all heads.
  void spoil(int sequence, int token, bool value) {
    const auto [element, width] = std::pair(shape_.element, shape_.width);
    const int t = token % kKvPageTokens;
    for (int head = 0; head < sizes_.kv_heads; ++head) {
      std::uint8_t* page = bytes_.data() + head_page_begin(table(sequence), token, head);
      if (!kv_is_float(element)) {
        std::memset(page + (value ? value_parameter_offset(element, width, t)
                                  : key_parameter_offset(element, width, t)),
                    0xFF, 4);
        continue;
      }
      for (int d = 0; d < width; d += kv_word_dimensions(element)) {
        std::memset(page + (value ? value_word_offset(element, width, t, d)
                                  : key_word_offset(element, width, t, d)),
                    0xFF, 8);
      }
    }
    device_->upload(bytes_);
  }
  bool unchanged() const { return device_->download() == bytes_; }

  // A row of K or V of one token, as it reads; keys of a static cache without their scales, which
  // are the queries' business.
  void read_row(int sequence, int token, int head, bool value, std::vector<double>& row) const {
    const std::uint8_t* page = head_page(table(sequence), token, head);
    const int t = token % kKvPageTokens;
    const int bits = kv_element_bits(shape_.element);
    const int parameters = value ? value_parameter_offset(shape_.element, shape_.width, t)
                                 : key_parameter_offset(shape_.element, shape_.width, t);
    float scale = 0;
    std::uint16_t halves[2] = {};
    if (shape_.element == KvElement::kInt8) std::memcpy(&scale, page + parameters, 4);
    if (shape_.element == KvElement::kInt4) std::memcpy(halves, page + parameters, 4);
    row.resize(static_cast<std::size_t>(sizes_.head_dim));
    for (int d = 0; d < sizes_.head_dim; ++d) {
      const std::int64_t place = value ? value_place(shape_, t, d) : key_place(shape_, t, d);
      const std::uint32_t stored = element_bits(page, place, bits);
      double read = 0;
      switch (shape_.element) {
        case KvElement::kF16:
          read = static_cast<double>(f16_to_float(static_cast<std::uint16_t>(stored)));
          break;
        case KvElement::kBf16:
          read = static_cast<double>(bf16_to_float(static_cast<std::uint16_t>(stored)));
          break;
        case KvElement::kInt8:
          read = static_cast<double>(scale) * (static_cast<int>(stored) - 128);
          break;
        case KvElement::kInt8Static:
          read = static_cast<int>(stored) - 128;
          if (value) read *= static_cast<double>(v_scale_of(head, d));
          break;
        case KvElement::kInt4:
          read = static_cast<double>(f16_to_float(halves[1])) +
                 static_cast<double>(f16_to_float(halves[0])) * (static_cast<int>(stored) - 8);
          break;
      }
      row[static_cast<std::size_t>(d)] = read;
    }
  }

 private:
  static int pages_of(int length) { return (length + kKvPageTokens - 1) / kKvPageTokens; }

  std::size_t head_page_begin(const std::vector<int>& table, int token, int head) const {
    const std::int64_t page = table[static_cast<std::size_t>(token / kKvPageTokens)];
    return static_cast<std::size_t>(page * kv_page_bytes(shape_) +
                                    kv_head_page_offset(shape_, kLayer, head));
  }
  const std::uint8_t* head_page(const std::vector<int>& table, int token, int head) const {
    return bytes_.data() + head_page_begin(table, token, head);
  }

  void write_token(const std::vector<int>& table, int token, int head) {
    std::uint8_t* page = bytes_.data() + head_page_begin(table, token, head);
    const int t = token % kKvPageTokens;
    std::normal_distribution<float> normal;
    for (const bool value : {false, true}) {
      // Rows of very different sizes, away from zero on average.
      const float size = value ? std::exp2(2.0f * normal(random_)) : 1.0f + 0.3f * normal(random_);
      const float middle = 0.5f * normal(random_);
      std::vector<float> row(static_cast<std::size_t>(shape_.width), 0.0f);
      for (int d = 0; d < sizes_.head_dim; ++d) {
        row[static_cast<std::size_t>(d)] = size * (middle + normal(random_));
      }
      if (token % 37 == 5) std::fill(row.begin(), row.begin() + sizes_.head_dim, size);
      if (token % 41 == 7) std::fill(row.begin(), row.end(), 0.0f);
      write_row(page, t, head, value, row);
    }
  }

  float v_scale_of(int head, int d) const {
    return v_scale_[static_cast<std::size_t>(head * sizes_.head_dim + d)];
  }

  void write_row(std::uint8_t* page, int t, int head, bool value, const std::vector<float>& row) {
    const KvElement element = shape_.element;
    const int parameters = value ? value_parameter_offset(element, shape_.width, t)
                                 : key_parameter_offset(element, shape_.width, t);
    const auto real = std::span(row).first(static_cast<std::size_t>(sizes_.head_dim));
    float largest = 0;
    for (const float x : real) largest = std::max(largest, std::fabs(x));
    const auto [low, high] = std::minmax_element(real.begin(), real.end());
    const numerics::RowScale scale = numerics::row_scale(largest, true);
    const std::uint16_t step = float_to_f16(numerics::kv4_step(*low, *high, true));
    const std::uint16_t zero = float_to_f16(numerics::kv4_middle(*low, f16_to_float(step)));
    if (element == KvElement::kInt8) std::memcpy(page + parameters, &scale.scale, 4);
    if (element == KvElement::kInt4) {
      const std::uint32_t both = int4_parameters(step, zero);
      std::memcpy(page + parameters, &both, 4);
    }
    const int together = kv_word_dimensions(element);
    for (int d = 0; d < shape_.width; d += together) {
      const int at = value ? value_word_offset(element, shape_.width, t, d)
                           : key_word_offset(element, shape_.width, t, d);
      const float* x = row.data() + d;
      if (kv_is_float(element)) {
        std::uint16_t halves[4];
        for (int i = 0; i < 4; ++i) halves[i] = to_two_bytes(element, x[i]);
        std::memcpy(page + at, halves, 8);
      } else if (kv_is_int8(element)) {
        int codes[4];
        for (int i = 0; i < 4; ++i) {
          if (element == KvElement::kInt8Static) {
            const bool padding = d + i >= sizes_.head_dim;
            const float unit = padding ? 0.0f : value ? 1.0f / v_scale_of(head, d + i) : 32.0f;
            codes[i] = numerics::kv_static_code(x[i], unit);
            continue;
          }
          codes[i] = scale.reciprocal == 0 ? 0 : numerics::quantize_value(x[i], scale.reciprocal);
        }
        const std::uint32_t word = int8_word(codes);
        std::memcpy(page + at, &word, 4);
      } else {
        int codes[8];
        for (int i = 0; i < 8; ++i) {
          codes[i] = d + i >= sizes_.head_dim
                         ? 0
                         : numerics::kv4_code(x[i], f16_to_float(step), f16_to_float(zero));
        }
        const std::uint32_t word = int4_word(codes);
        std::memcpy(page + at, &word, 4);
      }
    }
  }

  AttentionSizes sizes_;
  KvPageShape shape_;
  std::vector<int> lengths_;
  std::mt19937_64& random_;
  std::vector<std::vector<int>> tables_;
  std::vector<std::uint8_t> bytes_;
  std::optional<DeviceBuffer<std::uint8_t>> device_;
  std::vector<float> v_scale_;  // [kv_heads][head_dim]
  std::optional<DeviceBuffer<float>> device_v_scale_;
};

// Queries with their vectors; row i of every result belongs to query i.
class Queries {
 public:
  Queries(const RandomCache& cache, std::vector<Query> queries, std::mt19937_64& random)
      : cache_(cache), queries_(std::move(queries)) {
    const AttentionSizes& sizes = cache.sizes();
    const auto width = static_cast<std::size_t>(cache.shape().width);
    // Keys of a static cache are codes, 32 for 1.
    const float size = sizes.element == KvElement::kInt8Static ? 1.0f / 32 : 1.0f;
    std::normal_distribution<float> normal(0.0f, size);
    q_.assign(queries_.size() * static_cast<std::size_t>(sizes.heads()) * width, 0);
    for (std::size_t i = 0; i < q_.size(); ++i) {
      if (i % width < static_cast<std::size_t>(sizes.head_dim))
        q_[i] = to_two_bytes(sizes.element, normal(random));
    }
    scale_ = 1.0f / std::sqrt(static_cast<float>(sizes.head_dim));
  }

  std::size_t count() const { return queries_.size(); }
  const Query& operator[](std::size_t i) const { return queries_[i]; }
  float softmax_scale() const { return scale_; }
  std::size_t out_width() const {
    return static_cast<std::size_t>(cache_.sizes().heads()) *
           static_cast<std::size_t>(cache_.sizes().head_dim);
  }

  // The vectors of these queries, one after the other.
  std::vector<std::uint16_t> vectors(const std::vector<std::size_t>& rows) const {
    const std::size_t row = q_.size() / queries_.size();
    std::vector<std::uint16_t> some;
    for (const std::size_t i : rows) {
      some.insert(some.end(), q_.begin() + static_cast<std::ptrdiff_t>(i * row),
                  q_.begin() + static_cast<std::ptrdiff_t>((i + 1) * row));
    }
    return some;
  }

  // What row i should be. `spread` has for each head by how much rounding each token's weight may
  // move the row: the square root of the sum over tokens of (weight * largest value)^2.
  std::vector<double> expected(std::size_t i, std::vector<double>& spread) const {
    const AttentionSizes& sizes = cache_.sizes();
    const auto dims = static_cast<std::size_t>(sizes.head_dim);
    const auto [sequence, position] = queries_[i];
    const auto tokens = static_cast<std::size_t>(position) + 1;
    std::vector<double> out(out_width(), 0.0), scores(tokens), row;
    for (int head = 0; head < sizes.heads(); ++head) {
      const std::uint16_t* q = q_.data() + (i * static_cast<std::size_t>(sizes.heads()) +
                                            static_cast<std::size_t>(head)) *
                                               static_cast<std::size_t>(cache_.shape().width);
      const int kv_head = head / sizes.group;
      for (std::size_t t = 0; t < tokens; ++t) {
        cache_.read_row(sequence, static_cast<int>(t), kv_head, false, row);
        double dot = 0;
        for (std::size_t d = 0; d < dims; ++d) {
          dot += row[d] * static_cast<double>(from_two_bytes(sizes.element, q[d]));
        }
        scores[t] = dot * static_cast<double>(scale_);
      }
      const double largest = *std::max_element(scores.begin(), scores.end());
      double sum = 0, squares = 0;
      double* o = out.data() + static_cast<std::size_t>(head) * dims;
      for (std::size_t t = 0; t < tokens; ++t) {
        const double p = std::exp(scores[t] - largest);
        sum += p;
        cache_.read_row(sequence, static_cast<int>(t), kv_head, true, row);
        double largest_value = 0;
        for (std::size_t d = 0; d < dims; ++d) {
          o[d] += p * row[d];
          largest_value = std::max(largest_value, std::fabs(row[d]));
        }
        squares += p * p * largest_value * largest_value;
      }
      for (std::size_t d = 0; d < dims; ++d) o[d] /= sum;
      spread.push_back(std::sqrt(squares) / sum);
    }
    return out;
  }

 private:
  const RandomCache& cache_;
  std::vector<Query> queries_;
  std::vector<std::uint16_t> q_;
  float scale_;
};

inline std::vector<std::size_t> all_of(const Queries& queries) {
  std::vector<std::size_t> rows(queries.count());
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  return rows;
}

// The tensors of a call over `rows` of the queries, in their order: row k of q and out is rows[k].
class Call {
 public:
  Call(const RandomCache& cache, const Queries& queries, std::vector<std::size_t> rows)
      : queries_(queries),
        rows_(std::move(rows)),
        q_(queries.vectors(rows_)),
        out_(rows_.size() * ld_out()) {
    const AttentionSizes& sizes = cache.sizes();
    tensors_.shape = cache.shape();
    tensors_.layer = RandomCache::kLayer;
    tensors_.heads = sizes.heads();
    tensors_.head_dim = sizes.head_dim;
    tensors_.softmax_scale = queries.softmax_scale();
    tensors_.q = q_.data();
    tensors_.pages = cache.device();
    tensors_.v_scale = cache.device_v_scale();
    tensors_.out = out_.data();
    tensors_.ld_out = static_cast<std::int64_t>(ld_out());
  }

  AttentionTensors& tensors() { return tensors_; }
  const std::vector<std::size_t>& rows() const { return rows_; }

  // Into `results`, at the place of each query. What lies between the rows must be untouched.
  void take_results(std::vector<std::vector<float>>& results) const {
    EXPECT_TRUE(out_.guards_intact());
    EXPECT_TRUE(q_.guards_intact());
    const std::vector<float> out = out_.download();
    const auto poison = liquidgemm::testing::poison_value<float>();
    results.resize(queries_.count());
    for (std::size_t k = 0; k < rows_.size(); ++k) {
      const auto begin = out.begin() + static_cast<std::ptrdiff_t>(k * ld_out());
      const auto end = begin + static_cast<std::ptrdiff_t>(queries_.out_width());
      results[rows_[k]].assign(begin, end);
      for (auto x = end; x != begin + static_cast<std::ptrdiff_t>(ld_out()); ++x) {
        EXPECT_EQ(std::memcmp(&*x, &poison, sizeof(float)), 0) << "written behind row " << k;
      }
    }
  }

 private:
  std::size_t ld_out() const { return queries_.out_width() + 4; }

  const Queries& queries_;
  std::vector<std::size_t> rows_;
  DeviceBuffer<std::uint16_t> q_;
  DeviceBuffer<float> out_;
  AttentionTensors tensors_;
};

using Results = std::vector<std::vector<float>>;

// The rows of attention as INT8 and f16, at the place of each query.
struct ShortRows {
  std::vector<std::vector<std::int8_t>> x8;
  std::vector<float> scales;
  std::vector<std::int32_t> sums;
  std::vector<std::vector<std::uint16_t>> halves;
};

// The results of decode attention, in `call` and its workspace, as rows of each kind.
inline void finish_rows(Call& call, const AttentionRows& rows, std::int64_t width,
                        const Stream& stream, ShortRows* to) {
  const auto m = static_cast<std::size_t>(rows.rows);
  const std::size_t ld = static_cast<std::size_t>(width) + 12;
  const DeviceBuffer<std::int8_t> x8(m * ld);
  const DeviceBuffer<float> scale(m);
  const DeviceBuffer<std::int32_t> sum(m);
  const DeviceBuffer<std::uint16_t> half(m * static_cast<std::size_t>(width));
  ASSERT_TRUE(is_ok(quantize_attention(rows,
                                       {.x8 = x8.data(),
                                        .ld_x8 = static_cast<std::int64_t>(ld),
                                        .scale = scale.data(),
                                        .sum = sum.data()},
                                       stream)));
  ASSERT_TRUE(is_ok(halve_attention(rows, half.data(), stream)));
  ASSERT_TRUE(is_ok(combine_attention(rows, stream)));
  stream.wait();
  EXPECT_TRUE(x8.guards_intact() && scale.guards_intact() && sum.guards_intact() &&
              half.guards_intact());
  if (to == nullptr) return;
  const std::vector<std::int8_t> all = x8.download();
  const std::vector<std::uint16_t> halves = half.download();
  const std::vector<float> scales = scale.download();
  const std::vector<std::int32_t> sums = sum.download();
  const std::size_t count = *std::max_element(call.rows().begin(), call.rows().end()) + 1;
  to->x8.resize(count);
  to->halves.resize(count);
  to->scales.resize(count);
  to->sums.resize(count);
  for (std::size_t k = 0; k < m; ++k) {
    const std::size_t row = call.rows()[k];
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(k * ld);
    to->x8[row].assign(begin, begin + width);
    const auto first = halves.begin() + static_cast<std::ptrdiff_t>(k) * width;
    to->halves[row].assign(first, first + width);
    to->scales[row] = scales[k];
    to->sums[row] = sums[k];
  }
}

// These queries by decode_attention, each as a sequence of its own, in a random order of slots and
// of units. Called twice with the same workspace.
inline void decode(const RandomCache& cache, const Queries& queries,
                   const std::vector<std::size_t>& rows, int multiprocessors,
                   std::mt19937_64& random, Results& results, int team = 0,
                   ShortRows* short_rows = nullptr) {
  Call call(cache, queries, rows);
  const auto slots = rows.size();
  std::vector<std::size_t> order(slots);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), random);
  std::size_t columns = 1;
  for (const std::size_t i : rows) {
    columns = std::max(columns, cache.table(queries[i].sequence).size());
  }
  std::vector<std::int32_t> tables(slots * columns, -1), lengths(slots), row_of(slots);
  for (std::size_t slot = 0; slot < slots; ++slot) {
    const std::size_t row = order[slot];
    const Query& query = queries[rows[row]];
    const std::vector<int>& table = cache.table(query.sequence);
    std::copy(table.begin(), table.end(),
              tables.begin() + static_cast<std::ptrdiff_t>(slot * columns));
    lengths[slot] = query.position + 1;
    row_of[slot] = static_cast<std::int32_t>(row);
  }
  std::shuffle(order.begin(), order.end(), random);
  DecodeLists lists;
  lists.kv_heads = cache.sizes().kv_heads;
  // Some of the sequences as one unit each, as many as there happen to be alike.
  const auto sequences = static_cast<int>(slots);
  if (decode_teams(cache.shape(), cache.sizes().heads(), sequences, 1, team) > 0) {
    lists.teams = static_cast<int>(random() % (slots * lists.kv_heads + 1));
  }
  for (const std::size_t slot : order) {
    lists.add(static_cast<int>(slot), row_of[slot], lengths[slot]);
  }
  const DeviceBuffer<std::int32_t> device_tables(tables), device_lengths(lengths),
      device_rows(row_of), count(std::vector<std::int32_t>{lists.count}),
      taken(std::vector<std::int32_t>{0});
  const DeviceBuffer<AttentionUnit> units(lists.units);
  const DeviceBuffer<RowSplits> splits(lists.splits);
  const auto max_units = static_cast<int>(lists.units.size()) + 1;
  const DeviceBuffer<std::uint8_t> workspace(
      decode_attention_workspace_bytes(cache.shape(), cache.sizes().heads(), max_units));

  DecodeAttention arguments;
  arguments.tensors = call.tensors();
  arguments.tensors.block_tables = device_tables.data();
  arguments.tensors.ld_block_table = static_cast<std::int64_t>(columns);
  arguments.sequences = static_cast<int>(slots);
  arguments.lengths = device_lengths.data();
  arguments.rows = device_rows.data();
  arguments.units = units.data();
  arguments.unit_count = count.data();
  arguments.units_taken = taken.data();
  arguments.max_units = max_units;
  arguments.workspace = workspace.data();
  arguments.multiprocessors = multiprocessors;
  arguments.team = team;
  CHECK_CUDA(cudaDeviceSynchronize());
  const Stream stream;
  ASSERT_TRUE(is_ok(decode_attention(arguments, stream)));
  ASSERT_TRUE(is_ok(decode_attention(arguments, stream)));
  ASSERT_NO_FATAL_FAILURE(finish_rows(call,
                                      {.tensors = arguments.tensors,
                                       .rows = static_cast<std::int64_t>(slots),
                                       .splits = splits.data(),
                                       .workspace = workspace.data()},
                                      queries.out_width(), stream, short_rows));
  call.take_results(results);
  EXPECT_TRUE(workspace.guards_intact());
  EXPECT_EQ(taken.download(), std::vector<std::int32_t>{0});
}

// The largest distance from what row i should be, in units of its head's spread.
inline double distance(const Queries& queries, std::size_t i, const std::vector<float>& row) {
  std::vector<double> spread;
  const std::vector<double> expected = queries.expected(i, spread);
  const std::size_t head_dim = expected.size() / spread.size();
  double largest = 0;
  for (std::size_t d = 0; d < expected.size(); ++d) {
    const double apart = std::fabs(expected[d] - static_cast<double>(row[d]));
    const double units = apart == 0 ? 0 : apart / spread[d / head_dim];
    if (!(units <= largest)) largest = units;  // NaN counts
  }
  return largest;
}

}  // namespace liquidgemm::cuda::testing
