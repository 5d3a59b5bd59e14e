// Cuts a template into text and the tokens of its tags, with Jinja's rules for white space.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"
#include "model/chat/runtime.h"

namespace liquidgemm::chat {

enum class TokenKind : std::uint8_t {
  kText,        // outside tags
  kBlockBegin,  // {%
  kBlockEnd,
  kPrintBegin,  // {{
  kPrintEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  // `text` says which
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;  // of a string: with its escapes resolved
  std::int64_t integer = 0;
  double real = 0;
  std::size_t offset = 0;

  bool is_operator(std::string_view name) const {
    return kind == TokenKind::kOperator && text == name;
  }
  bool is_name(std::string_view name) const { return kind == TokenKind::kName && text == name; }
};

// Every line break as '\n', and without one break at the very end: what the offsets count in.
std::string normalize_newlines(std::string_view text);

// The list ends with one kEnd token.
Result<std::vector<Token>> tokenize(const Source& source);

}  // namespace liquidgemm::chat
