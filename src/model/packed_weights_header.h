// What stands at the beginning of a file of packed weights.
//
//   64-bit words, little endian:
//     "LQPACKED", kVersion, layout version, instruction set, precision, fingerprint, bytes of the
//     file, number of matrices
//     for each matrix: kind, group size (0: none), n, k, offset, bytes of its panels, checksum
//     SipHash of all words before
//   then each matrix at a multiple of kAlignment: its panels as the kernels read them, and but for
//   floats its n scales (float32).
//
// Nothing of a file is believed: all sizes and places follow from the table, and the table must be
// that of the model at hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "gemm/packed.h"
#include "liquidgemm/status.h"
#include "model/weights.h"

namespace liquidgemm {

// How the names of these files begin in a model's folder.
inline constexpr std::string_view kPackedWeightsPrefix = "packed-weights.";

// What a file was made for and from; a file with another key is of no use.
struct PackedWeightsKey {
  Isa isa = Isa::kScalar;
  Precision precision = Precision::kW4A8;
  std::uint64_t fingerprint = 0;  // of the checkpoint and all that decides on the weights
  bool operator==(const PackedWeightsKey&) const = default;
};

struct PackedMatrixEntry {
  WeightView::Kind kind = WeightView::Kind::kLiquid4;
  int group_size = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::uint64_t offset = 0;  // of the panels
  std::uint64_t bytes = 0;   // of the panels
  std::uint64_t checksum = 0;

  std::uint64_t scale_bytes() const {
    const bool scaled = kind == WeightView::Kind::kLiquid4 || kind == WeightView::Kind::kInt8;
    return scaled ? static_cast<std::uint64_t>(n) * sizeof(float) : 0;
  }
  std::uint64_t end() const { return offset + bytes + scale_bytes(); }
};

struct PackedWeightsHeader {
  static constexpr std::uint64_t kVersion = 1;
  static constexpr std::uint64_t kAlignment = 4096;
  static constexpr std::size_t kFixedBytes = 64;
  static constexpr std::uint64_t kMaxMatrices = std::uint64_t{1} << 16;

  PackedWeightsKey key;
  std::vector<PackedMatrixEntry> matrices;

  std::uint64_t header_bytes() const;
  std::uint64_t file_bytes() const;
  // Sets every offset: the matrices follow each other.
  void lay_out();
};

// With the offsets of lay_out.
std::vector<std::byte> encode_packed_weights_header(const PackedWeightsHeader& header);

// How long the header is, from its first kFixedBytes. Error: not such a file, another version.
Result<std::size_t> packed_weights_header_bytes(std::span<const std::byte> fixed);
// `bytes` are as many as packed_weights_header_bytes says. In what is returned every matrix lies
// where lay_out puts it, and the last one ends with the file.
Result<PackedWeightsHeader> parse_packed_weights_header(std::span<const std::byte> bytes,
                                                        std::uint64_t file_bytes);

}  // namespace liquidgemm
