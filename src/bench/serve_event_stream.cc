#include "bench/serve_event_stream.h"

#include <utility>

#include "base/status_macros.h"

namespace liquidgemm::bench {

Status EventStream::take(std::string_view part) {
  if (line_.size() + data_.size() + part.size() > kMaxEventBytes) {
    return corrupt("an event of the stream is longer than " + std::to_string(kMaxEventBytes) +
                   " bytes");
  }
  line_.append(part);
  return ok_status();
}

Status EventStream::feed(std::string_view bytes, std::vector<std::string>& events) {
  while (!bytes.empty()) {
    if (std::exchange(after_return_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const std::size_t end = bytes.find_first_of("\r\n");
    LIQUIDGEMM_RETURN_IF_ERROR(take(bytes.substr(0, end)));
    if (end == std::string_view::npos) break;
    after_return_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    end_line(events);
  }
  return ok_status();
}

Status EventStream::finish(std::vector<std::string>& events) {
  if (!line_.empty()) end_line(events);
  dispatch(events);
  return ok_status();
}

void EventStream::end_line(std::vector<std::string>& events) {
  std::string_view line = line_;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (std::exchange(first_line_, false) && line.substr(0, 3) == kByteOrderMark) {
    line.remove_prefix(kByteOrderMark.size());
  }
  if (line.empty()) {
    dispatch(events);
  } else if (const std::size_t colon = line.find(':'); line.substr(0, colon) == "data") {
    std::string_view value;
    if (colon != std::string_view::npos) value = line.substr(colon + 1);
    if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_.append(value);
    has_data_ = true;
  }
  line_.clear();
}

void EventStream::dispatch(std::vector<std::string>& events) {
  if (has_data_) events.push_back(std::exchange(data_, {}));
  has_data_ = false;
}

}  // namespace liquidgemm::bench
