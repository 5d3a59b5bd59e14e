// Random answers under a constraint.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "engine/grammar.h"
#include "model/checkpoint/model_source.h"
#include "smollm2_path.h"

namespace liquidgemm::testing {

// What the tests walk over: a small vocabulary of the repository, and SmolLM2's where it is there.
struct Vocabulary {
  explicit Vocabulary(Tokenizer a_tokenizer) : tokenizer(std::move(a_tokenizer)) {
    for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) {
      if (tokenizer.is_special(id)) ends = {id};
    }
  }
  Tokenizer tokenizer;
  std::vector<TokenId> ends;
};

inline std::shared_ptr<Vocabulary> small_vocabulary() {
  const std::string path = std::string(LIQUIDGEMM_TEST_DATA) + "/tokenizer/smollm.tokenizer.json";
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  auto spec = parse_tokenizer_json(text, path);
  EXPECT_TRUE(spec.ok()) << spec.status().to_string();
  auto tokenizer = Tokenizer::build(std::move(*spec), path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  return std::make_shared<Vocabulary>(std::move(*tokenizer));
}

// Null where the model is not there, or sanitizers make so large a vocabulary too slow.
inline std::shared_ptr<Vocabulary> smollm2_vocabulary() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return nullptr;
#endif
  if (!MappedFile::open(smollm2_path()).ok()) return nullptr;
  auto source = open_model_source(smollm2_path());
  EXPECT_TRUE(source.ok()) << source.status().to_string();
  auto tokenizer = Tokenizer::build(source->tokenizer, "SmolLM2");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  return std::make_shared<Vocabulary>(std::move(*tokenizer));
}

class Walker {
 public:
  Walker(const Vocabulary& vocabulary, std::uint64_t seed)
      : vocabulary_(vocabulary), random_(seed) {}

  // The text of a random answer: any allowed token for a while, then those that end it.
  // Nothing, with a test failure, if it does not end.
  std::optional<std::string> walk(TokenConstraint& constraint, int free_tokens = 40) {
    const Tokenizer& tokenizer = vocabulary_.tokenizer;
    const auto size = static_cast<std::size_t>(tokenizer.vocabulary_size());
    std::vector<std::uint32_t> mask(size / 32 + 3, ~0u);  // longer than needed: padding
    std::string text;
    for (int step = 0; step < 3000; ++step) {
      EXPECT_TRUE(constraint.allowed(mask));
      std::vector<TokenId> allowed;
      for (std::size_t id = 0; id < 32 * mask.size(); ++id) {
        if ((mask[id / 32] >> id % 32 & 1) == 0) continue;
        allowed.push_back(static_cast<TokenId>(id));
        const bool known = id < size;
        EXPECT_TRUE(known) << "token " << id << " is beyond the vocabulary";
        EXPECT_TRUE(!known || is_end(allowed.back()) || !tokenizer.is_special(allowed.back()));
      }
      if (allowed.empty()) {
        ADD_FAILURE() << "nothing may follow " << text;
        return std::nullopt;
      }
      const TokenId forbidden = pick_forbidden(mask, size);
      EXPECT_TRUE(forbidden < 0 || !constraint.accept(forbidden)) << text;
      const TokenId token = step < free_tokens ? pick(allowed) : pick_closing(allowed);
      if (!constraint.accept(token)) {
        ADD_FAILURE() << "token " << token << " was allowed but not accepted after " << text;
        return std::nullopt;
      }
      if (is_end(token)) {
        EXPECT_FALSE(constraint.accept(token)) << "after the end";
        return text;
      }
      text += tokenizer.token_bytes(token);
    }
    ADD_FAILURE() << "the answer does not end: " << text.substr(0, 500);
    return std::nullopt;
  }

  std::mt19937_64& random() { return random_; }

 private:
  bool is_end(TokenId token) const {
    return std::find(vocabulary_.ends.begin(), vocabulary_.ends.end(), token) !=
           vocabulary_.ends.end();
  }
  std::size_t below(std::size_t limit) { return random_() % limit; }
  TokenId pick_forbidden(const std::vector<std::uint32_t>& mask, std::size_t size) {
    const std::size_t id = below(size);
    return (mask[id / 32] >> id % 32 & 1) == 0 ? static_cast<TokenId>(id) : -1;
  }
  // Short tokens as often as long ones: what stands at the joints of an answer is short.
  TokenId pick(const std::vector<TokenId>& allowed) {
    TokenId token = allowed[below(allowed.size())];
    if (below(2) == 0) return token;
    for (int i = 0; i < 20; ++i) {
      const TokenId other = allowed[below(allowed.size())];
      if (vocabulary_.tokenizer.token_bytes(other).size() <
          vocabulary_.tokenizer.token_bytes(token).size()) {
        token = other;
      }
    }
    return token;
  }
  // The end, what closes, or any short token: whatever is open ends sooner or later.
  TokenId pick_closing(const std::vector<TokenId>& allowed) {
    const auto find = [&](std::string_view bytes) {
      const auto found = std::find_if(allowed.begin(), allowed.end(), [&](TokenId token) {
        return vocabulary_.tokenizer.token_bytes(token) == bytes;
      });
      return found == allowed.end() ? TokenId{-1} : *found;
    };
    for (const TokenId token : allowed) {
      if (is_end(token)) return token;
    }
    const bool in_string = find("~") >= 0;
    if (in_string && find("\"") >= 0) return find("\"");
    if (below(2) == 0) {
      for (const std::string_view closing : {"}", "]", "\"", "0", "n"}) {
        if (const TokenId token = find(closing); token >= 0) return token;
      }
    }
    std::vector<TokenId> shortest;
    for (const TokenId token : allowed) {
      if (vocabulary_.tokenizer.token_bytes(token).size() == 1) shortest.push_back(token);
    }
    return shortest.empty() ? pick(allowed) : shortest[below(shortest.size())];
  }

  const Vocabulary& vocabulary_;
  std::mt19937_64 random_;
};

// Whether `text` is a whole answer, taken a token at a time.
inline bool accepts(GrammarCompiler& compiler, const Vocabulary& vocabulary,
                    const GrammarSpec& spec, std::string_view text) {
  auto constraint = compiler.compile(spec);
  EXPECT_TRUE(constraint.ok()) << constraint.status().to_string();
  if (!constraint.ok()) return false;
  for (const TokenId token : vocabulary.tokenizer.encode(text, false)) {
    if (!(*constraint)->accept(token)) return false;
  }
  return (*constraint)->accept(vocabulary.ends[0]);
}

inline GrammarSpec schema_spec(std::string schema) {
  return {GrammarSpec::Kind::kJsonSchema, std::move(schema), {}};
}
inline GrammarSpec regex_spec(std::string regex) {
  return {GrammarSpec::Kind::kRegex, std::move(regex), {}};
}
inline GrammarSpec choice_spec(std::vector<std::string> choices) {
  return {GrammarSpec::Kind::kChoice, "", std::move(choices)};
}

}  // namespace liquidgemm::testing
