// Any bytes as a schema, a regular expression or a list of choices: checked, and where the grammar
// is small compiled and walked along for a few tokens. The first byte chooses the kind.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "engine/grammar.h"
#include "engine/grammar/spec_grammar.h"
#include "model/tokenizer/byte_alphabet.h"

namespace {

using namespace liquidgemm;

// The 256 bytes, two tokens of several, and one that ends an answer.
std::unique_ptr<GrammarCompiler> make_compiler() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    spec.vocabulary.push_back(alphabet_text_of_bytes(std::string(1, static_cast<char>(byte))));
  }
  for (const char* text : {"{\"", "\",", "true"}) {
    spec.vocabulary.push_back(alphabet_text_of_bytes(text));
  }
  const auto end = static_cast<TokenId>(spec.vocabulary.size());
  spec.vocabulary.emplace_back("<end>");
  AddedToken added;
  added.id = end;
  added.content = "<end>";
  added.special = true;
  spec.added_tokens.push_back(added);
  auto tokenizer = Tokenizer::build(std::move(spec), "fuzz");
  if (!tokenizer.ok()) std::abort();
  auto compiler = GrammarCompiler::create(*tokenizer, {end});
  return compiler.ok() ? std::move(*compiler) : nullptr;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::unique_ptr<GrammarCompiler> kCompiler = make_compiler();
  if (size == 0) return 0;
  GrammarSpec spec;
  std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0]) {
    case 'r': spec.kind = GrammarSpec::Kind::kRegex; break;
    case 'c': spec.kind = GrammarSpec::Kind::kChoice; break;
    default: spec.kind = GrammarSpec::Kind::kJsonSchema; break;
  }
  if (spec.kind == GrammarSpec::Kind::kChoice) {
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      spec.choices.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  } else {
    spec.text = std::move(text);
  }
  const auto grammar = spec_grammar(spec, GrammarLimits());
  if (!grammar.ok() || grammar->size() > 6000 || !kCompiler) return 0;
  auto constraint = kCompiler->compile(spec);
  if (!constraint.ok()) std::abort();  // what passes the check compiles
  std::array<std::uint32_t, 9> mask = {};
  for (std::size_t step = 0; step < 24; ++step) {
    (*constraint)->allowed(mask);
    TokenId chosen = -1;
    const std::size_t from = data[step % size] + 31 * step;
    for (std::size_t i = 0; i < 260 && chosen < 0; ++i) {
      const std::size_t id = (from + i) % 260;
      if (mask[id / 32] >> id % 32 & 1) chosen = static_cast<TokenId>(id);
    }
    if (chosen < 0) std::abort();  // with every byte in the vocabulary something may always come
    if (!(*constraint)->accept(chosen)) std::abort();
    if (chosen == 259) break;
  }
  return 0;
}
