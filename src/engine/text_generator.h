// One prompt in, text out: the loop that `liquid run` and embedders use.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "model/load.h"

namespace liquidgemm {

struct GenerateOptions {
  SamplingParams sampling;
  std::int64_t max_tokens = 256;
  std::vector<std::string> stop;  // end the answer; not part of it
  bool stop_at_end_token = true;  // false: ignore the model's end tokens
};

struct GenerateResult {
  std::string text;
  std::vector<TokenId> tokens;
  // "stop" (an end token or a stop string), "length", "cancelled" or "error".
  std::string finish_reason;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt, known from earlier requests
  double prompt_seconds = 0.0;     // until the first token was chosen
  double answer_seconds = 0.0;     // from then on
};

// Cuts a growing text at the first stop string, holding back what may still become one.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops);
  // The text that is safe to show now. After a stop string was found: stopped(), nothing more.
  std::string push(std::string_view text);
  std::string flush();
  bool stopped() const { return stopped_; }
  const std::string& found() const { return found_; }  // the stop string that ended the text

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string found_;
  bool stopped_ = false;
};

// Runs one request to its end. on_text gets pieces of whole characters as they come; `interrupt`
// ends the answer early and keeps what there is. The engine must be idle.
Result<GenerateResult> generate(const LoadedModel& model, Engine& engine,
                                std::vector<TokenId> prompt, const GenerateOptions& options,
                                const std::function<void(std::string_view)>& on_text,
                                const std::atomic<bool>& interrupt);

}  // namespace liquidgemm
