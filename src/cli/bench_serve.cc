// `liquid bench serve`: load on any OpenAI-compatible server.

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

#include "base/log.h"
#include "base/progress.h"
#include "base/splitmix64.h"
#include "base/status_macros.h"
#include "bench/serve_load.h"
#include "bench/serve_workload.h"
#include "cli/bench.h"
#include "cli/bench_records.h"
#include "cli/bench_serve_report.h"
#include "cli/interrupt.h"
#include "cli/machine.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kAskSeconds = 30.0;           // for what is asked before the load
constexpr std::int64_t kWarmupOutput = 16;     // tokens of a warm-up's answer, at most
constexpr std::int64_t kMostTokens = 1 << 28;  // of all prompts: they are made before the load

struct Options {
  std::string base_url;
  std::string host = "127.0.0.1";
  int port = 8000;
  std::string endpoint = "/v1/completions";
  std::string model;
  std::string api_key;
  std::vector<double> rates = {kInfinity};
  std::vector<std::int64_t> concurrencies = {0};
  double burstiness = 1.0;
  bench::RandomPrompts random;
  std::int64_t prompts = 0;     // 0: 100, or the whole file
  std::int64_t vocabulary = 0;  // 0: the server's, or else 32000
  std::string dataset;
  std::string prompt_format;  // empty: what the endpoint takes
  std::string ignore_eos;     // empty: random prompts do
  double temperature = 0.0;
  std::string extra_body;
  json::Object extra;  // the same, read
  std::int64_t warmups = 1;
  double timeout_seconds = 600.0;
  bool seed_given = false;
  std::vector<std::string> percentile_metrics = {"ttft", "tpot", "itl"};
  std::vector<double> percents = {99.0};
  bool details = false;
  bool json = false;
  std::vector<std::string> record;
};

bool is_chat(const Options& options) { return options.endpoint.find("chat") != std::string::npos; }

struct Served {
  std::string model;
  std::int64_t vocabulary = 0;  // 0: not said
};

Result<Served> ask_model(const bench::ServeTarget& target) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string body,
                              bench::http_get(target, "/v1/models", interrupt_flag(), kAskSeconds));
  const std::string where = "/v1/models";
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse(body, where));
  if (!value.is_object()) return corrupt(where + ": expected an object; give --model");
  const json::Reader reader(value.get_object(), where);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* models, reader.required_array("data"));
  if (models->empty() || !(*models)[0].is_object()) {
    return not_found(where + ": the server names no model; give --model");
  }
  const json::Reader first((*models)[0].get_object(), where, "data[0]");
  Served served;
  LIQUIDGEMM_ASSIGN_OR_RETURN(served.model, first.required_string("id"));
  // llama.cpp's server says how many tokens its vocabulary has.
  if (const json::Value* meta = first.object().if_contains("meta"); meta && meta->is_object()) {
    const json::Value* count = meta->get_object().if_contains("n_vocab");
    if (count && count->is_int64() && count->get_int64() > 1 && count->get_int64() < 1 << 30) {
      served.vocabulary = count->get_int64();
    }
  }
  return served;
}

Result<bench::ServeTarget> target_of(const Options& options) {
  const bool ipv6 = options.host.find(':') != std::string::npos;
  const std::string url =
      options.base_url.empty()
          ? fmt::format("http://{}:{}", ipv6 ? "[" + options.host + "]" : options.host,
                        options.port)
          : options.base_url;
  LIQUIDGEMM_ASSIGN_OR_RETURN(bench::ServeTarget target, bench::parse_base_url(url));
  target.api_key = options.api_key;
  return target;
}

// The prompts of one row. Each row has others, so that no prefix cache knows them from the last.
Result<std::vector<bench::ServePrompt>> prompts_of(const Options& options, std::uint64_t seed) {
  if (!options.dataset.empty()) {
    const std::int64_t most = options.prompts > 0 ? options.prompts : 1'000'000;
    return bench::read_prompts(options.dataset, most, options.random.output_len);
  }
  bench::RandomPrompts random = options.random;
  random.seed = seed;
  return bench::random_prompts(random);
}

struct Setup {
  const Options& options;
  const bench::ServeTarget& target;
  bench::RequestOptions request;
};

Result<bench::LoadRun> send(const Setup& setup, const std::vector<bench::ServePrompt>& prompts,
                            bench::LoadOptions load, const std::string& label) {
  load.endpoint = setup.options.endpoint;
  load.timeout_seconds = setup.options.timeout_seconds;
  std::vector<std::string> bodies;
  for (const bench::ServePrompt& prompt : prompts) {
    bodies.push_back(bench::request_body(prompt, setup.request));
  }
  Progress progress(label, static_cast<std::int64_t>(prompts.size()), "requests");
  auto run = bench::run_load(setup.target, load, bodies, interrupt_flag(),
                             [&](std::int64_t done) { progress.advance(done); });
  if (run.ok() && !run->interrupted) progress.finish();
  return run;
}

// Nothing is measured here; a server that refuses what is going to be sent says so before the load.
Status warm_up(const Setup& setup) {
  const Options& options = setup.options;
  if (options.warmups == 0) return ok_status();
  bench::RandomPrompts random = options.random;
  random.prompts = options.warmups;
  random.output_len = std::min(random.output_len, kWarmupOutput);
  random.seed = splitmix64_key(options.random.seed, "warm-up");
  const std::vector<bench::ServePrompt> prompts = bench::random_prompts(random);
  bench::LoadOptions load;
  load.due.assign(prompts.size(), 0.0);
  load.max_concurrency = options.concurrencies.back();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const bench::LoadRun run, send(setup, prompts, load, "Warming up"));
  if (run.interrupted) return cancelled("interrupted");
  const bench::ServeMetrics metrics =
      bench::summarize(run, std::vector<std::int64_t>(prompts.size(), -1), true, options.percents);
  if (metrics.errors.empty()) return ok_status();
  const std::string message = fmt::format("{} of {} warm-up requests failed: {}", metrics.failed,
                                          prompts.size(), metrics.errors.front().first);
  if (metrics.done == 0) return io_error(message);
  log_warning(message);
  return ok_status();
}

Result<ServeRow> measure_row(const Setup& setup, double rate, std::int64_t concurrency,
                             std::uint64_t seed) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto prompts, prompts_of(setup.options, seed));
  bench::LoadOptions load;
  load.due = bench::arrival_times(static_cast<std::int64_t>(prompts.size()), rate,
                                  setup.options.burstiness, seed);
  load.max_concurrency = concurrency;
  ServeRow row{rate, concurrency, seed, {}, {}};
  const std::string label =
      fmt::format("Rate {}, {} at once", rate_text(rate), concurrency_text(concurrency));
  LIQUIDGEMM_ASSIGN_OR_RETURN(row.run, send(setup, prompts, load, label));
  std::vector<std::int64_t> input_tokens;
  for (const bench::ServePrompt& prompt : prompts) input_tokens.push_back(prompt.input_tokens);
  row.metrics = bench::summarize(row.run, input_tokens, concurrency > 0, setup.options.percents);
  return row;
}

json::Object settings_of(const Setup& setup, const std::string& command) {
  const Options& options = setup.options;
  json::Object object{
      {"benchmark", "serve"},
      {"cpu", cpu_name()},
      {"os", operating_system()},
      {"version", LIQUIDGEMM_VERSION},
      {"commit", LIQUIDGEMM_COMMIT},
      {"date", today()},
      {"command", command},
      {"base_url", "http://" + setup.target.authority() + setup.target.prefix},
      {"endpoint", options.endpoint},
      {"model", setup.request.model},
      {"burstiness",
       std::isinf(options.burstiness) ? json::Value("inf") : json::Value(options.burstiness)},
      {"ignore_eos", setup.request.ignore_eos},
      {"temperature", options.temperature},
      {"seed", options.random.seed}};
  if (!options.dataset.empty()) {
    object["dataset"] = "file";
    return object;
  }
  object["dataset"] = "random";
  object["prompt_format"] = options.random.text ? "text" : "ids";
  object["random_input_len"] = options.random.input_len;
  object["random_output_len"] = options.random.output_len;
  object["random_range_ratio"] = options.random.range_ratio;
  object["random_prefix_len"] = options.random.prefix_len;
  if (!options.random.text) object["random_vocab_size"] = options.random.vocabulary;
  return object;
}

// Finishes what the options leave open.
Result<bench::RequestOptions> complete(const bench::ServeTarget& target, Options& options) {
  bench::RequestOptions request;
  request.chat = is_chat(options);
  options.random.text =
      options.prompt_format.empty() ? request.chat : options.prompt_format == "text";
  request.ignore_eos =
      options.ignore_eos.empty() ? options.dataset.empty() : options.ignore_eos == "true";
  request.temperature = options.temperature;
  request.model = options.model;
  request.extra = options.extra;
  options.random.vocabulary = options.vocabulary;
  if (options.model.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Served served, ask_model(target));
    request.model = served.model;
    if (options.vocabulary == 0) options.random.vocabulary = served.vocabulary;
  }
  if (options.random.vocabulary == 0) {
    options.random.vocabulary = bench::RandomPrompts{}.vocabulary;
  }
  options.random.prompts = options.prompts > 0 ? options.prompts : options.random.prompts;
  const auto longest = static_cast<double>(options.random.input_len + options.random.prefix_len);
  if (longest * (1.0 + options.random.range_ratio) * static_cast<double>(options.random.prompts) >
      static_cast<double>(kMostTokens)) {
    return resource_exhausted(
        fmt::format("--num-prompts {}: all prompts together may have {} tokens at most",
                    options.random.prompts, kMostTokens));
  }
  return request;
}

Status measure(Options options) {
  interrupt_flag();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const bench::ServeTarget target, target_of(options));
  LIQUIDGEMM_ASSIGN_OR_RETURN(bench::RequestOptions request, complete(target, options));
  const Setup setup{options, target, std::move(request)};
  if (!options.seed_given && options.dataset.empty()) {
    log_warning(fmt::format(
        "Prompts depend on --seed {} alone. A server that caches prefixes knows them if it has "
        "seen this load before: give each run another --seed.",
        options.random.seed));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(warm_up(setup));
  ServeReport report;
  report.command = command_line();
  report.settings = settings_of(setup, report.command);
  report.metrics = options.percentile_metrics;
  report.percents = options.percents;
  report.details = options.details;
  Status failure;
  for (const double rate : options.rates) {
    for (const std::int64_t concurrency : options.concurrencies) {
      const std::size_t number = report.rows.size();
      const std::uint64_t seed =
          number == 0 ? options.random.seed
                      : splitmix64_key(options.random.seed, fmt::format("row {}", number));
      auto row = measure_row(setup, rate, concurrency, seed);
      failure = row.status();
      if (!failure.ok()) break;
      if (row->run.interrupted) failure = cancelled("interrupted");
      report.rows.push_back(std::move(*row));
      if (!options.json) {
        std::printf("%s\n", report.block(report.rows.back()).c_str());
        std::fflush(stdout);
      }
      if (!failure.ok()) break;
    }
    if (!failure.ok()) break;
  }
  if (report.rows.empty()) return failure;
  if (options.json) {
    std::printf("%s", json::dump_pretty(report.to_json()).c_str());
  } else if (report.rows.size() > 1) {
    std::printf("%s", report.table().text().c_str());
  }
  LIQUIDGEMM_RETURN_IF_ERROR(write_records(options.record, [&](const std::string& extension) {
    if (extension == ".json") return json::dump_pretty(report.to_json());
    return extension == ".csv" ? report.csv() : report.markdown();
  }));
  LIQUIDGEMM_RETURN_IF_ERROR(failure);
  std::int64_t done = 0;
  for (const ServeRow& row : report.rows) done += row.metrics.done;
  if (done > 0) return ok_status();
  return io_error("no request succeeded: " + report.rows[0].metrics.errors[0].first);
}

CLI::Validator above_zero(double most) {
  return CLI::Validator(
      [most](std::string& text) -> std::string {
        double value = 0.0;
        if (!CLI::detail::lexical_cast(text, value)) return "expected a number, found " + text;
        if (value > 0.0 && (value <= most || std::isinf(value))) return {};
        return fmt::format("{}: expected a number above 0 and at most {:g}, or inf", text, most);
      },
      "");
}

void add_server_options(CLI::App& verb, Options& options) {
  const auto url = verb.add_option("--base-url", options.base_url, "The server: http://HOST:PORT");
  verb.add_option("--host", options.host, "Its address, instead of --base-url")
      ->capture_default_str()
      ->excludes(url);
  verb.add_option("--port", options.port, "Its port")
      ->check(CLI::Range(1, 65535).description(""))
      ->capture_default_str()
      ->excludes(url);
  verb.add_option("--endpoint", options.endpoint, "/v1/completions or /v1/chat/completions")
      ->check(CLI::IsMember({"/v1/completions", "/v1/chat/completions"}).description(""))
      ->capture_default_str();
  verb.add_option("--model", options.model, "Its name (default: the first of /v1/models)");
  verb.add_option("--api-key", options.api_key, "Sent as a bearer token; never recorded")
      ->envname("OPENAI_API_KEY");
  verb.add_option("--request-timeout", options.timeout_seconds, "Seconds for one request")
      ->check(CLI::Range(0.001, 1e6).description(""))
      ->capture_default_str();
}

void add_load_options(CLI::App& verb, Options& options) {
  const auto count = CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}).description("");
  verb.add_option("--request-rate", options.rates,
                  "Requests/s, comma-separated; inf sends all at once (default: inf)")
      ->delimiter(',')
      ->check(above_zero(1e6));
  verb.add_option("--max-concurrency", options.concurrencies,
                  "Requests at once, comma-separated (default: no limit)")
      ->delimiter(',')
      ->check(count);
  verb.add_option("--burstiness", options.burstiness,
                  "Shape of the gaps' gamma distribution: 1 Poisson, less burstier, inf even")
      ->check(above_zero(1e6))
      ->capture_default_str();
  verb.add_option("--num-prompts", options.prompts,
                  "Requests of each row (default: 100, or the whole file)")
      ->check(count);
  verb.add_option("--num-warmups", options.warmups, "Requests before, which do not count")
      ->check(CLI::Range(0, 10'000).description(""))
      ->capture_default_str();
}

void add_prompt_options(CLI::App& verb, Options& options) {
  const auto length = CLI::Range(std::int64_t{1}, std::int64_t{1} << 24).description("");
  verb.add_option("--random-input-len,--input-len", options.random.input_len, "Tokens of a prompt")
      ->check(length)
      ->capture_default_str();
  verb.add_option("--random-output-len,--output-len", options.random.output_len,
                  "Tokens of an answer; of a file's line that does not say")
      ->check(length)
      ->capture_default_str();
  verb.add_option("--random-range-ratio", options.random.range_ratio,
                  "0 to 0.99: lengths are uniform within this share of the above")
      ->check(CLI::Range(0.0, 0.99).description(""))
      ->capture_default_str();
  verb.add_option("--random-prefix-len", options.random.prefix_len,
                  "Tokens before each prompt that are the same in all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24).description(""))
      ->capture_default_str();
  verb.add_option("--random-vocab-size", options.vocabulary,
                  "Random ids are below (default: what the server says, or 32000)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30).description(""));
  verb.add_option("--prompt-format", options.prompt_format,
                  "ids or text (default: ids for completions, text for chats)")
      ->check(CLI::IsMember({"ids", "text"}).description(""));
  verb.add_option("--dataset-file,--dataset-path", options.dataset,
                  "Prompts from a file instead, a JSON object a line:\n"
                  "{\"prompt\": \"text\" or [ids], \"output_len\": 64}");
  verb.add_flag("--ignore-eos{true},!--no-ignore-eos", options.ignore_eos,
                "Answers go on to their length (default: of random prompts)");
  verb.add_option("--temperature", options.temperature, "0 is greedy")
      ->check(CLI::Range(0.0, 100.0).description(""))
      ->capture_default_str();
  verb.add_option("--extra-body", options.extra_body,
                  "A JSON object whose fields every request gets; null takes one out");
  verb.add_option("--seed", options.random.seed, "Of prompts, lengths and arrivals")
      ->capture_default_str();
}

void add_report_options(CLI::App& verb, Options& options) {
  verb.add_option("--percentile-metrics", options.percentile_metrics,
                  "Which of ttft, tpot, itl, e2el are printed (default: the first three)")
      ->delimiter(',')
      ->check(CLI::IsMember({"ttft", "tpot", "itl", "e2el"}).description(""));
  verb.add_option("--metric-percentiles", options.percents,
                  "Percentiles of each, comma-separated (default: 99)")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 100.0).description(""));
  verb.add_flag("--save-detailed", options.details, "Every request's numbers in the JSON");
  verb.add_option("--record", options.record,
                  "Also write the results to this .json, .csv or .md file; repeatable");
  verb.add_flag("--json", options.json, "Print JSON");
}

// What can be seen to be wrong before anything is done.
void check_usage(Options& options) {
  if (const auto target = target_of(options); !target.ok()) {
    throw CLI::ValidationError(options.base_url.empty() ? "--host" : "--base-url",
                               target.status().message());
  }
  if (const Status key = bench::check_api_key(options.api_key); !key.ok()) {
    throw CLI::ValidationError("--api-key", key.message());
  }
  if (is_chat(options) && options.prompt_format == "ids") {
    throw CLI::ValidationError("--prompt-format", "a chat takes text");
  }
  if (!options.dataset.empty() && !options.prompt_format.empty()) {
    throw CLI::ValidationError("--prompt-format", "the prompts of a file are what they are");
  }
  if (options.extra_body.empty()) return;
  auto extra = json::parse(options.extra_body, "its value");
  if (!extra.ok() || !extra->is_object()) {
    throw CLI::ValidationError("--extra-body",
                               extra.ok() ? "expected a JSON object" : extra.status().message());
  }
  options.extra = std::move(extra->get_object());
}

}  // namespace

void add_bench_serve(CLI::App& bench, Action& action) {
  CLI::App* verb =
      bench.add_subcommand("serve", "Load on an OpenAI-compatible server: latencies, tokens/s");
  const auto options = std::make_shared<Options>();
  add_server_options(*verb, *options);
  add_load_options(*verb, *options);
  add_prompt_options(*verb, *options);
  add_report_options(*verb, *options);
  verb->footer(
      "Rates and numbers at once with commas give a row for each pair of them.\n"
      "\n"
      "Examples:\n"
      "  liquid bench serve --max-concurrency 16\n"
      "  liquid bench serve --base-url http://localhost:8080 --endpoint /v1/chat/completions\n"
      "  liquid bench serve --request-rate 1,2,4,8 --num-prompts 200 --record load.json\n"
      "  liquid bench plot load.json -o load.svg --kind load");
  verb->callback([options, verb, &action] {
    check_usage(*options);
    options->seed_given = verb->get_option("--seed")->count() > 0;
    action = [options] { return measure(*options); };
  });
}

}  // namespace liquidgemm::cli
