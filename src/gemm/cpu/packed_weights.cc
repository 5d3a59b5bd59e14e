#include "gemm/cpu/packed_weights.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/half.h"
#include "quant/liquid_quant.h"

namespace liquidgemm::cpu {
namespace {

using Kind = WeightView::Kind;

constexpr std::int64_t kFp16Bytes = 2;

// A run of rows of one part: rows `first` .. `first + count - 1` of it.
struct Rows {
  const WeightView* part = nullptr;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// The runs that make up rows row0 .. row0 + count - 1 of the stacked parts, to body(run, place of
// its first row among the `count`).
template <typename Body>
void for_runs(std::span<const WeightView> parts, std::int64_t row0, std::int64_t count,
              const Body& body) {
  std::int64_t part_begin = 0;
  for (const WeightView& part : parts) {
    const std::int64_t first = std::max(row0, part_begin);
    const std::int64_t end = std::min(row0 + count, part_begin + part.n);
    if (first < end) body(Rows{&part, first - part_begin, end - first}, first - row0);
    part_begin += part.n;
  }
}

std::int64_t group_count(const WeightView& weight) {
  return (weight.k + weight.group_size - 1) / weight.group_size;
}

std::span<const std::uint8_t> bytes(const std::uint8_t* data, std::int64_t begin,
                                    std::int64_t count) {
  return {data + begin, static_cast<std::size_t>(count)};
}

// A kernel relies on q * s + a <= 255, so the reader's checks are made on the data that is packed.
Status check_rows(const Rows& rows) {
  const WeightView& weight = *rows.part;
  const std::int64_t groups = group_count(weight);
  const std::int64_t row_bytes = weight.k / 2;
  const std::span<const float> scales(weight.channel_scale + rows.first,
                                      static_cast<std::size_t>(rows.count));
  return check_liquid_rows(bytes(weight.packed, rows.first * row_bytes, rows.count * row_bytes),
                           bytes(weight.step, rows.first * groups, rows.count * groups),
                           bytes(weight.offset, rows.first * groups, rows.count * groups), scales,
                           rows.count, weight.k, weight.group_size, weight.name, rows.first);
}

std::span<const std::uint8_t> fp16_rows(const Rows& rows) {
  const std::int64_t row_bytes = rows.part->k * kFp16Bytes;
  return bytes(rows.part->f16, rows.first * row_bytes, rows.count * row_bytes);
}

// Two words side by side: each four bytes with the codes of k .. k + 7 (low nibble = even k), to
// four bytes with those of k .. k + 3 in the low nibbles and those of k + 4 .. k + 7 in the high.
inline std::uint64_t liquid_words(std::uint64_t codes) {
  static_assert(std::endian::native == std::endian::little);
  const std::uint64_t first = codes & 0x0000FFFF0000FFFF;         // k .. k + 3 of either word
  const std::uint64_t second = codes >> 16 & 0x0000FFFF0000FFFF;  // k + 4 .. k + 7
  const std::uint64_t even = (first & 0x00000F0F00000F0F) | (second & 0x00000F0F00000F0F) << 4;
  const std::uint64_t odd = (first >> 4 & 0x00000F0F00000F0F) | (second & 0x0000F0F00000F0F0);
  return (even & 0x000000FF000000FF) | (odd & 0x000000FF000000FF) << 8 |
         (even & 0x0000FF000000FF00) << 8 | (odd & 0x0000FF000000FF00) << 16;
}

// Words of 4 bytes of a row that are packed together: a cache line of the source.
constexpr std::int64_t kBlockWords = 16;

// Word w of a row, converted, goes to to + w * kChunkBytes. `convert` takes two at a time.
template <typename Convert>
inline void scatter_words(const std::uint8_t* row, std::int64_t words, std::uint8_t* to,
                          const Convert& convert) {
  std::int64_t w = 0;
  for (; w + 2 <= words; w += 2) {
    std::uint64_t pair;
    std::memcpy(&pair, row + 4 * w, sizeof pair);
    pair = convert(pair);
    const auto low = static_cast<std::uint32_t>(pair);
    const auto high = static_cast<std::uint32_t>(pair >> 32);
    std::memcpy(to + w * kChunkBytes, &low, sizeof low);
    std::memcpy(to + (w + 1) * kChunkBytes, &high, sizeof high);
  }
  if (w == words) return;
  std::uint32_t word;
  std::memcpy(&word, row + 4 * w, sizeof word);
  word = static_cast<std::uint32_t>(convert(std::uint64_t{word}));
  std::memcpy(to + w * kChunkBytes, &word, sizeof word);
}

// The last word of a row whose bytes are not whole words; what is missing is zero.
std::uint32_t short_word(const std::uint8_t* bytes, std::int64_t count) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes, static_cast<std::size_t>(count));
  return word;
}

// The codes of one group: `bytes_of_group` bytes from `begin` of every row.
void pack_liquid_codes(std::span<const Rows> runs, std::int64_t begin, std::int64_t bytes_of_group,
                       std::uint8_t* panel) {
  const std::int64_t words = bytes_of_group / 4;
  const std::int64_t rest = bytes_of_group % 4;
  std::int64_t r = 0;
  for (const Rows& run : runs) {
    const WeightView& weight = *run.part;
    for (std::int64_t i = 0; i < run.count; ++i, ++r) {
      const std::uint8_t* row = weight.packed + (run.first + i) * (weight.k / 2) + begin;
      scatter_words(row, words, panel + 4 * r,
                    [](std::uint64_t pair) { return liquid_words(pair); });
      if (rest > 0) {
        const auto word =
            static_cast<std::uint32_t>(liquid_words(short_word(row + 4 * words, rest)));
        std::memcpy(panel + words * kChunkBytes + 4 * r, &word, sizeof word);
      }
    }
  }
  const std::int64_t chunks = words + (rest > 0 ? 1 : 0);
  for (; r < kPanelRows; ++r) {
    for (std::int64_t c = 0; c < chunks; ++c) std::memset(panel + c * kChunkBytes + 4 * r, 0, 4);
  }
}

void pack_liquid_panel(std::span<const Rows> runs, std::uint8_t* panel) {
  const WeightView& first = *runs.front().part;
  const std::int64_t groups = group_count(first);
  for (std::int64_t group = 0; group < groups; ++group) {
    std::memset(panel, 1, kPanelRows);
    std::memset(panel + kPanelRows, 0, kPanelRows);
    std::int64_t r = 0;
    for (const Rows& run : runs) {
      for (std::int64_t i = 0; i < run.count; ++i, ++r) {
        panel[r] = run.part->step[(run.first + i) * groups + group];
        panel[kPanelRows + r] = run.part->offset[(run.first + i) * groups + group];
      }
    }
    panel += kGroupHeadBytes;
    const std::int64_t k = group * first.group_size;
    const std::int64_t k_end = std::min(first.k, k + first.group_size);
    pack_liquid_codes(runs, k / 2, (k_end - k) / 2, panel);
    panel += round_up(k_end - k, kLiquidChunk) / kLiquidChunk * kChunkBytes;
  }
}

void pack_int8_panel(std::span<const Rows> runs, std::uint8_t* panel) {
  // w8 + 128 as an unsigned byte is w8 with its sign bit turned.
  constexpr std::uint32_t kSigns = 0x80808080u;
  constexpr std::uint64_t kPairSigns = 0x8080808080808080u;
  const std::int64_t k = runs.front().part->k;
  const std::int64_t words = k / kInt8Chunk;
  const std::int64_t rest = k % kInt8Chunk;
  for (std::int64_t w0 = 0; w0 < words; w0 += kBlockWords) {
    const std::int64_t count = std::min(kBlockWords, words - w0);
    std::int64_t r = 0;
    for (const Rows& run : runs) {
      for (std::int64_t i = 0; i < run.count; ++i, ++r) {
        const auto* row =
            reinterpret_cast<const std::uint8_t*>(run.part->int8 + (run.first + i) * k);
        scatter_words(row + 4 * w0, count, panel + w0 * kChunkBytes + 4 * r,
                      [](std::uint64_t pair) { return pair ^ kPairSigns; });
      }
    }
    for (; r < kPanelRows; ++r) {
      for (std::int64_t w = w0; w < w0 + count; ++w) {
        std::memcpy(panel + w * kChunkBytes + 4 * r, &kSigns, sizeof kSigns);
      }
    }
  }
  if (rest == 0) return;
  panel += words * kChunkBytes;
  std::memset(panel, 128, kChunkBytes);
  std::int64_t r = 0;
  for (const Rows& run : runs) {
    for (std::int64_t i = 0; i < run.count; ++i, ++r) {
      const auto* row = reinterpret_cast<const std::uint8_t*>(run.part->int8 + (run.first + i) * k);
      const std::uint32_t word = short_word(row + 4 * words, rest) ^ kSigns;
      std::memcpy(panel + 4 * r, &word, sizeof word);
    }
  }
}

const float* row_of(const Rows& run, std::int64_t i, const float*) {
  return run.part->f32 + (run.first + i) * run.part->k;
}
const std::uint8_t* row_of(const Rows& run, std::int64_t i, const std::uint16_t*) {
  return run.part->f16 + (run.first + i) * run.part->k * kFp16Bytes;
}
void copy_value(const float* row, std::int64_t k, float* to) { *to = row[k]; }
void copy_value(const std::uint8_t* row, std::int64_t k, std::uint16_t* to) {
  std::memcpy(to, row + k * kFp16Bytes, kFp16Bytes);
}

// Value: float or binary16.
template <typename Value>
void pack_float_panel(std::span<const Rows> runs, int panel_rows, Value* panel) {
  const std::int64_t k_end = runs.front().part->k;
  // Blocks of k keep the lines of all rows in the cache while the panel is written in order.
  for (std::int64_t k0 = 0; k0 < k_end; k0 += kBlockWords) {
    const std::int64_t k1 = std::min(k_end, k0 + kBlockWords);
    std::int64_t r = 0;
    for (const Rows& run : runs) {
      for (std::int64_t i = 0; i < run.count; ++i, ++r) {
        const auto* row = row_of(run, i, panel);
        for (std::int64_t k = k0; k < k1; ++k) copy_value(row, k, panel + k * panel_rows + r);
      }
    }
    for (; r < panel_rows; ++r) {
      for (std::int64_t k = k0; k < k1; ++k) panel[k * panel_rows + r] = Value{};
    }
  }
}

// Panel `panel` of the stacked parts, checked and packed. `runs` is scratch.
Status pack_panel(std::span<const WeightView> parts, std::int64_t panel, int panel_rows,
                  PackedWeights& packed, std::vector<Rows>& runs) {
  runs.clear();
  Status status;
  for_runs(parts, panel * panel_rows, panel_rows, [&](const Rows& run, std::int64_t place) {
    runs.push_back(run);
    if (run.part->kind == Kind::kFloat) return;
    if (run.part->kind == Kind::kFp16) {
      if (status.ok())
        status = check_fp16_rows(fp16_rows(run), run.part->k, run.part->name, run.first);
      return;
    }
    std::copy_n(run.part->channel_scale + run.first, run.count,
                packed.channel_scale.as<float>() + panel * panel_rows + place);
    if (status.ok() && run.part->kind == Kind::kLiquid4) status = check_rows(run);
  });
  if (!status.ok()) return status;
  std::uint8_t* to = packed.data.get() + panel * packed.panel_bytes;
  switch (parts.front().kind) {
    case Kind::kLiquid4: pack_liquid_panel(runs, to); break;
    case Kind::kInt8: pack_int8_panel(runs, to); break;
    case Kind::kFloat: pack_float_panel(runs, panel_rows, reinterpret_cast<float*>(to)); break;
    case Kind::kFp16:
      pack_float_panel(runs, panel_rows, reinterpret_cast<std::uint16_t*>(to));
      break;
  }
  return ok_status();
}

Status no_memory(const WeightView& whole) {
  return resource_exhausted(whole.name + ": no memory for the packed weights (" +
                            std::to_string(whole.n) + " x " + std::to_string(whole.k) + ")");
}

std::shared_ptr<std::uint8_t> take_memory(HugePageMemory* memory, std::size_t bytes) {
  if (memory != nullptr) return memory->take(bytes);
  auto own = std::make_shared<AlignedBuffer>();
  if (!own->reserve(bytes)) return nullptr;
  return {own, own->as<std::uint8_t>()};
}

}  // namespace

Result<PackedWeights> lay_out_packed(const WeightView& whole, int panel_rows) {
  PackedWeights packed;
  packed.panels = (whole.n + panel_rows - 1) / panel_rows;
  packed.k_padded = whole.k;
  bool fits = true;
  switch (whole.kind) {
    case Kind::kLiquid4:
      packed.k_padded = round_up(whole.k, kLiquidChunk);
      packed.panel_bytes =
          group_count(whole) * kGroupHeadBytes + packed.k_padded / kLiquidChunk * kChunkBytes;
      break;
    case Kind::kInt8:
      packed.k_padded = round_up(whole.k, kInt8Chunk);
      packed.panel_bytes = packed.k_padded / kInt8Chunk * kChunkBytes;
      break;
    case Kind::kFloat:
      fits = !__builtin_mul_overflow(whole.k, panel_rows * std::int64_t{sizeof(float)},
                                     &packed.panel_bytes);
      break;
    case Kind::kFp16:
      fits = !__builtin_mul_overflow(whole.k, panel_rows * kFp16Bytes, &packed.panel_bytes);
      break;
  }
  std::int64_t bytes = 0;
  fits = fits && !__builtin_mul_overflow(packed.panels, packed.panel_bytes, &bytes);
  packed.bytes = static_cast<std::size_t>(bytes);
  if (!fits) return no_memory(whole);
  return packed;
}

Result<PackedWeights> allocate_packed(const WeightView& whole, int panel_rows,
                                      HugePageMemory* memory) {
  auto packed = lay_out_packed(whole, panel_rows);
  if (!packed.ok()) return packed;
  packed->data = take_memory(memory, packed->bytes);
  if (packed->data == nullptr) return no_memory(whole);
  if (whole.kind == Kind::kFloat || whole.kind == Kind::kFp16) return packed;
  const auto scales = static_cast<std::size_t>(packed->panels * panel_rows);
  if (!packed->channel_scale.reserve(scales * sizeof(float))) return no_memory(whole);
  std::fill_n(packed->channel_scale.as<float>(), scales, 0.0f);
  return packed;
}

Result<PackedWeights> pack_weights(std::span<const WeightView> parts, int panel_rows,
                                   ThreadPool& pool, HugePageMemory* memory) {
  WeightView whole = parts.front();
  whole.n = 0;
  for (const WeightView& part : parts) whole.n += part.n;
  auto allocated = allocate_packed(whole, panel_rows, memory);
  if (!allocated.ok()) return allocated;
  PackedWeights packed = std::move(*allocated);
  for (const WeightView& part : parts) {
    if (part.kind != Kind::kInt8) continue;
    Status status =
        check_int8_scales({part.channel_scale, static_cast<std::size_t>(part.n)}, part.name);
    if (!status.ok()) return status;
  }

  std::mutex mutex;
  Status failure;
  std::int64_t failed_panel = packed.panels;
  pool.parallel_for(packed.panels, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<Rows> runs;
    for (std::int64_t panel = begin; panel < end; ++panel) {
      Status status = pack_panel(parts, panel, panel_rows, packed, runs);
      if (status.ok()) continue;
      // Of several faults the one that lies first is reported, whatever the number of threads.
      std::lock_guard lock(mutex);
      if (panel < failed_panel) {
        failed_panel = panel;
        failure = std::move(status);
      }
      return;
    }
  });
  if (!failure.ok()) return failure;
  return packed;
}

void unpack_liquid_row(const PackedWeights& weights, std::int64_t k, int group_size,
                       std::int64_t row, float* out) {
  const std::uint8_t* panel = weights.data.get() + row / kPanelRows * weights.panel_bytes;
  const std::int64_t r = row % kPanelRows;
  const float scale = weights.channel_scale.as<float>()[row];
  for (std::int64_t begin = 0; begin < k; begin += group_size) {
    const int step = panel[r];
    const int offset = panel[kPanelRows + r];
    panel += kGroupHeadBytes;
    const std::int64_t end = std::min(k, begin + group_size);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t chunk = (i - begin) / kLiquidChunk;
      const std::int64_t place = (i - begin) % kLiquidChunk;
      const int byte = panel[chunk * kChunkBytes + 4 * r + place % 4];
      const int code = place < 4 ? byte & 0x0F : byte >> 4;
      out[i] = scale * static_cast<float>(code * step + offset - 128);
    }
    panel += round_up(end - begin, kLiquidChunk) / kLiquidChunk * kChunkBytes;
  }
}

void unpack_int8_row(const PackedWeights& weights, std::int64_t k, std::int64_t row, float* out) {
  const std::uint8_t* panel =
      weights.data.get() + row / kPanelRows * weights.panel_bytes + 4 * (row % kPanelRows);
  const float scale = weights.channel_scale.as<float>()[row];
  for (std::int64_t i = 0; i < k; ++i) {
    const int code = panel[i / kInt8Chunk * kChunkBytes + i % kInt8Chunk];
    out[i] = scale * static_cast<float>(code - 128);
  }
}

void unpack_float_row(const PackedWeights& weights, std::int64_t k, int panel_rows,
                      std::int64_t row, float* out) {
  const auto* panel =
      reinterpret_cast<const float*>(weights.data.get() + row / panel_rows * weights.panel_bytes);
  for (std::int64_t i = 0; i < k; ++i) out[i] = panel[i * panel_rows + row % panel_rows];
}

void unpack_fp16_row(const PackedWeights& weights, std::int64_t k, int panel_rows, std::int64_t row,
                     float* out) {
  const auto* panel = reinterpret_cast<const std::uint16_t*>(
      weights.data.get() + row / panel_rows * weights.panel_bytes);
  for (std::int64_t i = 0; i < k; ++i) {
    out[i] = f16_to_float(panel[i * panel_rows + row % panel_rows]);
  }
}

}  // namespace liquidgemm::cpu
