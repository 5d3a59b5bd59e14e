// /v1/completions: {"text", "logprobs", "finish_reason"} for each choice, prompts echoed.

#include <utility>

#include "server/answer.h"

namespace liquidgemm::server {
namespace {

class CompletionAnswer : public Answer {
 public:
  CompletionAnswer(const Tokenizer& tokenizer, EngineThread& engine,
                   std::shared_ptr<HttpReply> reply, const CompletionRequest& request,
                   AnswerOptions options, std::vector<std::vector<TokenId>> prompts)
      : Answer(tokenizer, engine, std::move(reply), request.generation, std::move(options)),
        choices_(prompts.size() * static_cast<std::size_t>(request.generation.n)) {
    if (!request.echo) return;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      echoes_.push_back(echo(request, i, std::move(prompts[i])));
    }
  }

 private:
  struct Choice {
    std::string text;
    std::vector<TokenInfo> tokens;
    std::string_view finish;
    bool echoed = false;
    std::vector<PositionLogprobs> prompt_logprobs;
  };
  struct Echo {
    std::string text;
    std::size_t characters = 0;
    std::vector<TokenInfo> tokens;  // without their log-probabilities
  };

  Echo echo(const CompletionRequest& request, std::size_t index, std::vector<TokenId> prompt) {
    Echo echo;
    std::size_t silent = 0;  // tokens put before the text
    if (const auto* text = std::get_if<std::string>(&request.prompts[index])) {
      echo.text = *text;
      if (request.add_special_tokens) silent = tokenizer_.spec().prefix_tokens.size();
    } else {
      echo.text = tokenizer_.decode(prompt, /*skip_special_tokens=*/false);
    }
    echo.characters = count_characters(echo.text);
    if (generation_.logprobs < 0) return echo;
    StreamingDetokenizer detokenizer(tokenizer_, /*skip_special_tokens=*/false);
    std::size_t offset = 0;
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      echo.tokens.push_back({.token = prompt[i], .logprobs = {}, .offset = offset});
      if (i >= silent) offset += count_characters(detokenizer.push(prompt[i]));
    }
    return echo;
  }

  const Echo* echo_of(std::size_t index) const {
    return echoes_.empty() ? nullptr : &echoes_[index / static_cast<std::size_t>(generation_.n)];
  }

  std::size_t first_offset(std::size_t index) const override {
    const Echo* echo = echo_of(index);
    return echo == nullptr ? 0 : echo->characters;
  }

  void set_prompt_logprobs(std::size_t index, std::vector<PositionLogprobs> logprobs) override {
    choices_[index].prompt_logprobs = std::move(logprobs);
  }

  // Puts the prompt before a choice's first piece.
  void add_echo(std::size_t index, Piece& piece) {
    Choice& choice = choices_[index];
    const Echo* echo = echo_of(index);
    if (echo == nullptr || std::exchange(choice.echoed, true)) return;
    piece.text.insert(0, echo->text);
    if (generation_.logprobs < 0) return;
    std::vector<TokenInfo> tokens = echo->tokens;
    for (std::size_t i = 1; i < tokens.size() && i <= choice.prompt_logprobs.size(); ++i) {
      tokens[i].logprobs = std::move(choice.prompt_logprobs[i - 1]);
    }
    choice.prompt_logprobs.clear();
    piece.tokens.insert(piece.tokens.begin(), std::make_move_iterator(tokens.begin()),
                        std::make_move_iterator(tokens.end()));
  }

  std::string events_of(std::size_t index, Piece piece) override {
    add_echo(index, piece);
    std::string inner = "\"text\":" + json_string(piece.text) + ",\"logprobs\":";
    inner += generation_.logprobs < 0 ? "null"
                                      : json::dump(completion_logprobs(tokenizer_, piece.tokens));
    inner += ",\"finish_reason\":" + (piece.finish.empty() ? "null" : json_string(piece.finish));
    return event(index, inner);
  }

  void collect(std::size_t index, Piece piece) override {
    add_echo(index, piece);
    Choice& choice = choices_[index];
    choice.text += piece.text;
    choice.tokens.insert(choice.tokens.end(), std::make_move_iterator(piece.tokens.begin()),
                         std::make_move_iterator(piece.tokens.end()));
    choice.finish = piece.finish;
  }

  json::Object choice_object(std::size_t index) override {
    const Choice& choice = choices_[index];
    json::Value logprobs = nullptr;
    if (generation_.logprobs >= 0) logprobs = completion_logprobs(tokenizer_, choice.tokens);
    return {{"index", index},
            {"text", choice.text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", choice.finish}};
  }

  std::string_view object_name() const override { return "text_completion"; }
  std::string_view chunk_name() const override { return "text_completion"; }

  std::vector<Echo> echoes_;  // one a prompt, or none at all
  std::vector<Choice> choices_;
};

}  // namespace

std::shared_ptr<Answer> make_completion_answer(const Tokenizer& tokenizer, EngineThread& engine,
                                               std::shared_ptr<HttpReply> reply,
                                               const CompletionRequest& request,
                                               AnswerOptions options,
                                               std::vector<std::vector<TokenId>> prompts) {
  return std::make_shared<CompletionAnswer>(tokenizer, engine, std::move(reply), request,
                                            std::move(options), std::move(prompts));
}

}  // namespace liquidgemm::server
