// Server-sent events, read from bytes that may be cut anywhere.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::bench {

// Lines end with LF, CRLF or CR. Comments and fields other than "data" are skipped; the data lines
// of one event are joined with LF.
class EventStream {
 public:
  static constexpr std::size_t kMaxEventBytes = std::size_t{4} << 20;

  // Appends the data of each event that `bytes` complete. Error: an event above kMaxEventBytes.
  Status feed(std::string_view bytes, std::vector<std::string>& events);
  // The stream ends: an event that only lacks its empty line counts.
  Status finish(std::vector<std::string>& events);

 private:
  Status take(std::string_view part);
  void end_line(std::vector<std::string>& events);
  void dispatch(std::vector<std::string>& events);

  std::string line_;
  std::string data_;
  bool has_data_ = false;  // an empty data line is data, too
  bool after_return_ = false;
  bool first_line_ = true;
};

}  // namespace liquidgemm::bench
