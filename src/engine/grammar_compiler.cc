// GrammarCompiler and its constraints over xgrammar: the only file that includes its headers.
//
// xgrammar sees nothing that a request brought: the text that it compiles is written by
// spec_grammar(), within limits that bound the time this takes. Its exceptions end here.

#include <dlpack/dlpack.h>
#include <fmt/format.h>
#include <xgrammar/compiler.h>
#include <xgrammar/matcher.h>
#include <xgrammar/tokenizer_info.h>

#include <algorithm>
#include <exception>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/status_macros.h"
#include "engine/grammar.h"
#include "engine/grammar/json_space.h"
#include "engine/grammar/spec_grammar.h"

namespace liquidgemm {
namespace {

constexpr TokenId kMaxVocabulary = 1 << 24;
constexpr std::size_t kMaxCachedBytes = 256u << 20;

void set_bit(std::span<std::uint32_t> mask, TokenId token) {
  const auto bit = static_cast<std::size_t>(token);
  if (bit / 32 < mask.size()) mask[bit / 32] |= 1u << (bit % 32);
}

class XgrammarConstraint : public TokenConstraint {
 public:
  // `space`: null where the answer is not JSON.
  XgrammarConstraint(const xgrammar::CompiledGrammar& grammar,
                     std::shared_ptr<const std::vector<TokenId>> end_tokens,
                     std::shared_ptr<const JsonSpace> space, int vocabulary)
      : matcher_(grammar),
        end_tokens_(std::move(end_tokens)),
        space_(std::move(space)),
        words_(static_cast<std::size_t>(xgrammar::GetBitmaskSize(vocabulary))),
        vocabulary_(vocabulary) {}

  bool allowed(std::span<std::uint32_t> mask) override {
    std::fill(mask.begin(), mask.end(), 0u);
    if (fill()) {
      std::copy_n(words_.begin(), std::min(words_.size(), mask.size()), mask.begin());
    }
    // Nothing may come: the answer is over, or the vocabulary cannot spell what the grammar asks.
    stuck_ = std::all_of(mask.begin(), mask.end(), [](std::uint32_t word) { return word == 0; });
    if (stuck_) {
      for (const TokenId token : *end_tokens_) set_bit(mask, token);
    }
    return true;
  }

  bool accept(TokenId token) override {
    if (token < 0 || token >= vocabulary_ || ended_) return false;
    const bool is_end =
        std::find(end_tokens_->begin(), end_tokens_->end(), token) != end_tokens_->end();
    if (space_ && space_->forbids(place_, token)) return false;
    try {
      // An answer that cannot go on ends, though the grammar has not come to its end.
      if (!matcher_.AcceptToken(token) && !(stuck_ && is_end)) return false;
    } catch (const std::exception&) {
      return false;
    }
    ended_ = is_end;
    if (space_) place_ = space_->after(place_, token);
    return true;
  }

  // Whether some token may come first.
  bool can_begin() {
    return fill() && std::any_of(words_.begin(), words_.end(), [](auto word) { return word != 0; });
  }

 private:
  bool fill() {
    if (ended_) return false;
    std::int64_t shape[] = {static_cast<std::int64_t>(words_.size())};
    DLTensor tensor = {};
    tensor.data = words_.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = xgrammar::GetBitmaskDLType();
    tensor.shape = shape;
    try {
      matcher_.FillNextTokenBitmask(&tensor);
    } catch (const std::exception&) {
      return false;
    }
    // It leaves the last word's bits beyond the vocabulary set.
    if (vocabulary_ % 32 != 0) words_.back() &= (1u << (vocabulary_ % 32)) - 1;
    if (space_) space_->clear_forbidden(place_, words_);
    return true;
  }

  xgrammar::GrammarMatcher matcher_;
  std::shared_ptr<const std::vector<TokenId>> end_tokens_;
  std::shared_ptr<const JsonSpace> space_;
  JsonSpace::Place place_ = JsonSpace::kBeginning;
  std::vector<std::uint32_t> words_;
  int vocabulary_;
  bool ended_ = false;
  bool stuck_ = false;  // at the last mask: the grammar let nothing come
};

// xgrammar takes the tokens' bytes as they are; an empty text marks what is never part of an
// answer: special tokens and ids without a token.
std::vector<std::string> vocabulary_of(const Tokenizer& tokenizer, TokenId size) {
  std::vector<std::string> texts(static_cast<std::size_t>(size));
  for (TokenId id = 0; id < size; ++id) {
    if (id < tokenizer.vocabulary_size() && !tokenizer.is_special(id)) {
      texts[static_cast<std::size_t>(id)] = tokenizer.token_bytes(id);
    }
  }
  return texts;
}

// A specification as one string: different ones differ.
std::string key_of(const GrammarSpec& spec) {
  std::string key =
      fmt::format("{}:{}:{}", static_cast<int>(spec.kind), spec.text.size(), spec.text);
  if (spec.kind != GrammarSpec::Kind::kChoice) return key;
  for (const std::string& choice : spec.choices) key += fmt::format("{}:{}", choice.size(), choice);
  return key;
}

}  // namespace

struct GrammarCompiler::State {
  State(const std::vector<std::string>& texts, std::vector<TokenId> ends,
        const GrammarLimits& the_limits)
      : limits(the_limits),
        vocabulary(static_cast<TokenId>(texts.size())),
        end_tokens(std::make_shared<const std::vector<TokenId>>(ends)),
        space(std::make_shared<const JsonSpace>(texts)),
        compiler(
            xgrammar::TokenizerInfo(texts, xgrammar::VocabType::RAW, vocabulary, std::move(ends)),
            /*max_threads=*/1, /*cache_enabled=*/false) {}

  std::shared_ptr<XgrammarConstraint> constraint(const xgrammar::CompiledGrammar& grammar,
                                                 GrammarSpec::Kind kind) const {
    const bool is_json =
        kind == GrammarSpec::Kind::kJsonObject || kind == GrammarSpec::Kind::kJsonSchema;
    return std::make_shared<XgrammarConstraint>(grammar, end_tokens, is_json ? space : nullptr,
                                                vocabulary);
  }

  struct Entry {
    std::string key;
    xgrammar::CompiledGrammar grammar;
    std::size_t bytes;
  };

  std::optional<xgrammar::CompiledGrammar> find(const std::string& key) {
    const std::lock_guard<std::mutex> lock(cache_mutex);
    const auto found = index.find(key);
    if (found == index.end()) return std::nullopt;
    recent.splice(recent.begin(), recent, found->second);
    return found->second->grammar;
  }

  void keep(std::string key, const xgrammar::CompiledGrammar& grammar) {
    const std::size_t bytes = grammar.MemorySizeBytes() + 2 * key.size();
    const std::lock_guard<std::mutex> lock(cache_mutex);
    if (limits.cached == 0 || bytes > kMaxCachedBytes || index.contains(key)) return;
    while (!recent.empty() &&
           (recent.size() >= limits.cached || cached_bytes + bytes > kMaxCachedBytes)) {
      cached_bytes -= recent.back().bytes;
      index.erase(recent.back().key);
      recent.pop_back();
    }
    cached_bytes += bytes;
    recent.push_front({std::move(key), grammar, bytes});
    index.emplace(recent.front().key, recent.begin());
  }

  const GrammarLimits limits;
  const TokenId vocabulary;
  const std::shared_ptr<const std::vector<TokenId>> end_tokens;
  const std::shared_ptr<const JsonSpace> space;

  std::mutex compile_mutex;  // one at a time: compiling takes a core and some memory
  xgrammar::GrammarCompiler compiler;

  std::mutex cache_mutex;
  std::list<Entry> recent;  // the latest first
  std::unordered_map<std::string, std::list<Entry>::iterator> index;
  std::size_t cached_bytes = 0;
};

GrammarCompiler::GrammarCompiler(std::unique_ptr<State> state) : state_(std::move(state)) {}
GrammarCompiler::~GrammarCompiler() = default;

Result<std::unique_ptr<GrammarCompiler>> GrammarCompiler::create(const Tokenizer& tokenizer,
                                                                 std::vector<TokenId> end_tokens,
                                                                 const GrammarLimits& limits) {
  if (end_tokens.empty()) {
    return invalid_argument("structured output needs a token that ends an answer");
  }
  std::sort(end_tokens.begin(), end_tokens.end());
  end_tokens.erase(std::unique(end_tokens.begin(), end_tokens.end()), end_tokens.end());
  if (end_tokens.front() < 0 || end_tokens.back() >= kMaxVocabulary ||
      tokenizer.vocabulary_size() > kMaxVocabulary) {
    return invalid_argument("a token that ends an answer is not in the vocabulary");
  }
  const TokenId size =
      std::max(static_cast<TokenId>(tokenizer.vocabulary_size()), end_tokens.back() + 1);
  try {
    return std::unique_ptr<GrammarCompiler>(new GrammarCompiler(
        std::make_unique<State>(vocabulary_of(tokenizer, size), std::move(end_tokens), limits)));
  } catch (const std::exception& error) {
    return internal_error(fmt::format("structured output: {}", error.what()));
  }
}

Result<std::shared_ptr<TokenConstraint>> GrammarCompiler::compile(const GrammarSpec& spec) {
  try {
    std::string key = key_of(spec);
    auto grammar = state_->find(key);
    if (!grammar) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string text, spec_grammar(spec, state_->limits));
      const std::lock_guard<std::mutex> lock(state_->compile_mutex);
      grammar = state_->find(key);  // another request may have compiled it in the meantime
      if (!grammar) {
        grammar = state_->compiler.CompileGrammar(text, "root");
        if (!state_->constraint(*grammar, spec.kind)->can_begin()) {
          return invalid_argument("no token of the model's vocabulary can begin such an answer");
        }
        state_->keep(std::move(key), *grammar);
      }
    }
    return std::shared_ptr<TokenConstraint>(state_->constraint(*grammar, spec.kind));
  } catch (const std::exception& error) {
    return internal_error(fmt::format("the grammar could not be compiled: {}",
                                      std::string(error.what()).substr(0, 400)));
  }
}

}  // namespace liquidgemm
