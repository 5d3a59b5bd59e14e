#include "model/tokenizer/spec_check.h"

#include <algorithm>
#include <unordered_set>

#include "base/status_macros.h"
#include "model/tokenizer/tokenizer_limits.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

std::string token_name(std::size_t id, std::string_view text) {
  return "token " + std::to_string(id) + " (" + in_quotes(text) + ")";
}

// `kind` is "" or "added "; the name is only put together for a message.
Status check_text(const std::string& text, const char* kind, std::size_t id,
                  const std::string& where) {
  if (text.size() > kMaxTokenBytes) {
    return resource_exhausted(where + ": " + kind + token_name(id, text) + " has " +
                              std::to_string(text.size()) + " bytes of text, at most " +
                              std::to_string(kMaxTokenBytes) + " are accepted");
  }
  if (!is_valid_utf8(text)) {
    return corrupt(where + ": " + kind + token_name(id, text) + " is not valid UTF-8");
  }
  return ok_status();
}

Status index_vocabulary(const TokenizerSpec& spec, const std::string& where, CheckedSpec& out) {
  if (spec.vocabulary.size() > kMaxTokenId + 1) {
    return resource_exhausted(where + ": the vocabulary has " +
                              std::to_string(spec.vocabulary.size()) + " ids, at most " +
                              std::to_string(kMaxTokenId + 1) + " are accepted");
  }
  for (std::size_t id = 0; id < spec.vocabulary.size(); ++id) {
    const std::string& text = spec.vocabulary[id];
    if (text.empty()) continue;
    LIQUIDGEMM_RETURN_IF_ERROR(check_text(text, "", id, where));
    const auto [other, is_new] = out.vocabulary.emplace(text, static_cast<TokenId>(id));
    if (!is_new) {
      return corrupt(where + ": " + token_name(id, text) + " has the same text as token " +
                     std::to_string(other->second));
    }
    out.id_limit = id + 1;
  }
  if (out.vocabulary.empty()) return corrupt(where + ": the vocabulary is empty");
  return ok_status();
}

Status resolve_merges(const TokenizerSpec& spec, const std::string& where, CheckedSpec& out) {
  if (spec.merges.size() > kMaxMerges) {
    return resource_exhausted(where + ": " + std::to_string(spec.merges.size()) +
                              " merges, at most " + std::to_string(kMaxMerges) + " are accepted");
  }
  out.merges.reserve(spec.merges.size());
  std::string merged;
  for (const auto& [left, right] : spec.merges) {
    merged = left;
    merged += right;
    TokenId ids[3] = {};
    const std::string_view texts[3] = {left, right, merged};
    for (int i = 0; i < 3; ++i) {
      const auto found = out.vocabulary.find(texts[i]);
      if (found == out.vocabulary.end()) {
        return corrupt(where + ": merge " + std::to_string(out.merges.size()) + " (" +
                       in_quotes(left) + " + " + in_quotes(right) + ") needs the token " +
                       in_quotes(texts[i]) + ", which the vocabulary lacks");
      }
      ids[i] = found->second;
    }
    out.merges.push_back({ids[0], ids[1], ids[2]});
  }
  return ok_status();
}

// An added token is either in the vocabulary too, under the same id, or has an id of its own.
Status check_added_tokens(const TokenizerSpec& spec, const std::string& where, CheckedSpec& out) {
  if (spec.added_tokens.size() > kMaxAddedTokens) {
    return resource_exhausted(where + ": " + std::to_string(spec.added_tokens.size()) +
                              " added tokens, at most " + std::to_string(kMaxAddedTokens) +
                              " are accepted");
  }
  std::unordered_set<std::string_view, SeededTextHash> contents;
  std::unordered_set<TokenId> ids;
  std::size_t total = 0;
  for (const AddedToken& token : spec.added_tokens) {
    if (token.id < 0 || static_cast<std::size_t>(token.id) > kMaxTokenId) {
      return corrupt(where + ": the added token " + in_quotes(token.content) + " has the id " +
                     std::to_string(token.id) + ", expected 0 to " + std::to_string(kMaxTokenId));
    }
    const auto id = static_cast<std::size_t>(token.id);
    const auto problem = [&](const std::string& what) {
      return corrupt(where + ": added " + token_name(id, token.content) + " " + what);
    };
    if (token.content.empty()) return problem("has no text");
    LIQUIDGEMM_RETURN_IF_ERROR(check_text(token.content, "added ", id, where));
    total += token.content.size();
    if (total > kMaxAddedTokenBytes) {
      return resource_exhausted(where + ": the added tokens have more than " +
                                std::to_string(kMaxAddedTokenBytes) + " bytes of text");
    }
    if (!ids.insert(token.id).second) return problem("has the id of another added token");
    if (!contents.insert(token.content).second) return problem("has a second id as well");
    if (id < spec.vocabulary.size() && !spec.vocabulary[id].empty() &&
        spec.vocabulary[id] != token.content) {
      return problem("has the id of the ordinary token " + in_quotes(spec.vocabulary[id]));
    }
    const auto ordinary = out.vocabulary.find(token.content);
    if (ordinary != out.vocabulary.end() && ordinary->second != token.id) {
      return problem("is token " + std::to_string(ordinary->second) + " in the vocabulary");
    }
    out.id_limit = std::max(out.id_limit, id + 1);
  }
  return ok_status();
}

Status check_template(const TokenizerSpec& spec, const std::string& where) {
  std::unordered_set<TokenId> added;
  for (const AddedToken& token : spec.added_tokens) added.insert(token.id);
  for (const auto* tokens : {&spec.prefix_tokens, &spec.suffix_tokens}) {
    if (tokens->size() > kMaxTemplateTokens) {
      return resource_exhausted(where + ": " + std::to_string(tokens->size()) +
                                " tokens around the text, at most " +
                                std::to_string(kMaxTemplateTokens) + " are accepted");
    }
    for (const TokenId id : *tokens) {
      const bool ordinary = id >= 0 && static_cast<std::size_t>(id) < spec.vocabulary.size() &&
                            !spec.vocabulary[static_cast<std::size_t>(id)].empty();
      if (!ordinary && !added.contains(id)) {
        return corrupt(where + ": the token " + std::to_string(id) +
                       " that goes around the text does not exist");
      }
    }
  }
  return ok_status();
}

}  // namespace

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  if (text.size() <= kLongest) return "\"" + repair_utf8(text) + "\"";
  return "\"" + repair_utf8(text.substr(0, kLongest)) + "...\"";
}

Result<CheckedSpec> check_spec(const TokenizerSpec& spec, const std::string& where) {
  CheckedSpec checked;
  LIQUIDGEMM_RETURN_IF_ERROR(index_vocabulary(spec, where, checked));
  LIQUIDGEMM_RETURN_IF_ERROR(resolve_merges(spec, where, checked));
  LIQUIDGEMM_RETURN_IF_ERROR(check_added_tokens(spec, where, checked));
  LIQUIDGEMM_RETURN_IF_ERROR(check_template(spec, where));
  return checked;
}

}  // namespace liquidgemm
