#include "engine/grammar/json_space.h"

#include <algorithm>

namespace liquidgemm {

JsonSpace::JsonSpace(const std::vector<std::string>& texts) {
  begins_.reserve(texts.size() + 1);
  begins_.push_back(0);
  forbidden_.assign(kPlaces, std::vector<std::uint32_t>((texts.size() + 31) / 32));
  for (std::size_t token = 0; token < texts.size(); ++token) {
    bytes_ += texts[token];
    begins_.push_back(bytes_.size());
    if (texts[token].find_first_of(" \t\n") == std::string::npos) continue;
    for (Place place = 0; place < kPlaces; ++place) {
      if (behind(place, texts[token]) != kTooMuch) continue;
      forbidden_[place][token / 32] |= 1u << (token % 32);
    }
  }
}

JsonSpace::Place JsonSpace::next(Place place, char c) {
  if (place == kEscape) return kInString;
  if (place == kInString) {
    if (c == '\\') return kEscape;
    return c == '"' ? kBeginning : kInString;
  }
  switch (c) {
    case '\n': return place == kBeginning ? kLine : kTooMuch;
    case ' ':
    case '\t':
      if (place == kBeginning) return c == ' ' ? kBlank : kTooMuch;
      if (place == kBlank || place == kLine + kMaxIndent) return kTooMuch;
      return static_cast<Place>(place + 1);
    case '"': return kInString;
    default: return kBeginning;
  }
}

JsonSpace::Place JsonSpace::behind(Place place, std::string_view text) {
  for (const char c : text) {
    place = next(place, c);
    if (place == kTooMuch) break;
  }
  return place;
}

void JsonSpace::clear_forbidden(Place place, std::span<std::uint32_t> mask) const {
  const std::vector<std::uint32_t>& forbidden = forbidden_[place];
  for (std::size_t i = 0; i < std::min(mask.size(), forbidden.size()); ++i) {
    mask[i] &= ~forbidden[i];
  }
}

JsonSpace::Place JsonSpace::after(Place place, TokenId token) const {
  return behind(place, text(token));
}

}  // namespace liquidgemm
