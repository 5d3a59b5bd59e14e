// What completions and chats have in common: the one validator of sampling, lengths and stops.

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include "server/api_request.h"

namespace liquidgemm::server {
namespace {

// Longer answers than any model's context are cut by fit_length's message, not by overflow.
constexpr std::int64_t kMaxTokens = std::int64_t{1} << 31;
constexpr double kMaxTemperature = 100.0;
constexpr double kMaxRepetitionPenalty = 100.0;
constexpr std::size_t kMaxLabelBytes = 1024;
constexpr float kLeastAboveZero = std::numeric_limits<float>::denorm_min();
constexpr float kMostBelowOne = 0x1.fffffep-1f;

void parse_sampling(RequestFields& fields, const RequestRules& rules, GenerationParams& out) {
  SamplingParams& sampling = out.sampling;
  sampling = rules.sampling;
  const auto number = [&](std::string_view name, double low, double high, float& value) {
    const auto given = fields.number(name, low, high);
    if (given) value = static_cast<float>(*given);
    return given.value_or(value);
  };
  number("temperature", 0.0, kMaxTemperature, sampling.temperature);
  // Rounding must not put a number on an end that its range leaves out.
  if (number("top_p", 0.0, 1.0, sampling.top_p) > 0.0) {
    sampling.top_p = std::max(sampling.top_p, kLeastAboveZero);
  }
  if (number("min_p", 0.0, 1.0, sampling.min_p) < 1.0) {
    sampling.min_p = std::min(sampling.min_p, kMostBelowOne);
  }
  if (number("repetition_penalty", 0.0, kMaxRepetitionPenalty, sampling.repetition_penalty) > 0.0) {
    sampling.repetition_penalty = std::max(sampling.repetition_penalty, kLeastAboveZero);
  }
  number("presence_penalty", -2.0, 2.0, sampling.presence_penalty);
  number("frequency_penalty", -2.0, 2.0, sampling.frequency_penalty);
  // -1 and 0 both keep all tokens.
  if (const auto top_k = fields.integer("top_k", -1, std::numeric_limits<std::int32_t>::max())) {
    sampling.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(*top_k, 0));
  }
  if (const auto seed = fields.integer("seed", std::numeric_limits<std::int64_t>::min(),
                                       std::numeric_limits<std::int64_t>::max())) {
    sampling.seed = static_cast<std::uint64_t>(*seed);
    out.has_seed = true;
  }
  if (!fields.ok()) return;
  // What ranges with an open end leave over.
  const Status status = check_sampling(sampling);
  if (status.ok()) return;
  // "top_p is 0; expected a number above 0 and at most 1"
  const std::size_t end = status.message().find(" is ");
  if (end == std::string::npos) return fields.fail("", status.message());
  fields.fail(status.message().substr(0, end), status.message().substr(end + 1));
}

void parse_logit_bias(RequestFields& fields, const RequestRules& rules, GenerationParams& out) {
  const json::Object* object = fields.object("logit_bias");
  if (object == nullptr) return;
  if (object->size() > rules.limits.logit_bias) {
    return fields.fail("logit_bias", std::to_string(object->size()) + " tokens, at most " +
                                         std::to_string(rules.limits.logit_bias) + " are accepted");
  }
  for (const auto& member : *object) {
    const std::string_view name = member.key();
    std::int64_t token = -1;
    const auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), token);
    // "007" and "7" would be one token twice.
    const bool canonical =
        problem == std::errc() && end == name.data() + name.size() && std::to_string(token) == name;
    if (!canonical || token < 0 || token >= rules.vocabulary) {
      return fields.fail(
          "logit_bias",
          "expected token ids from 0 to " + std::to_string(rules.vocabulary - 1) +
              " as names, found " +
              json::dump(json::Value(name.substr(0, RequestFields::kMaxUnknownBytes))));
    }
    const std::string at = "logit_bias." + std::string(name);
    const json::Value& value = member.value();
    if (!value.is_number()) {
      return fields.fail(
          at, "expected a number from -100 to 100, found " + std::string(json::kind_name(value)));
    }
    const auto bias = value.to_number<double>();
    if (!(bias >= -100.0 && bias <= 100.0)) {
      return fields.fail(at, "expected a number from -100 to 100, found " + json::dump(value));
    }
    out.logit_bias.push_back({static_cast<TokenId>(token), static_cast<float>(bias)});
  }
}

void parse_stops(RequestFields& fields, const RequestRules& rules, GenerationParams& out) {
  out.stops = fields.strings("stop", rules.limits.stops, rules.limits.stop_bytes);
  std::erase_if(out.stops, [](const std::string& stop) { return stop.empty(); });
  if (const json::Array* list = fields.array("stop_token_ids", rules.limits.stop_token_ids)) {
    out.stop_tokens = parse_tokens(fields, "stop_token_ids", *list, rules);
  }
  out.include_stop = fields.boolean("include_stop_str_in_output").value_or(false);
  out.ignore_end_tokens = fields.boolean("ignore_eos").value_or(false);
}

void parse_stream(RequestFields& fields, GenerationParams& out) {
  out.stream = fields.boolean("stream").value_or(false);
  const json::Object* options = fields.object("stream_options");
  if (options == nullptr) return;
  if (!out.stream) {
    return fields.fail("stream_options", "only accepted together with \"stream\": true");
  }
  RequestFields inner = fields.inside(*options, "stream_options");
  out.include_usage = inner.boolean("include_usage").value_or(false);
  inner.unsupported("continuous_usage_stats", {"false"});
  (void)inner.boolean("include_obfuscation");  // padding against traffic analysis: optional
}

// Labels that change nothing here, and what no endpoint supports.
void parse_rest(RequestFields& fields) {
  for (const std::string_view label :
       {"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}) {
    (void)fields.string(label, kMaxLabelBytes);
  }
  (void)fields.object("metadata");
  (void)fields.boolean("spaces_between_special_tokens");  // nothing puts spaces there
  fields.unsupported("use_beam_search", {"false"});
  fields.unsupported("best_of", {"1", "1E0"});
  fields.unsupported("length_penalty", {"1.0", "1", "1E0"});
  fields.unsupported("early_stopping", {"false"});
  fields.unsupported("truncate_prompt_tokens", {}, "send a prompt that fits");
  fields.unsupported("allowed_token_ids");
  fields.unsupported("bad_words", {"[]"}, "logit_bias forbids tokens");
  fields.unsupported("logits_processors", {"[]"});
  fields.unsupported("logprob_token_ids", {"[]"});
  fields.unsupported("prompt_logprobs", {},
                     "\"echo\" with \"logprobs\" on /v1/completions has them");
  fields.unsupported("return_tokens_as_token_ids", {"false"});
  fields.unsupported("return_token_ids", {"false"});
  fields.unsupported("prompt_embeds");
  fields.unsupported("lora_request");
  fields.unsupported("lora_path");
  fields.unsupported("prompt_adapter_request");
  fields.unsupported("priority", {"0", "0E0"});
  fields.unsupported("request_id", {}, "the header X-Request-Id names a request");
  fields.unsupported("kv_transfer_params");
  fields.unsupported("vllm_xargs", {"{}"});
  fields.unsupported("service_tier", {"\"auto\"", "\"default\""});
  fields.unsupported("dry_multiplier", {"0", "0E0"});
  fields.unsupported("mirostat", {"0", "0E0"});
  fields.unsupported("typical_p", {"1", "1E0"});
  fields.unsupported("grammar", {"\"\""}, "guided_regex and json_schema are there");
}

}  // namespace

std::vector<TokenId> parse_tokens(RequestFields& fields, const std::string& name,
                                  const json::Array& list, const RequestRules& rules) {
  std::vector<TokenId> tokens;
  tokens.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const json::Value& item = list[i];
    const auto token = whole_number(item);
    if (!token || *token < 0 || *token >= rules.vocabulary) {
      const bool short_text = item.is_number() || item.is_null() || item.is_bool();
      fields.fail(name + "[" + std::to_string(i) + "]",
                  "expected a token id from 0 to " + std::to_string(rules.vocabulary - 1) +
                      ", found " +
                      (short_text ? json::dump(item) : std::string(json::kind_name(item))));
      return {};
    }
    tokens.push_back(static_cast<TokenId>(*token));
  }
  return tokens;
}

void parse_generation(RequestFields& fields, const RequestRules& rules,
                      std::int64_t lowest_max_tokens, GenerationParams& generation) {
  parse_sampling(fields, rules, generation);
  generation.n = fields.integer("n", 1, rules.limits.n).value_or(1);
  generation.max_tokens = fields.integer("max_tokens", lowest_max_tokens, kMaxTokens);
  generation.min_tokens = fields.integer("min_tokens", 0, kMaxTokens).value_or(0);
  parse_stops(fields, rules, generation);
  parse_logit_bias(fields, rules, generation);
  generation.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  generation.cache_salt = fields.string("cache_salt", kMaxCacheSalt).value_or("");
  parse_stream(fields, generation);
  parse_structured_output(fields, rules, generation);
  parse_rest(fields);
}

std::optional<ApiError> fit_length(const GenerationParams& generation, std::int64_t prompt_tokens,
                                   std::int64_t capacity, std::int64_t& max_tokens) {
  if (prompt_tokens == 0) {
    return bad_request("prompt", "prompt: empty, expected at least one token");
  }
  // The prompt may fill everything when no answer is wanted.
  const std::int64_t wanted = generation.max_tokens.value_or(1);
  const std::string& name = generation.max_tokens_name;
  if (prompt_tokens > capacity - wanted) {
    std::string message = "the prompt's " + std::to_string(prompt_tokens) + " tokens";
    if (generation.max_tokens) message += " and " + name + " " + std::to_string(wanted);
    message += " exceed the longest sequence that is served, " + std::to_string(capacity) +
               " tokens (--max-model-len); shorten the prompt";
    const bool answer = generation.max_tokens && prompt_tokens < capacity;
    if (answer) message += " or lower " + name;
    ApiError error = bad_request(answer ? name : "prompt", std::move(message));
    error.code = "context_length_exceeded";
    return error;
  }
  max_tokens = generation.max_tokens.value_or(capacity - prompt_tokens);
  if (generation.min_tokens > max_tokens) {
    return bad_request("min_tokens", "min_tokens: " + std::to_string(generation.min_tokens) +
                                         " is more than " + name + ", " +
                                         std::to_string(max_tokens));
  }
  return std::nullopt;
}

std::optional<ApiError> parse_body(std::string_view body, const ApiLimits& limits,
                                   json::Object& object) {
  auto value = json::parse(body, "the request body",
                           {.max_bytes = limits.body_bytes, .max_depth = limits.body_depth});
  if (!value.ok()) return bad_request("", value.status().message());
  if (!value->is_object()) {
    return bad_request("", "the request body: expected a JSON object, found " +
                               std::string(json::kind_name(*value)));
  }
  object = std::move(value->get_object());
  return std::nullopt;
}

}  // namespace liquidgemm::server
