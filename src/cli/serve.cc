// `liquid serve`: a model behind HTTP.
//
// The port opens first, so that /health answers and a port that is taken is known before a long
// load; /ready turns green when the model is there. The engine runs on its own thread, requests are
// read and written on the transport's.

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/status_macros.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/quantized_cache.h"
#include "cli/serve_options.h"
#include "engine/engine_thread.h"
#include "liquidgemm_version.h"
#include "ops/cpu/ops.h"
#include "server/metrics.h"
#include "server/openai_api.h"
#include "server/openapi.h"
#include "server/page.h"
#include "server/status_routes.h"

namespace liquidgemm::cli {
namespace {

using server::HttpServer;
using server::Route;
using server::ServerPhase;

constexpr std::chrono::milliseconds kPoll{20};
// Of the shutdown timeout's end, for the step that runs and the threads to come to theirs.
constexpr int kExitSeconds = 10;

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(1e3 * seconds));
}

// The parts of a running server. Destroyed from the last: first the transport, whose handlers use
// the others.
struct Serving {
  std::optional<LoadedModel> model;
  std::unique_ptr<server::ServerMetrics> metrics;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<EngineThread> thread;
  std::unique_ptr<GrammarCompiler> grammar;  // null: no structured output
  std::unique_ptr<server::OpenAiApi> api;
  std::atomic<EngineThread*> running{nullptr};  // `thread`, once it may be asked
  std::atomic<bool> draining{false};
  std::chrono::milliseconds watchdog_timeout{0};
  std::unique_ptr<HttpServer> http;

  Status ready() const;
  std::int64_t load() const;
  std::string metrics_text() const;
};

Status Serving::ready() const {
  if (draining) return unavailable("the server is shutting down");
  const EngineThread* engine_thread = running;
  if (engine_thread == nullptr) return unavailable("the model is still being loaded");
  const std::chrono::nanoseconds age = engine_thread->step_age();
  if (age > watchdog_timeout) {
    return internal_error(fmt::format("a step of the engine has been running for {:.1f} s",
                                      std::chrono::duration<double>(age).count()));
  }
  return engine_thread->health();
}

std::int64_t Serving::load() const {
  const EngineThread* engine_thread = running;
  if (engine_thread == nullptr) return 0;
  const EngineMetrics metrics = engine_thread->metrics();
  return metrics.running + metrics.waiting;
}

std::string Serving::metrics_text() const {
  const EngineThread* engine_thread = running;
  return engine_thread == nullptr ? "" : metrics->text(engine_thread->metrics());
}

server::StatusSource status_source(const Serving& serving) {
  return {.version = LIQUIDGEMM_VERSION,
          .commit = LIQUIDGEMM_COMMIT,
          .ready = [&serving] { return serving.ready(); },
          .metrics = [&serving] { return serving.metrics_text(); },
          .load = [&serving] { return serving.load(); }};
}

std::vector<std::string> served_names(const ServeOptions& options) {
  if (!options.served_names.empty()) return options.served_names;
  const std::filesystem::path path(options.model.model);
  const std::string name = (path.has_filename() ? path : path.parent_path()).filename().string();
  return {std::filesystem::exists(path) ? name : options.model.model};
}

// Every route of the loaded model.
std::vector<Route> all_routes(const Serving& serving, const ServeOptions& options) {
  std::vector<Route> routes = server::status_routes(status_source(serving));
  for (Route& route : serving.api->routes()) routes.push_back(std::move(route));
  routes.push_back(server::page_route());
  routes.push_back(server::openapi_route(
      {.version = LIQUIDGEMM_VERSION,
       .models = served_names(options),
       .vocabulary = serving.model->config.vocab_size,
       .max_model_len = serving.model->backend->limits().max_position,
       .has_keys = !options.api_keys.empty() || !options.api_key_files.empty(),
       .limits = options.api}));
  return routes;
}

void warn_when_open(const HttpServer& http, const ServeOptions& options, bool has_keys) {
  if (http.only_loopback() || has_keys) return;
  log_warning("**********************************************************************");
  log_warning("* " + http.url() + " is open to the network and asks for no key:");
  log_warning("* whoever reaches it can use this machine. Add --api-key or");
  log_warning("* --api-key-file, or listen on this machine only (--host 127.0.0.1).");
  log_warning("**********************************************************************");
  if (options.ssl_keyfile.empty()) log_warning("and nothing is encrypted (--ssl-keyfile)");
}

void log_capacity(const Serving& serving) {
  const BackendLimits& limits = serving.model->backend->limits();
  const std::int64_t tokens = limits.pages * kPageTokens;
  for (const std::string& line : serving.model->backend->describe()) log_info(line);
  log_info(fmt::format(
      "KV cache size: {} tokens ({} pages of {}, {:.1f} MB)", tokens, limits.pages, kPageTokens,
      1e-6 * static_cast<double>(limits.pages * serving.model->backend->page_bytes())));
  log_info(fmt::format(
      "Maximum concurrency for {} tokens per request: {:.2f}x, at most {} at once",
      limits.max_position,
      static_cast<double>(limits.pages) / static_cast<double>(pages_for(limits.max_position)),
      serving.engine->max_sequences()));
}

// Until a signal comes. Tells of a step that hangs, once, and of its end.
void watch(const Serving& serving) {
  bool hanging = false;
  while (!interrupt_flag()) {
    std::this_thread::sleep_for(kPoll);
    const std::chrono::nanoseconds age = serving.thread->step_age();
    if (!hanging && age > serving.watchdog_timeout) {
      hanging = true;
      const EngineMetrics metrics = serving.thread->metrics();
      log_error(
          fmt::format("watchdog: a step has been running for {:.1f} s; {} requests run, {} "
                      "wait, {} of {} KV pages are used; /ready says 503",
                      std::chrono::duration<double>(age).count(), metrics.running, metrics.waiting,
                      metrics.pages_used, metrics.pages));
    } else if (hanging && age <= serving.watchdog_timeout) {
      hanging = false;
      log_info("watchdog: the step has ended");
    }
  }
}

// What runs is finished, what comes is sent elsewhere.
void drain(Serving& serving, double timeout_seconds) {
  const auto timeout = milliseconds_of(timeout_seconds);
  // A step that never ends must not keep the process.
  exit_after(static_cast<int>(timeout_seconds) + kExitSeconds);
  serving.draining = true;
  serving.http->set_phase(ServerPhase::kDraining);
  const std::int64_t open = serving.http->open_replies();
  log_info(
      fmt::format("shutting down: {} requests to finish, {} s at most; a second signal ends "
                  "it at once",
                  open, timeout_seconds));
  if (!serving.http->wait_idle(timeout)) {
    log_warning(fmt::format("{} requests are cut off after --shutdown-timeout {} s",
                            serving.http->open_replies(), timeout_seconds));
  }
  serving.thread->drain();
  serving.http.reset();
}

// What answers need beside tokens. A grammar compiler that is not there is no reason not to serve.
Status start_api(const ServeOptions& options, Serving& serving) {
  const LoadedModel& model = *serving.model;
  std::vector<TokenId> end_tokens(model.config.eos_tokens.begin(), model.config.eos_tokens.end());
  auto grammar = GrammarCompiler::create(*model.tokenizer, std::move(end_tokens), options.grammar);
  if (grammar.ok()) {
    serving.grammar = std::move(*grammar);
  } else {
    log_warning("no structured output: " + grammar.status().message());
  }
  const std::string_view source =
      model.chat_template == nullptr ? std::string_view() : model.chat_template->source();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const server::ToolFormat tools,
                              server::parse_tool_format(options.tool_call_parser, source));
  serving.api = std::make_unique<server::OpenAiApi>(
      model, *serving.thread, serving.grammar.get(),
      server::OpenAiOptions{
          .served_names = served_names(options), .tool_format = tools, .limits = options.api});
  return ok_status();
}

Status start_model(const ServeOptions& options, ModelSource source, const LoadOptions& load,
                   Serving& serving) {
  if (load.precision == Precision::kAuto || load.precision == Precision::kW4A8) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(source, quantized_source(std::move(source), load.threads));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(LoadedModel model, load_with_progress(source, load));
  serving.model = std::move(model);
  serving.engine = std::make_unique<Engine>(*serving.model->backend,
                                            EngineOptions{.max_sequences = options.max_sequences,
                                                          .prefix_caching = options.prefix_caching,
                                                          .model = serving.model->path});
  serving.metrics = std::make_unique<server::ServerMetrics>(server::ServerMetricsOptions{
      .model_name = served_names(options)[0], .vllm_names = options.metrics_compat == "vllm"});
  serving.thread = std::make_unique<EngineThread>(
      *serving.engine, EngineThreadOptions{.max_waiting = options.max_queued_requests,
                                           .observer = serving.metrics.get()});
  return start_api(options, serving);
}

Status serve(const ServeOptions& options) {
  set_log_format(options.log_json ? LogFormat::kJson : LogFormat::kTimed);
  interrupt_flag();
  exit_on_second_interrupt();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Precision precision, parse_precision(options.precision));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const server::HttpServerOptions http, http_options(options));
  LIQUIDGEMM_ASSIGN_OR_RETURN(ModelSource source, open_source(options.model.model));
  LIQUIDGEMM_ASSIGN_OR_RETURN(LoadOptions load,
                              load_options(options.model, precision, source.config));
  LIQUIDGEMM_RETURN_IF_ERROR(set_serve_limits(options, source.config, load));
  load.chat_template = options.chat_template;

  Serving serving;
  serving.watchdog_timeout = milliseconds_of(options.watchdog_timeout);
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      serving.http, HttpServer::start(http, server::status_routes(status_source(serving))));
  warn_when_open(*serving.http, options, !http.keys.empty());
  log_info("listening on " + serving.http->url() + "; loading " + source.path);
  const Status started = start_model(options, std::move(source), load, serving);
  if (interrupt_flag()) return ok_status();  // there is nothing to finish
  LIQUIDGEMM_RETURN_IF_ERROR(started);
  log_capacity(serving);

  serving.running = serving.thread.get();
  serving.http->set_routes(all_routes(serving, options));
  serving.http->set_phase(ServerPhase::kServing);
  log_info("serving " + served_names(options)[0]);
  std::printf("Ready: %s\n", serving.http->url().c_str());
  std::fflush(stdout);
  watch(serving);
  drain(serving, options.shutdown_timeout);
  return ok_status();
}

}  // namespace

void add_serve(CLI::App& app, Globals&, Action& action) {
  CLI::App* verb = app.add_subcommand("serve", "Serve a model over HTTP, as OpenAI's API");
  const auto options = std::make_shared<ServeOptions>();
  add_serve_options(*verb, *options);
  verb->footer(
      "Examples:\n"
      "  liquid serve qwen-w4a8\n"
      "  liquid serve qwen-w4a8 --port 8080 --max-model-len 32K --max-num-seqs 32\n"
      "  liquid serve qwen-w4a8 --host 0.0.0.0 --api-key-file keys.txt \\\n"
      "      --ssl-keyfile key.pem --ssl-certfile cert.pem\n"
      "  liquid serve --config serve.toml");
  verb->callback([options, verb, &action] {
    finish_serve_options(*verb, *options);
    action = [options] { return serve(*options); };
  });
}

}  // namespace liquidgemm::cli
