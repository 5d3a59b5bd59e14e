// `liquid run`: one prompt, or a chat on the terminal.

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "cli/interrupt.h"
#include "cli/line_editor.h"
#include "cli/model_options.h"
#include "cli/quantized_cache.h"
#include "cli/table.h"
#include "engine/text_generator.h"

namespace liquidgemm::cli {
namespace {

// A prompt from standard input may be this long.
constexpr std::size_t kMaxStandardInput = 64u << 20;

struct RunOptions {
  ModelOptions model;
  std::string precision = "auto";
  std::optional<std::string> prompt;
  std::optional<std::string> system;
  bool raw = false;
  bool json = false;
  std::int64_t max_tokens = 512;
  std::vector<std::string> stop;
  std::uint64_t seed = 0;
  // Empty: what generation_config.json suggests, else the neutral value (greedy).
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int32_t> top_k;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  bool ignore_eos = false;
  bool prefix_caching = true;
};

SamplingParams sampling_for(const RunOptions& options, const GenerationDefaults& defaults) {
  const auto choose = [](const auto& given, const auto& suggested, auto neutral) {
    if (given) return static_cast<decltype(neutral)>(*given);
    return suggested ? static_cast<decltype(neutral)>(*suggested) : neutral;
  };
  SamplingParams sampling;
  sampling.temperature = choose(options.temperature, defaults.temperature, 0.0f);
  sampling.top_k = choose(options.top_k, defaults.top_k, std::int32_t{0});
  sampling.top_p = choose(options.top_p, defaults.top_p, 1.0f);
  sampling.min_p = choose(options.min_p, defaults.min_p, 0.0f);
  sampling.repetition_penalty =
      choose(options.repetition_penalty, defaults.repetition_penalty, 1.0f);
  sampling.presence_penalty = options.presence_penalty;
  sampling.frequency_penalty = options.frequency_penalty;
  sampling.seed = options.seed;
  return sampling;
}

// A conversation as tokens, or the bare text with --raw or for a model without a template.
Result<std::vector<TokenId>> prompt_tokens(const LoadedModel& model,
                                           const std::vector<ChatMessage>& messages, bool raw) {
  if (raw || model.chat_template == nullptr) {
    std::string text;
    for (const ChatMessage& message : messages) text += message.content;
    return model.tokenizer->encode(text, /*add_special_tokens=*/true);
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const std::string text,
      render_chat(*model.chat_template, messages, /*add_generation_prompt=*/true, model.bos_token,
                  model.eos_token));
  return model.tokenizer->encode(text, /*add_special_tokens=*/false);
}

double rate(std::int64_t tokens, double seconds) {
  return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
}

// The first token of an answer belongs to the prompt's time.
double answer_rate(const GenerateResult& result) {
  return rate(static_cast<std::int64_t>(result.tokens.size()) - 1, result.answer_seconds);
}

// Of the tokens that were not in the prefix cache.
double prompt_rate(const GenerateResult& result) {
  return rate(result.prompt_tokens - result.cached_tokens, result.prompt_seconds);
}

std::string speed_line(const GenerateResult& result) {
  std::string line = std::to_string(result.prompt_tokens) + " prompt tokens";
  if (result.cached_tokens > 0) line += ", " + std::to_string(result.cached_tokens) + " cached,";
  line += " in " + number_text(1e3 * result.prompt_seconds, 3) + " ms (" +
          number_text(prompt_rate(result), 3) + " tokens/s); " +
          std::to_string(result.tokens.size()) + " answer tokens";
  if (result.tokens.size() > 1) line += " at " + number_text(answer_rate(result), 3) + " tokens/s";
  return line + " (" + result.finish_reason + ")";
}

json::Object to_json(const LoadedModel& model, const GenerateResult& result) {
  json::Array kernels;
  for (const std::string& line : model.backend->describe()) kernels.emplace_back(line);
  return {{"model", model.path},
          {"precision", std::string(precision_name(model.precision))},
          {"text", result.text},
          {"finish_reason", result.finish_reason},
          {"prompt_tokens", result.prompt_tokens},
          {"cached_tokens", result.cached_tokens},
          {"completion_tokens", static_cast<std::int64_t>(result.tokens.size())},
          {"prompt_tokens_per_second", prompt_rate(result)},
          {"completion_tokens_per_second", result.tokens.size() > 1 ? answer_rate(result) : 0.0},
          {"kernels", kernels}};
}

Result<std::string> read_standard_input() {
  std::string text;
  char buffer[65536];
  std::size_t count = 0;
  while ((count = std::fread(buffer, 1, sizeof buffer, stdin)) > 0) {
    text.append(buffer, count);
    if (text.size() > kMaxStandardInput) {
      return resource_exhausted("standard input: more than 64 MiB of prompt");
    }
  }
  return text;
}

Status answer_once(const LoadedModel& model, Engine& engine, const RunOptions& options,
                   const GenerateOptions& generation, const Globals& globals) {
  std::vector<ChatMessage> messages;
  if (options.system) messages.push_back({"system", *options.system});
  if (options.prompt) {
    messages.push_back({"user", *options.prompt});
  } else {
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::string text, read_standard_input());
    messages.push_back({"user", std::move(text)});
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<TokenId> tokens,
                              prompt_tokens(model, messages, options.raw));
  const auto show = [&](std::string_view text) {
    if (options.json) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const GenerateResult result,
      generate(model, engine, std::move(tokens), generation, show, interrupt_flag()));
  if (options.json) {
    std::printf("%s", json::dump_pretty(to_json(model, result)).c_str());
  } else {
    std::printf("\n");
    std::fflush(stdout);
    if (!globals.quiet) std::fprintf(stderr, "[%s]\n", speed_line(result).c_str());
  }
  if (result.finish_reason == "error") {
    return internal_error(
        "the model's output is not a finite number; check the checkpoint with "
        "`liquid inspect`");
  }
  if (result.finish_reason == "cancelled") return cancelled("interrupted");
  return ok_status();
}

Status chat(const LoadedModel& model, Engine& engine, const RunOptions& options,
            const GenerateOptions& generation, const Globals& globals) {
  if (!globals.quiet) {
    std::printf("Ctrl-C stops an answer, Ctrl-D ends the chat, /new starts afresh.\n");
  }
  std::vector<ChatMessage> messages;
  const auto restart = [&] {
    messages.clear();
    if (options.system) messages.push_back({"system", *options.system});
  };
  restart();
  LineEditor editor("> ");
  std::string line;
  while (true) {
    switch (editor.read(line)) {
      case LineEditor::End::kEndOfInput: return ok_status();
      case LineEditor::End::kInterrupted: continue;
      case LineEditor::End::kLine: break;
    }
    if (line.empty()) continue;
    if (line == "/new") {
      restart();
      continue;
    }
    messages.push_back({"user", line});
    interrupt_flag() = false;
    const auto show = [](std::string_view text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    };
    auto tokens = prompt_tokens(model, messages, options.raw);
    auto result = tokens.ok() ? generate(model, engine, std::move(*tokens), generation, show,
                                         interrupt_flag())
                              : Result<GenerateResult>(tokens.status());
    std::printf("\n");
    if (!result.ok()) {
      // The conversation is kept; the line that did not fit is taken back.
      std::fprintf(stderr, "error: %s\n", result.status().message().c_str());
      messages.pop_back();
      continue;
    }
    messages.push_back({"assistant", result->text});
    if (!globals.quiet) std::printf("[%s]\n", speed_line(*result).c_str());
  }
}

Status run(const RunOptions& options, const Globals& globals) {
  interrupt_flag();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Precision precision, parse_precision(options.precision));
  LIQUIDGEMM_ASSIGN_OR_RETURN(ModelSource source, open_source(options.model.model));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadOptions load,
                              load_options(options.model, precision, source.config));
  if (precision == Precision::kAuto || precision == Precision::kW4A8) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(source, quantized_source(std::move(source), options.model.threads));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedModel model, load_with_progress(source, load));
  log_debug(model.path + ", " + std::string(precision_name(model.precision)));
  for (const std::string& line : model.backend->describe()) log_debug(line);

  GenerateOptions generation;
  generation.sampling = sampling_for(options, model.generation);
  LIQUIDGEMM_RETURN_IF_ERROR(check_sampling(generation.sampling));
  generation.max_tokens = options.max_tokens;
  generation.stop = options.stop;
  generation.stop_at_end_token = !options.ignore_eos;
  Engine engine(*model.backend, {.prefix_caching = options.prefix_caching, .model = model.path});
  const bool terminal = ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
  if (!options.prompt && terminal && !options.json) {
    return chat(model, engine, options, generation, globals);
  }
  return answer_once(model, engine, options, generation, globals);
}

}  // namespace

void add_run(CLI::App& app, Globals& globals, Action& action) {
  CLI::App* verb = app.add_subcommand("run", "Answer one prompt, or chat on the terminal");
  auto options = std::make_shared<RunOptions>();
  add_model_options(*verb, options->model);
  add_precision_option(*verb, options->precision);
  verb->add_option("-p,--prompt", options->prompt,
                   "What to answer; without it, chat (or read standard input)");
  verb->add_option("--system", options->system, "The system message");
  verb->add_flag("--raw", options->raw, "Continue the text as it is: no chat template");
  verb->add_option("-n,--max-tokens", options->max_tokens, "Longest answer, in tokens")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  verb->add_option("--temperature", options->temperature,
                   "0: always the likeliest (default: the model's suggestion, else 0)")
      ->check(CLI::Range(0.0f, 100.0f));
  verb->add_option("--top-k", options->top_k, "Only the k likeliest tokens; 0: all")
      ->check(CLI::Range(0, 1 << 24));
  verb->add_option("--top-p", options->top_p, "Only the likeliest tokens that hold this share")
      ->check(CLI::Range(1e-6f, 1.0f));
  verb->add_option("--min-p", options->min_p, "Only tokens this likely, relative to the likeliest")
      ->check(CLI::Range(0.0f, 0.999f));
  verb->add_option("--repetition-penalty", options->repetition_penalty,
                   "Over 1: tokens of prompt and answer become less likely")
      ->check(CLI::Range(0.01f, 100.0f));
  verb->add_option("--presence-penalty", options->presence_penalty,
                   "Subtracted from tokens that the answer holds")
      ->check(CLI::Range(-2.0f, 2.0f));
  verb->add_option("--frequency-penalty", options->frequency_penalty,
                   "Subtracted once for each time the answer holds the token")
      ->check(CLI::Range(-2.0f, 2.0f));
  verb->add_option("--seed", options->seed, "The same seed draws the same answer")
      ->capture_default_str();
  verb->add_option("--stop", options->stop, "End the answer before this text; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_flag("--ignore-eos", options->ignore_eos, "Do not stop at the model's end token");
  verb->add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", options->prefix_caching,
                 "In a chat, read only what is new in a turn (on without the flag)");
  verb->add_flag("--json", options->json, "Print one JSON object when done");
  verb->footer(
      "Examples:\n"
      "  liquid run qwen-w4a8 --prompt \"Why is the sky blue?\"\n"
      "  liquid run SmolLM2-135M-Instruct.Q4_1.gguf   (quantized once, then chat)\n"
      "  echo \"Translate: guten Tag\" | liquid run qwen-w4a8 --temperature 0.7 --seed 1\n"
      "  liquid run qwen-w4a8 --raw --prompt \"Once upon a time\" --max-tokens 100");
  verb->callback([options, &globals, &action] {
    action = [options, &globals] { return run(*options, globals); };
  });
}

}  // namespace liquidgemm::cli
