// Writes a tokenizer.json that Hugging Face `tokenizers` reads with the same ids.
#include <algorithm>
#include <unordered_set>

#include "base/json.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/text_index.h"
#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {
namespace {

using json::Array;
using json::Object;
using json::Value;

Object byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Value pre_tokenizer(const TokenizerSpec& spec) {
  if (spec.pre_tokenizer == PreTokenizer::kGpt2) return byte_level(spec.add_prefix_space, true);
  Object first;
  const bool digits = spec.pre_tokenizer == PreTokenizer::kSmolLm;
  if (digits) {
    first = {{"type", "Digits"}, {"individual_digits", true}};
  } else {
    const std::string_view pattern =
        spec.pre_tokenizer == PreTokenizer::kLlama3 ? kLlama3Pattern : kQwen2Pattern;
    first = {{"type", "Split"},
             {"pattern", {{"Regex", boost::json::string_view(pattern)}}},
             {"behavior", "Isolated"},
             {"invert", false}};
  }
  Array members;
  members.emplace_back(std::move(first));
  members.emplace_back(byte_level(spec.add_prefix_space, digits));
  return Object{{"type", "Sequence"}, {"pretokenizers", std::move(members)}};
}

const std::string& text_of(const TokenizerSpec& spec, TokenId id) {
  for (const AddedToken& token : spec.added_tokens) {
    if (token.id == id) return token.content;
  }
  return spec.vocabulary[static_cast<std::size_t>(id)];
}

Value post_processor(const TokenizerSpec& spec) {
  Object offsets = byte_level(true, true);
  offsets["trim_offsets"] = false;
  if (spec.prefix_tokens.empty() && spec.suffix_tokens.empty()) return offsets;

  Object special_tokens;
  const auto sequence = [&](const char* name, int type_id) {
    Array parts;
    const auto add = [&](const std::vector<TokenId>& ids) {
      for (const TokenId id : ids) {
        const std::string& text = text_of(spec, id);
        parts.emplace_back(Object{{"SpecialToken", {{"id", text}, {"type_id", type_id}}}});
        special_tokens[text] = {{"id", text}, {"ids", Array{id}}, {"tokens", Array{Value(text)}}};
      }
    };
    add(spec.prefix_tokens);
    parts.emplace_back(Object{{"Sequence", {{"id", name}, {"type_id", type_id}}}});
    add(spec.suffix_tokens);
    return parts;
  };
  Array single = sequence("A", 0);
  Array pair = single;
  for (Value& part : sequence("B", 1)) pair.push_back(std::move(part));
  Object processing{{"type", "TemplateProcessing"},
                    {"single", std::move(single)},
                    {"pair", std::move(pair)},
                    {"special_tokens", std::move(special_tokens)}};
  Array members;
  members.emplace_back(std::move(offsets));
  members.emplace_back(std::move(processing));
  return Object{{"type", "Sequence"}, {"processors", std::move(members)}};
}

// Hugging Face numbers added tokens that the vocabulary lacks by itself, one after the other from
// the vocabulary's size on, whatever ids the file gives. Those it would number differently have
// to be in the vocabulary too.
Object vocabulary(const TokenizerSpec& spec, const std::vector<const AddedToken*>& added) {
  Object object;
  std::unordered_set<std::string_view, SeededTextHash> texts;
  for (std::size_t id = 0; id < spec.vocabulary.size(); ++id) {
    const std::string& text = spec.vocabulary[id];
    if (text.empty()) continue;
    object.emplace(text, static_cast<std::int64_t>(id));
    texts.insert(text);
  }
  const auto size = static_cast<std::int64_t>(object.size());
  std::vector<const AddedToken*> missing;
  std::int64_t largest = -1;  // of the added tokens so far, as Hugging Face numbers them
  bool agrees = true;
  for (const AddedToken* token : added) {
    if (!texts.contains(token->content)) {
      missing.push_back(token);
      agrees = agrees && token->id == (largest >= size ? largest + 1 : size);
    }
    largest = std::max<std::int64_t>(largest, token->id);
  }
  if (!agrees) {
    for (const AddedToken* token : missing) object.emplace(token->content, token->id);
  }
  return object;
}

}  // namespace

std::string tokenizer_to_json(const TokenizerSpec& spec) {
  std::vector<const AddedToken*> added;
  for (const AddedToken& token : spec.added_tokens) added.push_back(&token);
  std::sort(added.begin(), added.end(),
            [](const AddedToken* a, const AddedToken* b) { return a->id < b->id; });
  Array added_tokens;
  for (const AddedToken* token : added) {
    added_tokens.emplace_back(Object{{"id", token->id},
                                     {"content", token->content},
                                     {"single_word", token->single_word},
                                     {"lstrip", token->lstrip},
                                     {"rstrip", token->rstrip},
                                     {"normalized", token->normalized},
                                     {"special", token->special}});
  }
  Array merges;
  merges.reserve(spec.merges.size());
  for (const auto& [left, right] : spec.merges) {
    merges.emplace_back(Array{Value(left), Value(right)});
  }
  Value normalizer = nullptr;
  if (spec.normalize_nfc) normalizer = Object{{"type", "NFC"}};
  const Object root{{"version", "1.0"},
                    {"truncation", nullptr},
                    {"padding", nullptr},
                    {"added_tokens", std::move(added_tokens)},
                    {"normalizer", std::move(normalizer)},
                    {"pre_tokenizer", pre_tokenizer(spec)},
                    {"post_processor", post_processor(spec)},
                    {"decoder", byte_level(true, true)},
                    {"model",
                     {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", spec.ignore_merges},
                      {"vocab", vocabulary(spec, added)},
                      {"merges", std::move(merges)}}}};
  return json::dump(root);
}

}  // namespace liquidgemm
