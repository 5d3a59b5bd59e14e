#include "bench/serve_workload.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <string_view>

#include "base/mapped_file.h"
#include "base/splitmix64.h"
#include "base/status_macros.h"
#include "bench/random_prompt.h"
#include "bench/throughput.h"

namespace liquidgemm::bench {
namespace {

// Short and common: with a space before it, most tokenizers have each as one token.
constexpr std::array<std::string_view, 64> kWords = {
    "the",   "of",    "and",   "to",    "in",    "that",  "was",   "his",   "with",  "for",  "had",
    "not",   "but",   "her",   "they",  "from",  "all",   "this",  "one",   "there", "been", "are",
    "more",  "when",  "who",   "would", "no",    "him",   "what",  "time",  "man",   "some", "than",
    "other", "could", "then",  "only",  "new",   "your",  "over",  "these", "may",   "like", "way",
    "made",  "long",  "day",   "many",  "under", "house", "world", "still", "water", "life", "work",
    "hand",  "part",  "place", "year",  "old",   "great", "light", "small", "found"};

static_assert(!kWords.back().empty());

std::string words_of(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) {
    if (!text.empty()) text += ' ';
    text += kWords[static_cast<std::size_t>(id)];
  }
  return text;
}

Result<ServePrompt> read_prompt(const json::Value& value, const std::string& where,
                                std::int64_t output_len) {
  constexpr std::int64_t kLongest = std::int64_t{1} << 24;
  if (!value.is_object()) return corrupt(where + ": expected an object");
  const json::Reader line(value.get_object(), where);
  ServePrompt prompt;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto wanted, line.optional_int("output_len", 1, kLongest));
  prompt.output_tokens = wanted.value_or(output_len);
  const json::Value* content = line.object().if_contains("prompt");
  if (content == nullptr || !content->is_array()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(prompt.content, line.required_string("prompt"));
    prompt.input_tokens = -1;
    return prompt;
  }
  std::vector<std::int32_t> ids;
  for (const json::Value& id : content->get_array()) {
    if (!id.is_int64() || id.get_int64() < 0 ||
        id.get_int64() > std::numeric_limits<std::int32_t>::max()) {
      return corrupt(line.field("prompt") + ": expected text or a list of token ids");
    }
    ids.push_back(static_cast<std::int32_t>(id.get_int64()));
  }
  if (ids.empty()) return corrupt(line.field("prompt") + ": expected at least one token id");
  prompt.input_tokens = static_cast<std::int64_t>(ids.size());
  prompt.content = std::move(ids);
  return prompt;
}

}  // namespace

std::vector<ServePrompt> random_prompts(const RandomPrompts& options) {
  const ThroughputCell cell{.prompts = options.prompts,
                            .input_len = options.input_len,
                            .output_len = options.output_len,
                            .range_ratio = options.range_ratio,
                            .seed = options.seed,
                            .prefix_len = options.prefix_len};
  const std::int64_t choices =
      options.text ? static_cast<std::int64_t>(kWords.size()) : options.vocabulary;
  const std::vector<std::int32_t> prefix =
      random_prompt(options.prefix_len, choices, splitmix64_key(options.seed, "prefix"));
  const std::uint64_t key = splitmix64_key(options.seed, "prompts");
  std::vector<ServePrompt> prompts;
  for (const RequestLengths& lengths : request_lengths(cell)) {
    std::vector<std::int32_t> ids = prefix;
    const std::vector<std::int32_t> own =
        random_prompt(lengths.input - options.prefix_len, choices, key + prompts.size());
    ids.insert(ids.end(), own.begin(), own.end());
    ServePrompt prompt;
    prompt.input_tokens = lengths.input;
    prompt.output_tokens = lengths.output;
    if (options.text) {
      prompt.content = words_of(ids);
    } else {
      prompt.content = std::move(ids);
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

Result<std::vector<ServePrompt>> read_prompts(const std::string& path, std::int64_t most,
                                              std::int64_t output_len) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes();
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<ServePrompt> prompts;
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (static_cast<std::int64_t>(prompts.size()) == most) break;
    const std::string where = fmt::format("{}: line {}", path, number);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse(line, where));
    LIQUIDGEMM_ASSIGN_OR_RETURN(ServePrompt prompt, read_prompt(value, where, output_len));
    prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) {
    return corrupt(path + ": no prompts; expected lines like {\"prompt\": \"...\"}");
  }
  return prompts;
}

std::string request_body(const ServePrompt& prompt, const RequestOptions& options) {
  json::Value content;
  if (const auto* ids = std::get_if<std::vector<std::int32_t>>(&prompt.content)) {
    content = json::Array(ids->begin(), ids->end());
  } else {
    content = boost::json::string(std::get<std::string>(prompt.content));
  }
  json::Object body{{"model", options.model}};
  if (options.chat) {
    body["messages"] = json::Array{json::Object{{"role", "user"}, {"content", std::move(content)}}};
  } else {
    body["prompt"] = std::move(content);
  }
  body["max_tokens"] = prompt.output_tokens;
  body["temperature"] = options.temperature;
  body["stream"] = true;
  body["stream_options"] = json::Object{{"include_usage", true}};
  if (options.ignore_eos) body["ignore_eos"] = true;
  for (const auto& member : options.extra) {
    if (member.value().is_null()) {
      body.erase(member.key());
    } else {
      body[member.key()] = member.value();
    }
  }
  return json::dump(body);
}

std::vector<double> arrival_times(std::int64_t requests, double rate, double burstiness,
                                  std::uint64_t seed) {
  std::vector<double> times(static_cast<std::size_t>(requests), 0.0);
  if (times.empty() || std::isinf(rate)) return times;
  std::mt19937_64 bits(splitmix64_key(seed, "arrivals"));
  std::gamma_distribution<double> gap(std::isinf(burstiness) ? 1.0 : burstiness, 1.0);
  double time = 0.0;
  for (double& due : times) due = time += std::isinf(burstiness) ? 1.0 : gap(bits);
  // A shape close to 0 may have drawn nothing but zeros.
  const double scale = time > 0.0 ? static_cast<double>(requests) / rate / time : 0.0;
  for (double& due : times) due *= scale;
  return times;
}

}  // namespace liquidgemm::bench
