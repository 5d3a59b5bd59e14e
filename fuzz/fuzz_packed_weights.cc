// The header of a file of packed weights: every accepted matrix must lie inside the file, apart
// from all others, and the header must come back as it was.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/siphash.h"
#include "model/packed_weights_header.h"

using liquidgemm::PackedMatrixEntry;
using liquidgemm::PackedWeightsHeader;

namespace {

void check(const PackedWeightsHeader& header, std::span<const std::byte> bytes,
           std::uint64_t file_bytes) {
  std::uint64_t end = header.header_bytes();
  for (const PackedMatrixEntry& entry : header.matrices) {
    if (entry.offset < end || entry.offset % PackedWeightsHeader::kAlignment != 0) std::abort();
    if (entry.n < 1 || entry.k < 1) std::abort();
    if (entry.end() < entry.offset || entry.end() > file_bytes) std::abort();
    end = entry.end();
  }
  const std::vector<std::byte> again = liquidgemm::encode_packed_weights_header(header);
  if (again.size() > bytes.size()) std::abort();
  if (!std::equal(again.begin(), again.end(), bytes.begin())) std::abort();
}

}  // namespace

// The first 8 bytes are the size that the file is said to have. The header is read once as it is,
// and once with its checksum made right, which chance would never find.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t file_bytes = 0;
  if (size < sizeof file_bytes) return 0;
  std::memcpy(&file_bytes, data, sizeof file_bytes);
  const auto given = std::as_bytes(std::span(data, size)).subspan(sizeof file_bytes);
  std::vector<std::byte> bytes(given.begin(), given.end());
  for (const bool repair : {false, true}) {
    const auto needed = liquidgemm::packed_weights_header_bytes(bytes);
    if (repair && needed.ok() && *needed <= bytes.size()) {
      const std::size_t checked = *needed - sizeof(std::uint64_t);
      const std::uint64_t sum = liquidgemm::siphash({}, std::span(bytes).first(checked));
      std::memcpy(bytes.data() + checked, &sum, sizeof sum);
    }
    const auto header = liquidgemm::parse_packed_weights_header(bytes, file_bytes);
    if (header.ok()) check(*header, bytes, file_bytes);
  }
  return 0;
}
