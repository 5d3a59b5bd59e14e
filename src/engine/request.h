// What an engine is asked for, and what it answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/token_constraint.h"
#include "model/tokenizer/tokenizer.h"
#include "ops/logprobs.h"
#include "ops/sampling.h"

namespace liquidgemm {

using RequestId = std::int64_t;  // ascending in order of arrival
using TimePoint = std::chrono::steady_clock::time_point;

// A longer salt is refused.
inline constexpr std::size_t kMaxCacheSalt = 1024;

inline constexpr std::size_t kMaxLogitBiases = 1024;
inline constexpr float kMaxLogitBias = 100.0f;
inline constexpr std::size_t kMaxStopTokens = 1024;

// One position: the token that stands there, and the likeliest ones, descending.
struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
};

struct Request {
  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling;
  std::int64_t max_tokens = 256;     // of the answer, at least 1
  std::vector<TokenId> stop_tokens;  // end the answer and are not part of it; kMaxStopTokens
  // Stop tokens are not drawn before so many tokens, at most max_tokens, unless the constraint
  // lets nothing else come.
  std::int64_t min_tokens = 0;
  // Added to the logits before penalties. kMaxLogitBiases, each token once, within kMaxLogitBias.
  std::vector<TokenBias> logit_bias;
  // Of each token of the answer: -1 none, else its own log-probability and those of so many of the
  // likeliest tokens, at most kMaxLogprobs. By the logits as the model gives them.
  std::int32_t logprobs = -1;
  // The same for the prompt's tokens from the second on. The prompt is then not looked up in the
  // prefix cache: all of its logits are computed, as many rows a step as the backend has logits
  // for.
  std::int32_t prompt_logprobs = -1;
  std::shared_ptr<TokenConstraint> constraint;  // null: any token may come
  // Only requests of the same salt share cached prefixes, so that nobody can learn from the time
  // an answer takes what somebody else has asked.
  std::string cache_salt;
  // Of the engine's clock: from then on no step works on the request any more; it ends with
  // kTimeout, waiting or running.
  std::optional<TimePoint> deadline = {};
};

enum class FinishReason {
  kNone,     // still running
  kStop,     // a stop token
  kLength,   // max_tokens, or the longest sequence the backend takes
  kTimeout,  // its deadline
  kError,    // the logits were not finite, the constraint let nothing come, or a step failed
};
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", ...

// What became of one request so far.
struct RequestRecord {
  TimePoint arrival;
  std::optional<TimePoint> first_scheduled;
  std::optional<TimePoint> first_token;
  std::optional<TimePoint> finished;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt, that other requests had computed
  std::int64_t answer_tokens = 0;
  std::int64_t preemptions = 0;
};

// What one step did for one request: a token, the end, or both.
struct Update {
  RequestId request = 0;
  TokenId token = -1;  // -1: no token, only the end
  FinishReason finish = FinishReason::kNone;
  std::optional<PositionLogprobs> logprobs = std::nullopt;  // with a token, when asked for
  // With the first token (or the end, where there is none), when asked for: the prompt's positions
  // from the second on.
  std::vector<PositionLogprobs> prompt_logprobs = {};
  std::optional<RequestRecord> record = std::nullopt;  // with the end
  // With the first token: as the record will have it, for those who will not see its end.
  std::optional<std::int64_t> cached_tokens = std::nullopt;
  // With a token from the second on.
  std::optional<std::chrono::nanoseconds> since_last_token = std::nullopt;
};

// The state of an engine. The counters count from its beginning.
struct EngineMetrics {
  std::int64_t running = 0;
  std::int64_t waiting = 0;
  std::int64_t pages = 0;         // all of them: used + cached + free
  std::int64_t pages_used = 0;    // by running requests
  std::int64_t pages_cached = 0;  // by none, kept in case their prefix comes again
  std::int64_t pages_free = 0;
  std::int64_t prefix_query_tokens = 0;  // prompt tokens that were looked for in the cache
  std::int64_t prefix_hit_tokens = 0;    // of these, found
  std::int64_t preemptions = 0;
  std::int64_t steps = 0;
};

}  // namespace liquidgemm
