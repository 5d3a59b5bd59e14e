// tokenizer.json: whatever the bytes, an error or a tokenizer that encodes and decodes any text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace {

using liquidgemm::TokenId;
using liquidgemm::Tokenizer;

void require(bool condition) {
  if (!condition) std::abort();
}

void exercise(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<TokenId> ids = tokenizer.encode(text, true);
  for (const TokenId id : ids) require(id >= 0 && id < tokenizer.vocabulary_size());
  for (const bool skip : {false, true}) {
    liquidgemm::StreamingDetokenizer stream(tokenizer, skip);
    std::string streamed;
    for (const TokenId id : ids) streamed += stream.push(id);
    streamed += stream.flush();
    require(streamed == tokenizer.decode(ids, skip));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 1u << 16) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto spec = liquidgemm::parse_tokenizer_json(text, "fuzz.json");
  if (!spec.ok()) {
    require(!spec.status().message().empty());
    return 0;
  }
  const std::string written = liquidgemm::tokenizer_to_json(*spec);
  require(liquidgemm::parse_tokenizer_json(written, "written.json").ok());
  const auto tokenizer = Tokenizer::build(std::move(*spec), "fuzz.json");
  require(tokenizer.ok());  // parsing has checked everything
  exercise(*tokenizer,
           "It's 12345 caf\u0065\u0301 \u4e2d\u6587\U0001f600 \r\n\n  <|im_end|>\xff\xe2\x82");
  exercise(*tokenizer, text.substr(0, 4096));
  return 0;
}
