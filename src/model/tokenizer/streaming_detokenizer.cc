#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string StreamingDetokenizer::push(TokenId id) {
  std::string text;
  if (skip_special_tokens_ && tokenizer_->is_special(id)) return text;
  pending_ += tokenizer_->token_bytes(id);
  // At most three bytes stay: the beginning of a character that may still be completed.
  pending_.erase(0, append_repaired(pending_, /*at_end=*/false, text));
  return text;
}

std::string StreamingDetokenizer::flush() {
  std::string text;
  append_repaired(pending_, /*at_end=*/true, text);
  pending_.clear();
  return text;
}

}  // namespace liquidgemm
