// Unicode normalisation form C, as Hugging Face's `NFC` normaliser does it.
#pragma once

#include <string>
#include <string_view>

namespace liquidgemm {

// The text must be valid UTF-8. O(n log n) for any text, also for long runs of combining marks.
std::string normalize_nfc(std::string_view text);

}  // namespace liquidgemm
