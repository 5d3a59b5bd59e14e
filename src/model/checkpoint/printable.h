// Names out of files, made safe to print: a hostile file must not drive the terminal or fill it.
#pragma once

#include <string>
#include <string_view>

namespace liquidgemm {

// Control bytes and non-ASCII bytes as \xNN; cut after 120 bytes.
std::string escaped(std::string_view text);
// The same in quotes.
std::string printable(std::string_view text);

}  // namespace liquidgemm
