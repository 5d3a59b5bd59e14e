// Reads the parts of a tokenizer.json that decide its ids, and refuses what it does not know.
#include <limits>
#include <new>
#include <utility>

#include "base/json.h"
#include "base/status_macros.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/spec_check.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/tokenizer_limits.h"

namespace liquidgemm {
namespace {

using json::Array;
using json::Object;
using json::Value;

// A reader that knows its place in the file, to make readers of what lies inside.
class Reader : public json::Reader {
 public:
  Reader(const Object& object, const std::string& where, const std::string& path = "")
      : json::Reader(object, where, path), where_(where), path_(path) {}

  Reader inside(const Object& object, std::string_view name) const {
    return Reader(object, where_, (path_.empty() ? "" : path_ + ".") + std::string(name));
  }

 private:
  std::string where_;
  std::string path_;
};

std::string_view view(const boost::json::string& text) { return {text.data(), text.size()}; }
std::string_view view(boost::json::string_view text) { return {text.data(), text.size()}; }

Result<bool> required_bool(const Reader& reader, std::string_view name) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::optional<bool> value, reader.optional_bool(name));
  if (!value) return corrupt(reader.field(name) + " is missing");
  return *value;
}

// "type" of a component; "" when the file leaves it out.
Result<std::string> type_of(const Reader& reader) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::optional<std::string> type, reader.optional_string("type"));
  return type.value_or("");
}

// The components of a field: none when it is null, the members of a Sequence, or the one itself.
Result<std::vector<const Object*>> components(const Reader& reader, std::string_view name,
                                              std::string_view members) {
  std::vector<const Object*> list;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const whole, reader.optional_object(name));
  if (whole == nullptr) return list;
  const Reader inner = reader.inside(*whole, name);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string type, type_of(inner));
  if (type != "Sequence") {
    list.push_back(whole);
    return list;
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Array* const array, inner.required_array(members));
  for (const Value& value : *array) {
    if (!value.is_object()) return corrupt(inner.field(members) + ": expected objects");
    list.push_back(&value.get_object());
  }
  return list;
}

Status read_normalizer(const Reader& root, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto list, components(root, "normalizer", "normalizers"));
  for (const Object* object : list) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string type,
                                type_of(root.inside(*object, "normalizer")));
    if (type != "NFC") {
      return unsupported(root.field("normalizer") + ": the normalizer " + in_quotes(type) +
                         " is not supported, only NFC is");
    }
    spec.normalize_nfc = true;
  }
  return ok_status();
}

Result<PreTokenizer> read_split(const Reader& reader) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const pattern, reader.required_object("pattern"));
  const Reader inner = reader.inside(*pattern, "pattern");
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto regex, inner.optional_string("Regex"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto behavior, reader.optional_string("behavior"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto invert, reader.optional_bool("invert"));
  if (!regex) return unsupported(inner.field("Regex") + " is missing, no other pattern is known");
  if (behavior.value_or("") != "Isolated") {
    return unsupported(reader.field("behavior") + ": only Isolated is supported, found " +
                       in_quotes(behavior.value_or("")));
  }
  if (invert.value_or(false)) return unsupported(reader.field("invert") + ": must be false");
  if (*regex == kGpt2Pattern) return PreTokenizer::kGpt2;
  if (*regex == kLlama3Pattern) return PreTokenizer::kLlama3;
  if (*regex == kQwen2Pattern) return PreTokenizer::kQwen2;
  return unsupported(inner.field("Regex") + ": the pattern " + in_quotes(*regex) +
                     " is not one of GPT-2's, Llama 3's or Qwen 2's");
}

// [Digits], [Split], ByteLevel, in this order.
Status read_pre_tokenizer(const Reader& root, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto list, components(root, "pre_tokenizer", "pretokenizers"));
  const std::string where = root.field("pre_tokenizer");
  bool digits = false;
  bool byte_level = false;
  std::optional<PreTokenizer> split;
  for (const Object* object : list) {
    const Reader reader = root.inside(*object, "pre_tokenizer");
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string type, type_of(reader));
    if (byte_level) return unsupported(where + ": " + in_quotes(type) + " after ByteLevel");
    if (type == "Digits" && !digits && !split) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(digits, required_bool(reader, "individual_digits"));
      if (!digits) return unsupported(reader.field("individual_digits") + ": must be true");
    } else if (type == "Split" && !digits && !split) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(split, read_split(reader));
    } else if (type == "ByteLevel") {
      byte_level = true;
      LIQUIDGEMM_ASSIGN_OR_RETURN(spec.add_prefix_space, required_bool(reader, "add_prefix_space"));
      LIQUIDGEMM_ASSIGN_OR_RETURN(const auto use_regex, reader.optional_bool("use_regex"));
      if (use_regex.value_or(true) == split.has_value()) {
        return unsupported(reader.field("use_regex") + ": must be " +
                           (split ? "false after a Split" : "true without a Split"));
      }
    } else {
      return unsupported(where + ": " + in_quotes(type) +
                         " is not supported here; known are ByteLevel, Digits + ByteLevel and "
                         "Split + ByteLevel");
    }
  }
  if (!byte_level) return unsupported(where + ": ByteLevel is missing");
  if (split == PreTokenizer::kGpt2 && spec.add_prefix_space) {
    return unsupported(where + ": add_prefix_space with GPT-2's pattern as a Split");
  }
  spec.pre_tokenizer = split.value_or(digits ? PreTokenizer::kSmolLm : PreTokenizer::kGpt2);
  return ok_status();
}

// TemplateProcessing's "single": special tokens, the text, special tokens.
Status read_template(const Reader& reader, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Array* const single, reader.required_array("single"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const tokens, reader.required_object("special_tokens"));
  const Reader token_reader = reader.inside(*tokens, "special_tokens");
  bool text_seen = false;
  for (const Value& value : *single) {
    if (!value.is_object()) return corrupt(reader.field("single") + ": expected objects");
    const Reader part = reader.inside(value.get_object(), "single");
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const special, part.optional_object("SpecialToken"));
    if (special == nullptr) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const sequence, part.required_object("Sequence"));
      LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string id,
                                  part.inside(*sequence, "Sequence").required_string("id"));
      if (id != "A" || text_seen) {
        return unsupported(reader.field("single") + ": expected the sequence A once");
      }
      text_seen = true;
      continue;
    }
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string name,
                                part.inside(*special, "SpecialToken").required_string("id"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const entry, token_reader.required_object(name));
    const Reader entry_reader = token_reader.inside(*entry, name);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Array* const ids, entry_reader.required_array("ids"));
    auto& target = text_seen ? spec.suffix_tokens : spec.prefix_tokens;
    for (const Value& id : *ids) {
      const bool fits = id.is_int64() && id.get_int64() >= 0 &&
                        id.get_int64() <= static_cast<std::int64_t>(kMaxTokenId);
      if (!fits) {
        return corrupt(entry_reader.field("ids") + ": expected ids up to " +
                       std::to_string(kMaxTokenId) + ", found " +
                       std::string(in_quotes(json::dump(id))));
      }
      if (target.size() >= kMaxTemplateTokens) {
        return resource_exhausted(reader.field("single") + ": more than " +
                                  std::to_string(kMaxTemplateTokens) + " special tokens");
      }
      target.push_back(static_cast<TokenId>(id.get_int64()));
    }
  }
  if (!text_seen) return corrupt(reader.field("single") + ": the sequence A is missing");
  return ok_status();
}

Status read_post_processor(const Reader& root, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto list, components(root, "post_processor", "processors"));
  const std::string where = root.field("post_processor");
  bool has_template = false;
  for (const Object* object : list) {
    const Reader reader = root.inside(*object, "post_processor");
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string type, type_of(reader));
    if (type == "ByteLevel") continue;  // moves offsets only, no ids
    if (type != "TemplateProcessing" || has_template) {
      return unsupported(where + ": " + in_quotes(type) +
                         " is not supported here; known are ByteLevel and one TemplateProcessing");
    }
    has_template = true;
    LIQUIDGEMM_RETURN_IF_ERROR(read_template(reader, spec));
  }
  return ok_status();
}

Status read_decoder(const Reader& root) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto list, components(root, "decoder", "decoders"));
  std::string types;
  for (const Object* object : list) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string type, type_of(root.inside(*object, "decoder")));
    types += (types.empty() ? "" : "+") + type;
  }
  if (types == "ByteLevel") return ok_status();
  return unsupported(root.field("decoder") + ": only ByteLevel is supported, found " +
                     in_quotes(types));
}

Status read_vocabulary(const Reader& model, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const vocabulary, model.required_object("vocab"));
  std::int64_t largest = -1;
  for (const auto& member : *vocabulary) {
    const std::int64_t* id = member.value().if_int64();
    if (id == nullptr || *id < 0 || *id > static_cast<std::int64_t>(kMaxTokenId)) {
      return corrupt(model.field("vocab") + ": the token " + in_quotes(view(member.key())) +
                     " has the id " + in_quotes(json::dump(member.value())) + ", expected 0 to " +
                     std::to_string(kMaxTokenId));
    }
    if (member.key().empty()) {
      return corrupt(model.field("vocab") + ": token " + std::to_string(*id) + " has no text");
    }
    largest = std::max(largest, *id);
  }
  spec.vocabulary.resize(static_cast<std::size_t>(largest + 1));
  for (const auto& member : *vocabulary) {
    const std::int64_t id = member.value().get_int64();
    std::string& text = spec.vocabulary[static_cast<std::size_t>(id)];
    if (!text.empty()) {
      return corrupt(model.field("vocab") + ": " + in_quotes(text) + " and " +
                     in_quotes(view(member.key())) + " have the same id " + std::to_string(id));
    }
    text = view(member.key());
  }
  return ok_status();
}

// A merge is "left right" in older files and ["left", "right"] in newer ones.
Status read_merges(const Reader& model, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Array* const merges, model.required_array("merges"));
  if (merges->size() > kMaxMerges) {
    return resource_exhausted(model.field("merges") + ": more than " + std::to_string(kMaxMerges));
  }
  spec.merges.reserve(merges->size());
  for (const Value& merge : *merges) {
    if (const auto* text = merge.if_string()) {
      const std::string_view line = view(*text);
      if (line.starts_with("#version")) continue;
      const std::size_t space = line.find(' ');
      if (space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos) {
        spec.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
        continue;
      }
    } else if (const Array* pair = merge.if_array()) {
      if (pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
        spec.merges.emplace_back(view((*pair)[0].get_string()), view((*pair)[1].get_string()));
        continue;
      }
    }
    return corrupt(model.field("merges") + ": entry " + std::to_string(spec.merges.size()) +
                   " is " + in_quotes(json::dump(merge)) + ", expected two tokens");
  }
  return ok_status();
}

bool has_all_bytes(const TokenizerSpec& spec) {
  std::vector<bool> seen(256, false);
  int count = 0;
  for (const std::string& text : spec.vocabulary) {
    if (text.empty() || text.size() > 2) continue;  // one character of the alphabet
    const auto bytes = bytes_of_alphabet_text(text);
    if (!bytes || bytes->size() != 1) continue;
    const auto byte = static_cast<unsigned char>(bytes->front());
    count += seen[byte] ? 0 : 1;
    seen[byte] = true;
  }
  return count == 256;
}

Status read_model(const Reader& root, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Object* const object, root.required_object("model"));
  const Reader model = root.inside(*object, "model");
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string type, type_of(model));
  if (type != "BPE" && !type.empty()) {  // the oldest files leave the type out
    return unsupported(model.field("type") + ": only BPE is supported, found " + in_quotes(type));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto dropout, model.optional_number("dropout", 0.0, 1.0));
  if (dropout.value_or(0.0) != 0.0) {
    return unsupported(model.field("dropout") + ": must be null, its ids are random otherwise");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto value, model.optional_string(affix));
    if (!value.value_or("").empty()) {
      return unsupported(model.field(affix) + ": must be empty, found " + in_quotes(*value));
    }
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto ignore_merges, model.optional_bool("ignore_merges"));
  spec.ignore_merges = ignore_merges.value_or(false);
  LIQUIDGEMM_RETURN_IF_ERROR(read_vocabulary(model, spec));
  LIQUIDGEMM_RETURN_IF_ERROR(read_merges(model, spec));

  // What happens to unknown symbols does not matter where there are none.
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto unk_token, model.optional_string("unk_token"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto byte_fallback, model.optional_bool("byte_fallback"));
  if ((unk_token || byte_fallback.value_or(false)) && !has_all_bytes(spec)) {
    return unsupported(model.field(unk_token ? "unk_token" : "byte_fallback") +
                       ": not supported with a vocabulary that lacks some of the 256 bytes");
  }
  return ok_status();
}

Status read_added_tokens(const Reader& root, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Array* const list, root.optional_array("added_tokens"));
  if (list == nullptr) return ok_status();
  if (list->size() > kMaxAddedTokens) {
    return resource_exhausted(root.field("added_tokens") + ": " + std::to_string(list->size()) +
                              " tokens, at most " + std::to_string(kMaxAddedTokens) +
                              " are accepted");
  }
  const std::string where = root.field("added_tokens");
  for (const Value& value : *list) {
    if (!value.is_object()) return corrupt(where + ": expected objects");
    const Reader reader = root.inside(value.get_object(), "added_tokens");
    AddedToken token;
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        const std::int64_t id,
        reader.required_int("id", 0, static_cast<std::int64_t>(kMaxTokenId)));
    token.id = static_cast<TokenId>(id);
    LIQUIDGEMM_ASSIGN_OR_RETURN(token.content, reader.required_string("content"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(token.special, required_bool(reader, "special"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(token.lstrip, required_bool(reader, "lstrip"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(token.rstrip, required_bool(reader, "rstrip"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(token.single_word, required_bool(reader, "single_word"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(token.normalized, required_bool(reader, "normalized"));
    spec.added_tokens.push_back(std::move(token));
  }
  return ok_status();
}

Result<TokenizerSpec> read(std::string_view text, const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Value value, json::parse(text, where));
  if (!value.is_object()) return corrupt(where + ": expected an object at the top");
  const Reader root(value.get_object(), where);
  TokenizerSpec spec;
  LIQUIDGEMM_RETURN_IF_ERROR(read_model(root, spec));
  LIQUIDGEMM_RETURN_IF_ERROR(read_normalizer(root, spec));
  LIQUIDGEMM_RETURN_IF_ERROR(read_pre_tokenizer(root, spec));
  LIQUIDGEMM_RETURN_IF_ERROR(read_post_processor(root, spec));
  LIQUIDGEMM_RETURN_IF_ERROR(read_decoder(root));
  LIQUIDGEMM_RETURN_IF_ERROR(read_added_tokens(root, spec));
  return spec;
}

}  // namespace

Result<TokenizerSpec> parse_tokenizer_json(std::string_view text, const std::string& where) {
  try {
    LIQUIDGEMM_ASSIGN_OR_RETURN(TokenizerSpec spec, read(text, where));
    const Result<CheckedSpec> checked = check_spec(spec, where);
    if (!checked.ok()) return checked.status();
    return spec;
  } catch (const std::bad_alloc&) {
    return resource_exhausted(where + ": out of memory while reading the tokenizer");
  } catch (const std::exception& error) {
    return corrupt(where + ": " + error.what());
  }
}

}  // namespace liquidgemm
