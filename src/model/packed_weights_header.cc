#include "model/packed_weights_header.h"

#include <bit>
#include <cstring>
#include <limits>

#include "base/siphash.h"
#include "base/status_macros.h"

namespace liquidgemm {
namespace {

static_assert(std::endian::native == std::endian::little, "the words are stored as they are");

using Word = std::uint64_t;

constexpr Word kMagic = 0x44454B434150514C;  // "LQPACKED"
constexpr std::size_t kFixedWords = PackedWeightsHeader::kFixedBytes / sizeof(Word);
constexpr std::size_t kMatrixWords = 7;
constexpr Word kMaxDimension = std::numeric_limits<std::int32_t>::max();
// Far above any machine, far below what overflows when it is added up.
constexpr Word kMaxMatrixBytes = Word{1} << 46;

std::size_t words_for(std::size_t matrices) { return kFixedWords + matrices * kMatrixWords + 1; }

std::uint64_t aligned(std::uint64_t offset) {
  constexpr std::uint64_t kAlignment = PackedWeightsHeader::kAlignment;
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

Word word_at(std::span<const std::byte> bytes, std::size_t index) {
  Word word;
  std::memcpy(&word, bytes.data() + index * sizeof word, sizeof word);
  return word;
}

Status expected(const std::string& field, Word found, const std::string& what) {
  return corrupt("header: field \"" + field + "\": " + std::to_string(found) + ", expected " +
                 what);
}

Status at_most(const std::string& field, Word found, Word most) {
  if (found <= most) return ok_status();
  return expected(field, found, "at most " + std::to_string(most));
}

Result<PackedMatrixEntry> parse_entry(std::span<const std::byte> bytes, std::size_t first) {
  const auto word = [&](std::size_t i) { return word_at(bytes, first + i); };
  LIQUIDGEMM_RETURN_IF_ERROR(at_most("kind", word(0), Word(WeightView::Kind::kFp16)));
  PackedMatrixEntry entry;
  entry.kind = static_cast<WeightView::Kind>(word(0));
  const Word group = word(1);
  const bool fits = entry.kind == WeightView::Kind::kLiquid4
                        ? group == 32 || group == 64 || group == 128
                        : group == 0;
  if (!fits) return expected("group_size", group, "32, 64 or 128 for 4-bit weights, else 0");
  entry.group_size = static_cast<int>(group);
  for (const std::size_t i : {2, 3}) {
    if (word(i) < 1 || word(i) > kMaxDimension) {
      return expected(i == 2 ? "n" : "k", word(i), "1 to " + std::to_string(kMaxDimension));
    }
  }
  entry.n = static_cast<std::int64_t>(word(2));
  entry.k = static_cast<std::int64_t>(word(3));
  entry.offset = word(4);
  LIQUIDGEMM_RETURN_IF_ERROR(at_most("bytes", word(5), kMaxMatrixBytes));
  entry.bytes = word(5);
  entry.checksum = word(6);
  return entry;
}

}  // namespace

std::uint64_t PackedWeightsHeader::header_bytes() const {
  return words_for(matrices.size()) * sizeof(Word);
}

std::uint64_t PackedWeightsHeader::file_bytes() const {
  return matrices.empty() ? header_bytes() : matrices.back().end();
}

void PackedWeightsHeader::lay_out() {
  std::uint64_t end = header_bytes();
  for (PackedMatrixEntry& entry : matrices) {
    entry.offset = aligned(end);
    end = entry.end();
  }
}

std::vector<std::byte> encode_packed_weights_header(const PackedWeightsHeader& header) {
  std::vector<Word> words{kMagic,
                          PackedWeightsHeader::kVersion,
                          kPackedLayoutVersion,
                          static_cast<Word>(header.key.isa),
                          static_cast<Word>(header.key.precision),
                          header.key.fingerprint,
                          header.file_bytes(),
                          header.matrices.size()};
  for (const PackedMatrixEntry& entry : header.matrices) {
    words.insert(words.end(), {static_cast<Word>(entry.kind), static_cast<Word>(entry.group_size),
                               static_cast<Word>(entry.n), static_cast<Word>(entry.k), entry.offset,
                               entry.bytes, entry.checksum});
  }
  words.push_back(siphash({}, std::as_bytes(std::span(words))));
  const auto bytes = std::as_bytes(std::span(words));
  return {bytes.begin(), bytes.end()};
}

Result<std::size_t> packed_weights_header_bytes(std::span<const std::byte> fixed) {
  if (fixed.size() < PackedWeightsHeader::kFixedBytes || word_at(fixed, 0) != kMagic) {
    return corrupt("not a file of packed weights");
  }
  if (word_at(fixed, 1) != PackedWeightsHeader::kVersion ||
      word_at(fixed, 2) != kPackedLayoutVersion) {
    return unsupported("written by another version of the program");
  }
  const Word count = word_at(fixed, kFixedWords - 1);
  LIQUIDGEMM_RETURN_IF_ERROR(at_most("matrices", count, PackedWeightsHeader::kMaxMatrices));
  return words_for(count) * sizeof(Word);
}

Result<PackedWeightsHeader> parse_packed_weights_header(std::span<const std::byte> bytes,
                                                        std::uint64_t file_bytes) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::size_t size, packed_weights_header_bytes(bytes));
  if (bytes.size() < size) return corrupt("header: ends too early");
  const std::size_t checked = size - sizeof(Word);
  if (word_at(bytes, checked / sizeof(Word)) != siphash({}, bytes.first(checked))) {
    return corrupt("header: damaged, its checksum is another");
  }
  PackedWeightsHeader header;
  LIQUIDGEMM_RETURN_IF_ERROR(at_most("isa", word_at(bytes, 3), std::size(kIsas) - 1));
  LIQUIDGEMM_RETURN_IF_ERROR(at_most("precision", word_at(bytes, 4), Word(Precision::kW4A8)));
  header.key.isa = static_cast<Isa>(word_at(bytes, 3));
  header.key.precision = static_cast<Precision>(word_at(bytes, 4));
  header.key.fingerprint = word_at(bytes, 5);
  std::uint64_t end = size;
  for (std::size_t first = kFixedWords; first < checked / sizeof(Word); first += kMatrixWords) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const PackedMatrixEntry entry, parse_entry(bytes, first));
    if (entry.offset != aligned(end)) {
      return expected("offset", entry.offset, std::to_string(aligned(end)));
    }
    end = entry.end();
    header.matrices.push_back(entry);
  }
  if (word_at(bytes, 6) != end || file_bytes != end) {
    return corrupt("has " + std::to_string(file_bytes) + " bytes, expected " + std::to_string(end));
  }
  return header;
}

}  // namespace liquidgemm
