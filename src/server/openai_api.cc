#include "server/openai_api.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "model/checkpoint/printable.h"
#include "ops/cpu/ops.h"
#include "server/forced_calls.h"
#include "server/worker_queue.h"

namespace liquidgemm::server {
namespace {

using Reply = std::shared_ptr<HttpReply>;

// Names of fields that nobody knows are remembered up to here; more are not logged.
constexpr std::size_t kMaxLoggedNames = 256;

std::int64_t seconds_since_epoch() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Browsers send other types across sites without asking first, so only JSON is taken.
bool is_json(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (!content_type.empty() && content_type.back() == ' ') content_type.remove_suffix(1);
  constexpr std::string_view kJson = "application/json";
  return std::equal(content_type.begin(), content_type.end(), kJson.begin(), kJson.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
}

// What the model's authors suggest, and OpenAI's temperature of 1 where they say nothing.
SamplingParams default_sampling(const GenerationDefaults& defaults) {
  SamplingParams sampling;
  const auto set = [](auto& value, const auto& suggested) {
    if (suggested) value = static_cast<std::decay_t<decltype(value)>>(*suggested);
  };
  set(sampling.temperature, defaults.temperature);
  set(sampling.top_p, defaults.top_p);
  set(sampling.top_k, defaults.top_k);
  set(sampling.min_p, defaults.min_p);
  set(sampling.repetition_penalty, defaults.repetition_penalty);
  const Status status = check_sampling(sampling);
  if (status.ok()) return sampling;
  log_warning("the model's generation_config.json is not used: " + status.message());
  return {};
}

std::uint64_t random_seed() {
  std::random_device random;
  return std::uint64_t{random()} << 32 | random();
}

}  // namespace

struct OpenAiApi::State {
  State(const LoadedModel& the_model, EngineThread& the_engine, GrammarCompiler* the_grammar,
        OpenAiOptions the_options)
      : model(the_model),
        tokenizer(*the_model.tokenizer),
        engine(the_engine),
        grammar(the_grammar),
        options(std::move(the_options)),
        rules{.limits = options.limits,
              .vocabulary = the_model.config.vocab_size,
              .sampling = default_sampling(the_model.generation),
              .structured_output = the_grammar != nullptr,
              .automatic_tools = options.tool_format != ToolFormat::kNone},
        capacity(std::min(the_model.backend->limits().max_position,
                          the_model.backend->limits().pages * kPageTokens)),
        created(seconds_since_epoch()),
        workers(options.workers, options.limits.waiting_requests, options.limits.waiting_bytes) {}

  // One request on a worker thread.
  struct Call {
    json::Object body;
    Reply reply;
    std::optional<TimePoint> deadline;
  };
  using Endpoint = void (State::*)(const Call&);

  Handler post(Endpoint endpoint);
  void run(Endpoint endpoint, const std::string& body, Call call);
  void completions(const Call& call);
  void chat(const Call& call);
  void tokenize(const Call& call);
  void detokenize(const Call& call);

  std::optional<ApiError> check_model(const std::optional<std::string>& name) const;
  Result<std::vector<TokenId>> render(const ChatPrompt& prompt, bool add_special_tokens) const;
  std::optional<ApiError> make_requests(const GenerationParams& generation,
                                        const std::vector<std::vector<TokenId>>& prompts,
                                        bool prompt_logprobs, std::vector<Request>& requests);
  std::optional<TimePoint> deadline_from_now() const;
  ToolParserFactory tool_parser(const ChatRequest& request) const;
  AnswerOptions answer_options(std::string_view prefix, const GenerationParams& generation,
                               const std::vector<std::vector<TokenId>>& prompts) const;
  json::Object model_object(const std::string& name) const;
  void log_unknown(const std::vector<std::string>& names);

  const LoadedModel& model;
  const Tokenizer& tokenizer;
  EngineThread& engine;
  GrammarCompiler* const grammar;
  const OpenAiOptions options;
  const RequestRules rules;
  const std::int64_t capacity;  // tokens of the longest sequence
  const std::int64_t created;

  std::mutex mutex;  // guards the names
  std::set<std::string> logged_names;

  WorkerQueue workers;  // last: its threads use everything above
};

// ---- From HTTP to an endpoint ------------------------------------------------------------------

Handler OpenAiApi::State::post(Endpoint endpoint) {
  return [this, endpoint](HttpRequest request, Reply reply) {
    if (!is_json(request.content_type)) {
      ApiError error = bad_request(
          "", "Content-Type: expected application/json, found " + printable(request.content_type));
      error.status = 415;
      return send_error(*reply, error);
    }
    const std::size_t bytes = request.body.size();
    auto body = std::make_shared<const std::string>(std::move(request.body));
    Call call{.body = {}, .reply = reply, .deadline = deadline_from_now()};
    if (!workers.push(bytes, [this, endpoint, body, call] { run(endpoint, *body, call); })) {
      send_error(*reply, server_busy("too many requests wait to be read: try again later"));
    }
  };
}

std::optional<TimePoint> OpenAiApi::State::deadline_from_now() const {
  if (options.limits.request_time.count() == 0) return std::nullopt;
  return engine.now() + options.limits.request_time;
}

void OpenAiApi::State::run(Endpoint endpoint, const std::string& body, Call call) {
  const Reply& reply = call.reply;
  try {
    if (auto error = parse_body(body, options.limits, call.body)) {
      return send_error(*reply, *error);
    }
    (this->*endpoint)(call);
  } catch (const std::bad_alloc&) {
    send_error(*reply, server_stopping("not enough memory for this request"));
  } catch (const std::exception& error) {
    log_error(std::string("a request failed: ") + error.what());
    send_error(*reply, server_error("this request could not be served"));
  }
}

std::optional<ApiError> OpenAiApi::State::check_model(
    const std::optional<std::string>& name) const {
  const auto& names = options.served_names;
  if (!name || std::find(names.begin(), names.end(), *name) != names.end()) return std::nullopt;
  return unknown_model(*name);
}

void OpenAiApi::State::log_unknown(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::lock_guard lock(mutex);
    if (logged_names.size() >= kMaxLoggedNames || !logged_names.insert(name).second) continue;
    log_warning("requests hold the unknown field " + printable(name) + ", which is ignored");
  }
}

// ---- Completions and chats ---------------------------------------------------------------------

std::optional<ApiError> OpenAiApi::State::make_requests(
    const GenerationParams& generation, const std::vector<std::vector<TokenId>>& prompts,
    bool prompt_logprobs, std::vector<Request>& requests) {
  const std::uint64_t seed = generation.has_seed ? generation.sampling.seed : random_seed();
  std::int64_t tokens = 0;
  for (const std::vector<TokenId>& prompt : prompts) {
    tokens += static_cast<std::int64_t>(prompt.size()) * generation.n;
    if (tokens > options.limits.tokens) {
      return bad_request("prompt", "prompt: more than " + std::to_string(options.limits.tokens) +
                                       " tokens in one request, all prompts times n");
    }
    std::int64_t max_tokens = 0;
    const auto count = static_cast<std::int64_t>(prompt.size());
    if (auto error = fit_length(generation, count, capacity, max_tokens)) return error;
    for (std::int64_t i = 0; i < generation.n; ++i) {
      Request request;
      request.prompt = prompt;
      request.sampling = generation.sampling;
      request.sampling.seed = seed + static_cast<std::uint64_t>(i);
      // The engine gives at least one token; an answer of none drops it.
      request.max_tokens = std::max<std::int64_t>(max_tokens, 1);
      request.stop_tokens = generation.stop_tokens;
      // A grammar's end is an end all the same.
      if (!generation.ignore_end_tokens || generation.grammar) {
        for (const std::int64_t token : model.config.eos_tokens) {
          request.stop_tokens.push_back(static_cast<TokenId>(token));
        }
      }
      request.min_tokens = generation.min_tokens;
      request.logit_bias = generation.logit_bias;
      request.logprobs = generation.logprobs;
      if (prompt_logprobs) request.prompt_logprobs = generation.logprobs;
      request.cache_salt = generation.cache_salt;
      if (generation.grammar) {
        auto constraint = grammar->compile(*generation.grammar);
        if (!constraint.ok()) {
          const Status& status = constraint.status();
          if (status.code() == StatusCode::kInternal) return from_status(status);
          return bad_request(generation.grammar_field,
                             generation.grammar_field + ": " + status.message());
        }
        request.constraint = std::move(*constraint);
      }
      requests.push_back(std::move(request));
    }
  }
  return std::nullopt;
}

AnswerOptions OpenAiApi::State::answer_options(
    std::string_view prefix, const GenerationParams& generation,
    const std::vector<std::vector<TokenId>>& prompts) const {
  AnswerOptions answer;
  answer.id = random_id(prefix);
  answer.model = options.served_names.front();
  answer.created = seconds_since_epoch();
  for (const auto& prompt : prompts) {
    answer.prompt_tokens.push_back(static_cast<std::int64_t>(prompt.size()));
  }
  answer.drop_answer = generation.max_tokens == 0;
  answer.time_limit = options.limits.request_time;
  return answer;
}

void OpenAiApi::State::completions(const Call& call) {
  const Reply& reply = call.reply;
  CompletionRequest request;
  auto error = parse_completion(call.body, rules, request);
  if (!error) error = check_model(request.model);
  if (error) return send_error(*reply, *error);
  log_unknown(request.unknown);
  std::vector<std::vector<TokenId>> prompts;
  for (const auto& prompt : request.prompts) {
    const auto* text = std::get_if<std::string>(&prompt);
    prompts.push_back(text != nullptr ? tokenizer.encode(*text, request.add_special_tokens)
                                      : std::get<std::vector<TokenId>>(prompt));
  }
  std::vector<Request> requests;
  error = make_requests(request.generation, prompts,
                        request.echo && request.generation.logprobs >= 0, requests);
  if (error) return send_error(*reply, *error);
  for (Request& one : requests) one.deadline = call.deadline;
  AnswerOptions answer = answer_options("cmpl-", request.generation, prompts);
  make_completion_answer(tokenizer, engine, reply, request, std::move(answer), std::move(prompts))
      ->start(std::move(requests));
}

Result<std::vector<TokenId>> OpenAiApi::State::render(const ChatPrompt& prompt,
                                                      bool add_special_tokens) const {
  if (model.chat_template == nullptr) {
    return unsupported("messages: the model has no chat template; use /v1/completions");
  }
  auto text = render_chat(*model.chat_template, prompt, model.bos_token, model.eos_token);
  if (!text.ok()) {
    // Whatever a template runs into, the messages have led it there.
    return invalid_argument("messages: the chat template: " + text.status().message());
  }
  return tokenizer.encode(*text, add_special_tokens);
}

ToolParserFactory OpenAiApi::State::tool_parser(const ChatRequest& request) const {
  switch (request.tool_choice) {
    case ToolChoice::kNone: return {};
    case ToolChoice::kAuto:
      return [format = options.tool_format, names = request.tool_names] {
        return make_tool_parser(format, names);
      };
    case ToolChoice::kRequired: return make_call_list_parser;
    case ToolChoice::kNamed:
      return [name = request.tool_name] { return make_named_call_parser(name); };
  }
  return {};
}

void OpenAiApi::State::chat(const Call& call) {
  const Reply& reply = call.reply;
  ChatRequest request;
  auto error = parse_chat(call.body, rules, request);
  if (!error) error = check_model(request.model);
  if (error) return send_error(*reply, *error);
  log_unknown(request.unknown);
  auto tokens = render(request.prompt, request.add_special_tokens);
  if (!tokens.ok()) return send_error(*reply, from_status(tokens.status()));
  // Where the marks of a call are special tokens, hiding those would hide the call.
  if (request.tool_choice == ToolChoice::kAuto && options.tool_format == ToolFormat::kHermes) {
    const auto mark = tokenizer.find("<tool_call>");
    if (mark && tokenizer.is_special(*mark)) request.generation.skip_special_tokens = false;
  }
  const std::vector<std::vector<TokenId>> prompts = {std::move(*tokens)};
  std::vector<Request> requests;
  error = make_requests(request.generation, prompts, /*prompt_logprobs=*/false, requests);
  if (error) {
    if (error->param == "prompt") error->param = "messages";
    return send_error(*reply, *error);
  }
  for (Request& one : requests) one.deadline = call.deadline;
  make_chat_answer(tokenizer, engine, reply, request,
                   answer_options("chatcmpl-", request.generation, prompts), tool_parser(request))
      ->start(std::move(requests));
}

// ---- The others --------------------------------------------------------------------------------

void OpenAiApi::State::tokenize(const Call& call) {
  const Reply& reply = call.reply;
  TokenizeRequest request;
  auto error = parse_tokenize(call.body, rules, request);
  if (!error) error = check_model(request.model);
  if (error) return send_error(*reply, *error);
  log_unknown(request.unknown);
  std::vector<TokenId> tokens;
  if (request.text) {
    tokens = tokenizer.encode(*request.text, request.add_special_tokens);
  } else {
    auto rendered = render(request.prompt, request.add_special_tokens);
    if (!rendered.ok()) return send_error(*reply, from_status(rendered.status()));
    tokens = std::move(*rendered);
  }
  json::Value texts = nullptr;
  if (request.return_token_strs) {
    json::Array list;
    for (const TokenId token : tokens) list.emplace_back(token_text(tokenizer, token));
    texts = std::move(list);
  }
  const json::Object answer{{"count", tokens.size()},
                            {"max_model_len", capacity},
                            {"tokens", json::Array(tokens.begin(), tokens.end())},
                            {"token_strs", std::move(texts)}};
  reply->send(200, "application/json", json::dump(answer));
}

void OpenAiApi::State::detokenize(const Call& call) {
  const Reply& reply = call.reply;
  DetokenizeRequest request;
  auto error = parse_detokenize(call.body, rules, request);
  if (!error) error = check_model(request.model);
  if (error) return send_error(*reply, *error);
  log_unknown(request.unknown);
  const json::Object answer{
      {"prompt", tokenizer.decode(request.tokens, /*skip_special_tokens=*/false)}};
  reply->send(200, "application/json", json::dump(answer));
}

json::Object OpenAiApi::State::model_object(const std::string& name) const {
  return {{"id", name},
          {"object", "model"},
          {"created", created},
          {"owned_by", "user"},
          {"parent", nullptr},
          {"max_model_len", capacity},
          {"meta", json::Object{{"n_vocab", model.config.vocab_size}}}};
}

OpenAiApi::OpenAiApi(const LoadedModel& model, EngineThread& engine, GrammarCompiler* grammar,
                     OpenAiOptions options)
    : state_(std::make_unique<State>(model, engine, grammar, std::move(options))) {}
OpenAiApi::~OpenAiApi() = default;

std::vector<Route> OpenAiApi::routes() {
  State* state = state_.get();
  const auto get = [](json::Object answer) {
    return [text = json::dump(answer)](const HttpRequest&, const Reply& reply) {
      reply->send(200, "application/json", text);
    };
  };
  std::vector<Route> routes = {
      {"POST", "/v1/completions", state->post(&State::completions)},
      {"POST", "/v1/chat/completions", state->post(&State::chat)},
      {"POST", "/tokenize", state->post(&State::tokenize)},
      {"POST", "/detokenize", state->post(&State::detokenize)},
  };
  json::Array models;
  for (const std::string& name : state->options.served_names) {
    models.push_back(state->model_object(name));
    routes.push_back({"GET", "/v1/models/" + name, get(state->model_object(name))});
  }
  routes.push_back({"GET", "/v1/models", get({{"object", "list"}, {"data", std::move(models)}})});
  return routes;
}

}  // namespace liquidgemm::server
