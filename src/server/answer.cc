#include "server/answer.h"

#include <utility>

namespace liquidgemm::server {

Answer::Answer(const Tokenizer& tokenizer, EngineThread& engine, std::shared_ptr<HttpReply> reply,
               const GenerationParams& generation, AnswerOptions options)
    : tokenizer_(tokenizer),
      generation_(generation),
      options_(std::move(options)),
      engine_(engine),
      reply_(std::move(reply)) {
  const std::size_t count = options_.prompt_tokens.size() * static_cast<std::size_t>(generation.n);
  choices_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) choices_.emplace_back(tokenizer_, generation_);
}

void Answer::start(std::vector<Request> requests) {
  auto self = shared_from_this();
  chunk_head_ = head(chunk_name());
  // The reply holds the callback, so the callback must not hold the reply.
  reply_->on_disconnect([weak = weak_from_this()] {
    if (const auto answer = weak.lock()) answer->cancel_all();
  });
  auto ids = engine_.submit(std::move(requests), [self](std::size_t index, const Update& update) {
    self->update(index, update);
  });
  if (!ids.ok()) return send_error(*reply_, from_status(ids.status()));
  bool gone = false;
  {
    const std::lock_guard lock(mutex_);
    ids_ = std::move(*ids);
    gone = gone_;
  }
  if (gone) cancel_all();
}

void Answer::cancel_all() {
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    ids = ids_;
  }
  if (!ids.empty()) engine_.cancel(ids);
}

void Answer::update(std::size_t index, const Update& update) {
  Choice& choice = choices_[index];
  if (choice.done || closed_) return;
  choice.prompt_logprobs.insert(choice.prompt_logprobs.end(), update.prompt_logprobs.begin(),
                                update.prompt_logprobs.end());
  if (update.cached_tokens) choice.cached_tokens = *update.cached_tokens;
  if (update.finish == FinishReason::kError) {
    choice.done = true;
    return fail(
        server_error("the model's output is not a finite number, or a step of the engine "
                     "failed; the server's log says more"));
  }
  if (update.finish == FinishReason::kTimeout) {
    choice.done = true;
    return fail(request_too_slow(options_.time_limit));
  }
  if (update.token < 0 && update.finish == FinishReason::kNone) return;
  if (!std::exchange(choice.began, true)) {
    choice.characters = first_offset(index);
    set_prompt_logprobs(index, std::exchange(choice.prompt_logprobs, {}));
  }
  bool stopped = false;
  Piece piece = make_piece(choice, update, stopped);
  if (stopped && update.finish == FinishReason::kNone) {
    engine_.cancel({update.request}, FinishReason::kStop);
  }
  if (!piece.finish.empty()) {
    choice.done = true;
    ++done_;
  }
  emit(index, std::move(piece));
}

Answer::Piece Answer::make_piece(Choice& choice, const Update& update, bool& stopped) {
  Piece piece;
  if (options_.drop_answer) {
    piece.finish = "length";
    return piece;
  }
  std::string text;
  if (update.token >= 0) {
    ++choice.tokens;
    if (generation_.logprobs >= 0) {
      piece.tokens.push_back(
          {.token = update.token, .logprobs = update.logprobs, .offset = choice.characters});
    }
    text = choice.detokenizer.push(update.token);
  }
  const bool ended = update.finish != FinishReason::kNone;
  if (ended) text += choice.detokenizer.flush();
  choice.characters += count_characters(text);
  // Up to min_tokens nothing ends an answer.
  if (choice.tokens <= generation_.min_tokens && !ended) {
    piece.text = std::move(text);
    return piece;
  }
  piece.text = choice.stops.push(text);
  if (choice.stops.stopped()) {
    stopped = true;
    piece.finish = "stop";
    if (generation_.include_stop) piece.text += choice.stops.found();
  } else if (ended) {
    piece.text += choice.stops.flush();
    piece.finish = finish_reason_name(update.finish);
  }
  return piece;
}

void Answer::emit(std::size_t index, Piece piece) {
  const bool all_done = done_ == choices_.size();
  if (!generation_.stream) {
    collect(index, std::move(piece));
    if (all_done) complete();
    return;
  }
  std::string events = events_of(index, std::move(piece));
  if (!events.empty() && !write(std::move(events))) return;
  if (all_done) complete();
}

bool Answer::write(std::string chunk) {
  if (!std::exchange(streaming_, true)) {
    reply_->begin_stream("text/event-stream", {{"Cache-Control", "no-cache"}});
  }
  if (reply_->write(std::move(chunk))) return true;
  closed_ = true;
  cancel_all();
  return false;
}

void Answer::complete() {
  closed_ = true;
  if (!generation_.stream) {
    json::Array choices;
    for (std::size_t i = 0; i < choices_.size(); ++i) choices.push_back(choice_object(i));
    json::Object body{{"id", options_.id},
                      {"object", object_name()},
                      {"created", options_.created},
                      {"model", options_.model},
                      {"choices", std::move(choices)},
                      {"usage", usage_object(usage())}};
    reply_->send(200, "application/json", json::dump(body));
    return;
  }
  std::string last;
  if (generation_.include_usage) {
    last = "data: " + chunk_head_ + "],\"usage\":" + json::dump(usage_object(usage())) + "}\n\n";
  }
  if (write(last + "data: [DONE]\n\n")) reply_->end();
}

// Before the stream began an error is a normal reply; afterwards it is the stream's last event.
void Answer::fail(const ApiError& error) {
  closed_ = true;
  cancel_all();
  if (!streaming_) return send_error(*reply_, error);
  if (write("data: " + json::dump(error_body(error)) + "\n\ndata: [DONE]\n\n")) reply_->end();
}

// Prompts count once however many answers they get.
Usage Answer::usage() const {
  Usage usage;
  const auto n = static_cast<std::size_t>(generation_.n);
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    usage.completion_tokens += choices_[i].tokens;
    if (i % n != 0) continue;
    usage.prompt_tokens += options_.prompt_tokens[i / n];
    usage.cached_tokens += choices_[i].cached_tokens;
  }
  return usage;
}

std::string Answer::head(std::string_view object) const {
  return "{\"id\":" + json_string(options_.id) + ",\"object\":" + json_string(object) +
         ",\"created\":" + std::to_string(options_.created) +
         ",\"model\":" + json_string(options_.model) + ",\"choices\":[";
}

std::string Answer::event(std::size_t index, std::string_view inner) const {
  std::string text = "data: ";
  text += chunk_head_;
  text += "{\"index\":" + std::to_string(index) + ",";
  text += inner;
  text += generation_.include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n";
  return text;
}

}  // namespace liquidgemm::server
