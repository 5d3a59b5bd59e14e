// The engine: requests in, tokens out, many sequences a step.
//
// One thread owns an engine and calls step(). A request's tokens depend on the request alone: its
// prompt, its sampling parameters and the model, never on what runs beside it or how its prompt is
// cut into chunks.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/page_pool.h"
#include "liquidgemm/status.h"
#include "model/backend.h"

namespace liquidgemm {

using RequestId = std::int64_t;

struct Request {
  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling;
  std::int64_t max_tokens = 256;     // of the answer, at least 1
  std::vector<TokenId> stop_tokens;  // end the answer and are not part of it
};

enum class FinishReason {
  kNone,    // still running
  kStop,    // a stop token
  kLength,  // max_tokens, or the longest sequence the backend takes
  kError,   // the model's output for this sequence was not finite
};
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "error"

// What one step did for one request: a token, the end, or both.
struct Update {
  RequestId request = 0;
  TokenId token = -1;  // -1: no token, only the end
  FinishReason finish = FinishReason::kNone;
};

struct EngineOptions {
  std::int64_t prompt_chunk = 256;  // most prompt tokens of one sequence in one step
  std::int64_t max_sequences = 0;   // most requests that run at once; 0: as the backend takes
};

class Engine {
 public:
  // The backend is planned and outlives the engine.
  explicit Engine(Backend& backend, const EngineOptions& options = {});

  // Queues a request. Errors name the field: an empty or too long prompt, a token outside the
  // vocabulary, a sampling parameter out of range, more pages than the cache has.
  Result<RequestId> submit(Request request);
  // Frees the request's pages at once; no more updates follow. Unknown ids are ignored.
  void cancel(RequestId id);

  bool idle() const { return waiting_.empty() && running_.empty(); }
  std::int64_t running() const { return static_cast<std::int64_t>(running_.size()); }
  std::int64_t waiting() const { return static_cast<std::int64_t>(waiting_.size()); }
  std::int64_t free_pages() const { return pages_.available(); }

  // Admits what fits, runs one backend step, reports what happened. Nothing to do: no updates.
  Result<std::vector<Update>> step();

 private:
  struct Sequence {
    RequestId id = 0;
    Request request;
    std::vector<TokenId> tokens;  // prompt and answer
    std::int64_t cached = 0;      // tokens whose keys and values are in the pages
    std::vector<std::int32_t> pages;
    std::vector<TokenCount> counts;  // kept only when a penalty is set
    std::unordered_map<TokenId, std::size_t> count_index;
    std::int64_t answered() const {
      return static_cast<std::int64_t>(tokens.size() - request.prompt.size());
    }
  };

  std::int64_t longest(const Request& request) const;
  void admit();
  void count_token(Sequence& sequence, TokenId token, bool in_prompt);
  // Adds rows tokens of the sequence to the step.
  void add_rows(Sequence& sequence, std::int64_t rows);
  Update take_token(Sequence& sequence, const SampledToken& sampled);

  Backend& backend_;
  EngineOptions options_;
  PagePool pages_;
  RequestId next_id_ = 1;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of arrival

  // The step being built.
  std::vector<TokenId> step_tokens_;
  std::vector<SequenceRows> step_sequences_;
  std::vector<std::int32_t> step_logits_rows_;
  std::vector<SampleRow> step_samples_;
  std::vector<Sequence*> step_sampled_;  // the sequence of each sample
};

}  // namespace liquidgemm
