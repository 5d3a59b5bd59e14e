#include "model/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <new>
#include <unordered_map>
#include <utility>

#include "base/status_macros.h"
#include "model/tokenizer/added_token_matcher.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/normalize.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/spec_check.h"
#include "model/tokenizer/text_index.h"
#include "model/tokenizer/unicode_class.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

// Added tokens of one kind, with the automaton that finds them.
struct AddedTokenSet {
  std::vector<const AddedToken*> tokens;  // by the matcher's pattern index
  AddedTokenMatcher matcher;
};

// A stretch of text: an added token, or (nullptr) text that is still to be cut.
struct Section {
  const AddedToken* token;
  std::size_t start;
  std::size_t end;
};

bool is_class(CodePoint point, std::uint8_t mask) { return unicode_class(point.value) & mask; }

bool stands_alone(std::string_view text, std::size_t start, std::size_t end) {
  if (start > 0 && is_class(code_point_before(text, start), kWord)) return false;
  return end == text.size() || !is_class(code_point_at(text, end), kWord);
}

std::size_t spaces_before(std::string_view text, std::size_t position, std::size_t low) {
  while (position > low) {
    const CodePoint point = code_point_before(text, position);
    if (!is_class(point, kSpace)) break;
    position -= point.length;
  }
  return std::max(position, low);
}

std::size_t spaces_after(std::string_view text, std::size_t position) {
  while (position < text.size()) {
    const CodePoint point = code_point_at(text, position);
    if (!is_class(point, kSpace)) break;
    position += point.length;
  }
  return position;
}

// Cuts text at added tokens. A token that takes the white space after it may take the beginning
// of the next match with it; as in Hugging Face's cutter that match still counts, unless taking
// the white space before it leaves it empty.
std::vector<Section> cut(const AddedTokenSet& set, std::string_view text) {
  std::vector<Section> sections;
  std::size_t done = 0;
  std::size_t stripped = 0;  // no character is looked at twice by spaces_after
  for (const auto& match : set.matcher.find(text)) {
    const AddedToken* token = set.tokens[match.pattern];
    std::size_t start = match.start;
    std::size_t end = match.end;
    if (token->single_word && !stands_alone(text, start, end)) continue;
    if (token->lstrip) start = std::max(done, spaces_before(text, start, std::min(done, start)));
    if (token->rstrip) {
      stripped = end < stripped ? stripped : spaces_after(text, end);
      end = stripped;
    }
    if (done < start) sections.push_back({nullptr, done, start});
    if (start < end) sections.push_back({token, start, end});
    done = end;
  }
  if (done < text.size()) sections.push_back({nullptr, done, text.size()});
  return sections;
}

}  // namespace

struct Tokenizer::Impl {
  struct Work {
    BytePairMerger::Scratch scratch;
    std::string prefixed;  // a word with the space that add_prefix_space asks for
    std::vector<TokenId>* ids = nullptr;
  };

  Status prepare(const std::string& where);
  void prepare_added_tokens();
  void prepare_bytes(std::size_t id_limit);

  void encode_raw(std::string_view text, Work& work) const;
  void encode_normalized(std::string_view text, Work& work) const;
  void encode_section(std::string_view text, Work& work) const;
  void encode_words(std::string_view text, Work& work) const;
  void encode_word(std::string_view word, Work& work) const;
  std::string_view with_prefix_space(std::string_view text, Work& work) const;

  TokenizerSpec spec;
  BytePairMerger merger;
  AddedTokenSet raw_tokens;         // looked for in the text as it came
  AddedTokenSet normalized_tokens;  // looked for after normalisation
  std::unordered_map<std::string_view, const AddedToken*, SeededTextHash> added;
  std::string bytes;                 // of all tokens, one after the other
  std::vector<std::size_t> offsets;  // token t is bytes[offsets[t] .. offsets[t + 1])
  std::vector<bool> special;
  TextIndex words;  // bytes to ids of the ordinary tokens
};

Status Tokenizer::Impl::prepare(const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(CheckedSpec checked, check_spec(spec, where));
  prepare_added_tokens();
  prepare_bytes(checked.id_limit);
  std::array<TokenId, 256> byte_tokens;
  for (std::size_t b = 0; b < byte_tokens.size(); ++b) {
    const char byte = static_cast<char>(b);
    const auto found = words.find(std::string_view(&byte, 1));
    byte_tokens[b] = found == words.end() ? -1 : found->second;
  }
  merger = BytePairMerger(byte_tokens, std::move(checked.merges), checked.id_limit);
  return ok_status();
}

void Tokenizer::Impl::prepare_added_tokens() {
  // Special tokens first: where normalisation makes two contents equal, they win.
  for (const bool special_pass : {true, false}) {
    for (const AddedToken& token : spec.added_tokens) {
      if (token.special != special_pass) continue;
      (token.normalized ? normalized_tokens : raw_tokens).tokens.push_back(&token);
      added.emplace(token.content, &token);
    }
  }
  for (AddedTokenSet* set : {&raw_tokens, &normalized_tokens}) {
    std::vector<std::string> patterns;
    for (const AddedToken* token : set->tokens) {
      const bool normalize = token->normalized && spec.normalize_nfc;
      patterns.push_back(normalize ? normalize_nfc(token->content) : token->content);
    }
    set->matcher = AddedTokenMatcher(patterns);
  }
}

void Tokenizer::Impl::prepare_bytes(std::size_t id_limit) {
  std::vector<const std::string*> texts(id_limit, nullptr);
  for (std::size_t id = 0; id < std::min(id_limit, spec.vocabulary.size()); ++id) {
    texts[id] = &spec.vocabulary[id];
  }
  special.assign(id_limit, false);
  for (const AddedToken& token : spec.added_tokens) {
    const auto id = static_cast<std::size_t>(token.id);
    texts[id] = &token.content;
    special[id] = token.special;
  }
  std::vector<bool> ordinary(id_limit, false);
  offsets.assign(1, 0);
  for (std::size_t id = 0; id < id_limit; ++id) {
    if (texts[id] != nullptr) {
      // Hugging Face's decoder reads every text, added tokens' too, in the byte alphabet if all
      // of its characters belong to it, and as plain text otherwise.
      const auto mapped = bytes_of_alphabet_text(*texts[id]);
      bytes += mapped ? *mapped : *texts[id];
      ordinary[id] = mapped && id < spec.vocabulary.size() && !spec.vocabulary[id].empty();
    }
    offsets.push_back(bytes.size());
  }
  for (std::size_t id = 0; id < id_limit; ++id) {
    if (!ordinary[id]) continue;
    words.emplace(std::string_view(bytes).substr(offsets[id], offsets[id + 1] - offsets[id]),
                  static_cast<TokenId>(id));
  }
}

void Tokenizer::Impl::encode_raw(std::string_view text, Work& work) const {
  for (const Section& section : cut(raw_tokens, text)) {
    if (section.token != nullptr) {
      work.ids->push_back(section.token->id);
      continue;
    }
    const std::string_view piece = text.substr(section.start, section.end - section.start);
    if (spec.normalize_nfc) {
      encode_normalized(normalize_nfc(piece), work);
    } else {
      encode_normalized(piece, work);
    }
  }
}

void Tokenizer::Impl::encode_normalized(std::string_view text, Work& work) const {
  for (const Section& section : cut(normalized_tokens, text)) {
    if (section.token != nullptr) {
      work.ids->push_back(section.token->id);
    } else {
      encode_section(text.substr(section.start, section.end - section.start), work);
    }
  }
}

void Tokenizer::Impl::encode_section(std::string_view text, Work& work) const {
  switch (spec.pre_tokenizer) {
    case PreTokenizer::kGpt2: encode_words(with_prefix_space(text, work), work); break;
    case PreTokenizer::kSmolLm:
      for_each_digit_section(text, [&](std::string_view section) {
        encode_words(with_prefix_space(section, work), work);
      });
      break;
    case PreTokenizer::kLlama3:
    case PreTokenizer::kQwen2: encode_words(text, work); break;
  }
}

void Tokenizer::Impl::encode_words(std::string_view text, Work& work) const {
  // ByteLevel's own pattern cuts after the space is added, a Split pattern before.
  const bool is_split =
      spec.pre_tokenizer == PreTokenizer::kLlama3 || spec.pre_tokenizer == PreTokenizer::kQwen2;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = word_end(spec.pre_tokenizer, text, start);
    const std::string_view word = text.substr(start, end - start);
    encode_word(is_split ? with_prefix_space(word, work) : word, work);
    start = end;
  }
}

void Tokenizer::Impl::encode_word(std::string_view word, Work& work) const {
  if (spec.ignore_merges) {
    if (const auto whole = words.find(word); whole != words.end()) {
      work.ids->push_back(whole->second);
      return;
    }
  }
  merger.encode_word(word, work.scratch, *work.ids);
}

std::string_view Tokenizer::Impl::with_prefix_space(std::string_view text, Work& work) const {
  if (!spec.add_prefix_space || text.starts_with(' ')) return text;
  work.prefixed.assign(1, ' ');
  work.prefixed += text;
  return work.prefixed;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::build(TokenizerSpec spec, const std::string& where) {
  try {
    auto impl = std::make_unique<Impl>();
    impl->spec = std::move(spec);
    LIQUIDGEMM_RETURN_IF_ERROR(impl->prepare(where));
    return Tokenizer(std::move(impl));
  } catch (const std::bad_alloc&) {
    return resource_exhausted(where + ": out of memory while building the tokenizer");
  }
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 8);
  const TokenizerSpec& spec = impl_->spec;
  if (add_special_tokens) ids = spec.prefix_tokens;
  Impl::Work work;
  work.ids = &ids;
  if (is_valid_utf8(text)) {
    impl_->encode_raw(text, work);
  } else {
    impl_->encode_raw(repair_utf8(text), work);
  }
  if (add_special_tokens) {
    ids.insert(ids.end(), spec.suffix_tokens.begin(), spec.suffix_tokens.end());
  }
  return ids;
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  if (id < 0 || id >= vocabulary_size()) return {};
  const auto i = static_cast<std::size_t>(id);
  return std::string_view(impl_->bytes)
      .substr(impl_->offsets[i], impl_->offsets[i + 1] - impl_->offsets[i]);
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < vocabulary_size() && impl_->special[static_cast<std::size_t>(id)];
}

std::optional<TokenId> Tokenizer::find(std::string_view content) const {
  if (const auto found = impl_->added.find(content); found != impl_->added.end()) {
    return found->second->id;
  }
  const auto found = impl_->words.find(content);
  if (found == impl_->words.end()) return std::nullopt;
  return found->second;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (!(skip_special_tokens && is_special(id))) bytes += token_bytes(id);
  }
  return repair_utf8(bytes);
}

std::int64_t Tokenizer::vocabulary_size() const {
  return static_cast<std::int64_t>(impl_->special.size());
}

const TokenizerSpec& Tokenizer::spec() const { return impl_->spec; }

}  // namespace liquidgemm
