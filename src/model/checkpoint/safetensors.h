// The safetensors container: eight bytes of header length (little endian), a JSON header, data.
//
//   {"name": {"dtype": "BF16", "shape": [576, 1536], "data_offsets": [begin, end]}, ...}
//
// Offsets count from the first byte after the header; the tensors tile the data without gaps or
// overlaps. "__metadata__" may hold a map of strings, which says nothing that matters here.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "liquidgemm/status.h"
#include "model/checkpoint/stored_tensors.h"

namespace liquidgemm {

// The format's own limit is 100 MB. A quarter holds the headers of 200,000 tensors, a hundred times
// what the largest dense models have, and bounds the memory that a hostile header can cost.
inline constexpr std::size_t kMaxSafetensorsHeader = 25'000'000;

// The tensors of a file, in the order of their data. Reads the header only; `file` is the whole
// file, so that every offset is checked against what is really there. `where` names the file.
Result<std::vector<StoredTensor>> parse_safetensors(std::span<const std::byte> file,
                                                    const std::string& where);

}  // namespace liquidgemm
