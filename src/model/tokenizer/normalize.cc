#include "model/tokenizer/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "model/tokenizer/unicode_class.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

struct Unit {
  utf8proc_int32_t code_point;
  utf8proc_propval_t combining_class;
};

// No character below U+0300 (bytes cc 80) changes under NFC unless a later one does.
bool surely_normal(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0xcc; });
}

void append_decomposition(char32_t code_point, std::vector<Unit>& units) {
  // The longest canonical decomposition has four code points.
  utf8proc_int32_t parts[16];
  int boundary_class = 0;
  utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts,
                                                   16, UTF8PROC_DECOMPOSE, &boundary_class);
  if (count < 0 || count > 16) {
    parts[0] = static_cast<utf8proc_int32_t>(code_point);
    count = 1;
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    units.push_back({parts[i], utf8proc_get_property(parts[i])->combining_class});
  }
}

// Marks between two starters go in the order of their class. utf8proc's own routine does this by
// swapping neighbours, which a hostile text makes quadratic.
void order_marks(std::vector<Unit>& units) {
  for (std::size_t i = 0; i < units.size();) {
    std::size_t end = i;
    while (end < units.size() && units[end].combining_class != 0) ++end;
    std::stable_sort(
        units.begin() + static_cast<std::ptrdiff_t>(i),
        units.begin() + static_cast<std::ptrdiff_t>(end),
        [](const Unit& a, const Unit& b) { return a.combining_class < b.combining_class; });
    i = end + 1;
  }
}

// Normalises one stretch between inert characters and clears it.
void flush(std::vector<Unit>& units, std::string& out) {
  if (units.empty()) return;
  order_marks(units);
  std::vector<utf8proc_int32_t> points(units.size());
  std::transform(units.begin(), units.end(), points.begin(),
                 [](const Unit& unit) { return unit.code_point; });
  // STABLE leaves out the compositions that Unicode excludes.
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    append_utf8(static_cast<char32_t>(points[static_cast<std::size_t>(i)]), out);
  }
  units.clear();
}

}  // namespace

std::string normalize_nfc(std::string_view text) {
  if (surely_normal(text)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  std::vector<Unit> units;
  for (std::size_t position = 0; position < text.size();) {
    const CodePoint point = code_point_at(text, position);
    // An inert character is a starter that joins with nothing, so the text falls apart there.
    if (unicode_class(point.value) & kInert) {
      flush(units, out);
      out.append(text.substr(position, point.length));
    } else {
      append_decomposition(point.value, units);
    }
    position += point.length;
  }
  flush(units, out);
  return out;
}

}  // namespace liquidgemm
