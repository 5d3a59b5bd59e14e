// Checks JSON one byte at a time, while it is still being written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace liquidgemm::server {

// Exactly the grammar of RFC 8259, nested at most kMaxDepth deep, with escaped surrogates in pairs:
// what ends without an error, any JSON parser reads. Bytes above 0x7f inside strings are taken as
// they come. The state has a fixed size whatever the text.
class JsonScanner {
 public:
  static constexpr int kMaxDepth = 64;

  // What a byte was.
  enum class Token : std::uint8_t {
    kError,   // no JSON can go on this way, or it is nested too deep; push nothing more
    kInside,  // of a string, a key, a number or a literal
    kSpace,
    kPunctuation,  // a comma or a colon
    kKeyBegin,     // the two quotes of an object's key
    kKeyEnd,
    kStringBegin,
    kStringEnd,
    kScalarBegin,  // of a number, true, false or null
    kOpenObject,
    kOpenArray,
    kClose,
  };

  Token push(char byte);
  // How many objects and arrays are open, after the last byte.
  int depth() const { return depth_; }

 private:
  enum class State : std::uint8_t {
    kValue,
    kFirstElement,  // a value, or the end of an empty array
    kFirstKey,      // a key, or the end of an empty object
    kKey,
    kColon,
    kAfterValue,
    kString,
    kEscape,
    kHex,
    kLowEscape,  // the backslash of a low surrogate, then its u
    kLowU,
    kLiteral,
    kMinus,
    kZero,
    kDigits,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits,
    kDone,
  };

  Token next(State state, Token token) {
    state_ = state;
    return token;
  }
  Token begin_value(char byte);
  Token begin_literal(std::string_view rest);
  Token open(bool object);
  Token close(bool object);
  Token after_value(char byte);
  Token in_string(char byte);
  Token in_hex(char byte);
  Token in_number(char byte);
  Token end_of_number(char byte);
  bool in_object() const { return depth_ > 0 && (objects_ >> (depth_ - 1) & 1) != 0; }
  State after_any_value() const { return depth_ == 0 ? State::kDone : State::kAfterValue; }

  State state_ = State::kValue;
  bool is_key_ = false;        // the string being read
  bool after_high_ = false;    // a low surrogate must come
  std::uint8_t hex_left_ = 0;  // digits of an escape that are still to come
  std::uint16_t code_unit_ = 0;
  int depth_ = 0;
  std::uint64_t objects_ = 0;  // bit d: what is open at depth d + 1 is an object
  std::string_view literal_;   // what of a literal is still to come
};

}  // namespace liquidgemm::server
