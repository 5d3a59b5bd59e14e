#include "engine/text_generator.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/status_macros.h"

namespace liquidgemm {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return "";
  held_ += text;
  std::size_t cut = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t at = held_.find(stop);
    if (at >= cut) continue;
    cut = at;
    found_ = stop;
  }
  if (cut != std::string::npos) {
    stopped_ = true;
    std::string shown = held_.substr(0, cut);
    held_.clear();
    return shown;
  }
  // Keep the longest end of the text that is the beginning of a stop string.
  std::size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) keep = length;
    }
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return shown;
}

std::string StopFilter::flush() { return std::exchange(held_, {}); }

Result<GenerateResult> generate(const LoadedModel& model, Engine& engine,
                                std::vector<TokenId> prompt, const GenerateOptions& options,
                                const std::function<void(std::string_view)>& on_text,
                                const std::atomic<bool>& interrupt) {
  GenerateResult result;
  result.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  Request request;
  request.prompt = std::move(prompt);
  request.sampling = options.sampling;
  request.max_tokens = options.max_tokens;
  if (options.stop_at_end_token) {
    for (const std::int64_t token : model.config.eos_tokens) {
      request.stop_tokens.push_back(static_cast<TokenId>(token));
    }
  }
  auto start = std::chrono::steady_clock::now();
  bool first = true;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const RequestId id, engine.submit(std::move(request)));
  StreamingDetokenizer detokenizer(*model.tokenizer, /*skip_special_tokens=*/true);
  StopFilter filter(options.stop);
  const auto show = [&](const std::string& text) {
    if (text.empty()) return;
    result.text += text;
    if (on_text) on_text(text);
  };

  std::optional<RequestRecord> record;
  while (result.finish_reason.empty()) {
    if (interrupt.load(std::memory_order_relaxed)) {
      record = engine.cancel(id);
      result.finish_reason = "cancelled";
      break;
    }
    auto updates = engine.step();
    if (!updates.ok()) {
      engine.cancel(id);
      return updates.status();
    }
    for (const Update& update : *updates) {
      if (update.request != id) continue;
      if (first) {
        first = false;
        result.prompt_seconds = seconds_since(start);
        start = std::chrono::steady_clock::now();
      }
      if (update.token >= 0) {
        result.tokens.push_back(update.token);
        show(filter.push(detokenizer.push(update.token)));
        if (filter.stopped()) {
          // Unless it ended with this very token.
          record = update.record ? update.record : engine.cancel(id);
          result.finish_reason = "stop";
          break;
        }
      }
      if (update.finish != FinishReason::kNone) {
        record = update.record;
        result.finish_reason = finish_reason_name(update.finish);
      }
    }
  }
  if (!filter.stopped()) {
    show(filter.push(detokenizer.flush()));
    show(filter.flush());
  }
  result.answer_seconds = seconds_since(start);
  if (record) result.cached_tokens = record->cached_tokens;
  return result;
}

}  // namespace liquidgemm
