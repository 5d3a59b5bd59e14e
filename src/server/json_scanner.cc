#include "server/json_scanner.h"

namespace liquidgemm::server {
namespace {

bool is_space(char byte) { return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; }
bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

}  // namespace

JsonScanner::Token JsonScanner::push(char byte) {
  switch (state_) {
    case State::kString:
    case State::kEscape:
    case State::kLowEscape:
    case State::kLowU: return in_string(byte);
    case State::kHex: return in_hex(byte);
    case State::kLiteral:
      if (byte != literal_.front()) return Token::kError;
      literal_.remove_prefix(1);
      return next(literal_.empty() ? after_any_value() : State::kLiteral, Token::kInside);
    case State::kMinus:
    case State::kZero:
    case State::kDigits:
    case State::kPoint:
    case State::kFraction:
    case State::kExponent:
    case State::kExponentSign:
    case State::kExponentDigits: return in_number(byte);
    default: break;
  }
  if (is_space(byte)) return Token::kSpace;
  switch (state_) {
    case State::kValue: return begin_value(byte);
    case State::kFirstElement: return byte == ']' ? close(false) : begin_value(byte);
    case State::kFirstKey:
      if (byte == '}') return close(true);
      [[fallthrough]];
    case State::kKey:
      if (byte != '"') return Token::kError;
      is_key_ = true;
      return next(State::kString, Token::kKeyBegin);
    case State::kColon:
      return byte == ':' ? next(State::kValue, Token::kPunctuation) : Token::kError;
    case State::kAfterValue: return after_value(byte);
    default: return Token::kError;  // something after the end
  }
}

JsonScanner::Token JsonScanner::begin_value(char byte) {
  switch (byte) {
    case '{': return open(true);
    case '[': return open(false);
    case '"': is_key_ = false; return next(State::kString, Token::kStringBegin);
    case 't': return begin_literal("rue");
    case 'f': return begin_literal("alse");
    case 'n': return begin_literal("ull");
    case '-': return next(State::kMinus, Token::kScalarBegin);
    case '0': return next(State::kZero, Token::kScalarBegin);
    default: return is_digit(byte) ? next(State::kDigits, Token::kScalarBegin) : Token::kError;
  }
}

JsonScanner::Token JsonScanner::begin_literal(std::string_view rest) {
  literal_ = rest;
  return next(State::kLiteral, Token::kScalarBegin);
}

JsonScanner::Token JsonScanner::open(bool object) {
  if (depth_ == kMaxDepth) return Token::kError;
  const std::uint64_t bit = std::uint64_t{1} << depth_;
  objects_ = object ? objects_ | bit : objects_ & ~bit;
  ++depth_;
  return object ? next(State::kFirstKey, Token::kOpenObject)
                : next(State::kFirstElement, Token::kOpenArray);
}

JsonScanner::Token JsonScanner::close(bool object) {
  if (in_object() != object) return Token::kError;
  --depth_;
  return next(after_any_value(), Token::kClose);
}

JsonScanner::Token JsonScanner::after_value(char byte) {
  if (byte == ',') return next(in_object() ? State::kKey : State::kValue, Token::kPunctuation);
  if (byte == '}' || byte == ']') return close(byte == '}');
  return Token::kError;
}

JsonScanner::Token JsonScanner::in_string(char byte) {
  if (state_ == State::kLowEscape) {
    return byte == '\\' ? next(State::kLowU, Token::kInside) : Token::kError;
  }
  if (state_ == State::kEscape || state_ == State::kLowU) {
    if (byte == 'u') {
      hex_left_ = 4;
      code_unit_ = 0;
      return next(State::kHex, Token::kInside);
    }
    const bool known = std::string_view("\"\\/bfnrt").find(byte) != std::string_view::npos;
    if (state_ == State::kLowU || !known) return Token::kError;
    return next(State::kString, Token::kInside);
  }
  if (byte == '"') {
    return is_key_ ? next(State::kColon, Token::kKeyEnd)
                   : next(after_any_value(), Token::kStringEnd);
  }
  if (byte == '\\') return next(State::kEscape, Token::kInside);
  return static_cast<unsigned char>(byte) < 0x20 ? Token::kError : Token::kInside;
}

JsonScanner::Token JsonScanner::in_hex(char byte) {
  int digit = 0;
  if (is_digit(byte)) {
    digit = byte - '0';
  } else if (byte >= 'a' && byte <= 'f') {
    digit = byte - 'a' + 10;
  } else if (byte >= 'A' && byte <= 'F') {
    digit = byte - 'A' + 10;
  } else {
    return Token::kError;
  }
  code_unit_ = static_cast<std::uint16_t>(code_unit_ << 4 | digit);
  if (--hex_left_ > 0) return Token::kInside;
  const bool high = code_unit_ >= 0xd800 && code_unit_ < 0xdc00;
  const bool low = code_unit_ >= 0xdc00 && code_unit_ < 0xe000;
  if (low != after_high_) return Token::kError;
  after_high_ = high;
  return next(high ? State::kLowEscape : State::kString, Token::kInside);
}

JsonScanner::Token JsonScanner::in_number(char byte) {
  const bool digit = is_digit(byte);
  const bool exponent = byte == 'e' || byte == 'E';
  switch (state_) {
    case State::kMinus:
      if (!digit) return Token::kError;
      return next(byte == '0' ? State::kZero : State::kDigits, Token::kInside);
    case State::kZero:
    case State::kDigits:
      if (digit) return state_ == State::kDigits ? Token::kInside : Token::kError;
      if (byte == '.') return next(State::kPoint, Token::kInside);
      if (exponent) return next(State::kExponent, Token::kInside);
      return end_of_number(byte);
    case State::kPoint: return digit ? next(State::kFraction, Token::kInside) : Token::kError;
    case State::kFraction:
      if (digit) return Token::kInside;
      if (exponent) return next(State::kExponent, Token::kInside);
      return end_of_number(byte);
    case State::kExponent:
      if (byte == '+' || byte == '-') return next(State::kExponentSign, Token::kInside);
      [[fallthrough]];
    case State::kExponentSign:
      return digit ? next(State::kExponentDigits, Token::kInside) : Token::kError;
    default: return digit ? Token::kInside : end_of_number(byte);
  }
}

// Nothing but the next byte tells where a number ends.
JsonScanner::Token JsonScanner::end_of_number(char byte) {
  state_ = after_any_value();
  if (is_space(byte)) return Token::kSpace;
  return state_ == State::kDone ? Token::kError : after_value(byte);
}

}  // namespace liquidgemm::server
