#include "cli/serve_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "base/physical_memory.h"
#include "base/status_macros.h"
#include "bench/memory.h"
#include "bench/model_cost.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::cli {
namespace {

constexpr std::int64_t kDefaultSequences = 16;
constexpr std::int64_t kGpuSequences = 256;
constexpr std::int64_t kDefaultBatchedTokens = 256;
constexpr std::int64_t kGpuBatchedTokens = 2048;
constexpr std::int64_t kPromptLogprobRows = 64;
constexpr double kMaxSeconds = 1e6;

auto sizes(std::int64_t low, std::int64_t high) { return CLI::Range(low, high).description(""); }

// A count with the suffixes K and M: 32K is 32768.
template <typename T>
void add_size(CLI::App& verb, const std::string& names, T& value, const std::string& help,
              std::int64_t low, std::int64_t high) {
  verb.add_option(names, value, help)
      ->transform(CLI::AsSizeValue(false).description(""))
      ->check(sizes(low, high))
      ->type_name("N");
}

// CLI::Range lets through what is not a number at all.
CLI::Validator seconds(double low) {
  return {[low](std::string& text) -> std::string {
            double value = 0.0;
            if (CLI::detail::lexical_cast(text, value) && value >= low && value <= kMaxSeconds)
              return "";
            return fmt::format("\"{}\": expected seconds from {} to {}", text, low, kMaxSeconds);
          },
          ""};
}

void add_seconds(CLI::App& verb, const std::string& name, std::chrono::milliseconds& value,
                 const std::string& help, double low = 0.001) {
  verb.add_option_function<double>(
          name,
          [&value](const double& seconds) {
            value = std::chrono::milliseconds(static_cast<std::int64_t>(1e3 * seconds));
          },
          help)
      ->check(seconds(low))
      ->type_name("SECONDS")
      ->default_str(fmt::format("{}", 1e-3 * static_cast<double>(value.count())));
}

void add_network_options(CLI::App& verb, ServeOptions& options) {
  verb.add_option("--host", options.host, "Address to listen on; 0.0.0.0: all of this machine's")
      ->capture_default_str();
  verb.add_option("--port", options.port, "Port to listen on; 0: a free one")
      ->check(CLI::Range(0, 65535).description(""))
      ->capture_default_str();
  verb.add_option("--http-threads", options.http_threads, "Threads that read and write requests")
      ->check(CLI::Range(1, 64).description(""))
      ->capture_default_str();
  verb.add_option("--api-key", options.api_keys, "A key that requests must bring; repeatable")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb.add_option("--api-key-file", options.api_key_files,
                  "A file of such keys, one a line (not seen by other users, as flags are)")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb.add_option("--allowed-origins", options.allowed_origins,
                  "Web pages that may read replies: https://host:port, or *; repeatable\n"
                  "(default: none but the server's own)")
      ->delimiter(',');
  verb.add_option("--ssl-keyfile,--ssl-key-file", options.ssl_keyfile,
                  "Private key for TLS, PEM without a passphrase");
  verb.add_option("--ssl-certfile,--ssl-cert-file", options.ssl_certfile,
                  "Certificate chain for TLS, PEM");
  verb.add_flag("--access-log,!--no-access-log", options.access_log,
                "A line for each request, never its text (on without the flag)");
  verb.add_flag("--log-json", options.log_json, "Log one JSON object a line");
}

void add_limit_options(CLI::App& verb, ServeOptions& options) {
  server::HttpLimits& http = options.http;
  constexpr std::int64_t kMany = std::int64_t{1} << 40;
  add_size(verb, "--max-header-bytes", http.header_bytes,
           "Of a request line and its header (default: 16K)", 256, 1 << 20);
  add_size(verb, "--max-header-fields", http.header_fields, "Fields of a header (default: 100)", 4,
           10'000);
  add_size(verb, "--max-body-bytes", http.body_bytes, "Of a request's body (default: 8M)", 1,
           std::int64_t{1} << 32);
  add_size(verb, "--max-total-body-bytes", http.total_body_bytes,
           "Of all bodies that are being read (default: 512M)", 1, kMany);
  add_size(verb, "--max-connections", http.connections, "At once (default: 1024)", 1, 1 << 20);
  add_size(verb, "--max-outgoing-bytes", http.outgoing_bytes,
           "Of a streamed answer that wait for a slow reader; then it is let go\n(default: 1M)", 1,
           kMany);
  add_seconds(verb, "--header-timeout", http.header_timeout, "From a request's first byte");
  add_seconds(verb, "--body-timeout", http.body_timeout, "From the end of the header");
  add_seconds(verb, "--idle-timeout", http.idle_timeout, "Between requests of a connection");
  add_seconds(verb, "--write-timeout", http.write_timeout, "Without the client taking a byte");
}

void add_engine_options(CLI::App& verb, ServeOptions& options) {
  add_size(verb, "--max-num-seqs,--max-running-requests", options.max_sequences,
           "Requests that run at once (default: 16; 256 on a GPU)", 1, 1024);
  add_size(verb, "--max-num-batched-tokens", options.max_batched_tokens,
           "Tokens of one step, at least --max-num-seqs (default: 256, on a GPU 2048,\nor that)",
           16, 65536);
  add_size(verb, "--max-queued-requests", options.max_queued_requests,
           "Requests that wait; more get status 429 (default: 1024)", 0, 1 << 20);
  add_size(verb, "--num-kv-pages,--num-gpu-blocks-override", options.kv_pages,
           "Pages of 64 tokens of KV cache (default: what is useful and fits)", 1, 1 << 24);
  verb.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", options.prefix_caching,
                "Compute what prompts have in common once (on without the flag)");
}

void add_api_options(CLI::App& verb, ServeOptions& options) {
  verb.add_option("--tool-call-parser", options.tool_call_parser,
                  "How the model writes tool calls: auto looks at its chat template")
      ->check(CLI::IsMember({"auto", "hermes", "llama3_json", "none"}))
      ->capture_default_str();
  server::ApiLimits& api = options.api;
  add_size(verb, "--max-n", api.n, "Answers to one prompt (default: 16)", 1, 1024);
  add_size(verb, "--max-prompts", api.prompts, "Prompts of one completion (default: 64)", 1, 4096);
  add_size(verb, "--max-answers", api.answers, "Prompts times n (default: 128)", 1, 4096);
  add_size(verb, "--max-prompt-tokens", api.tokens,
           "Of all prompts of a request, times n (default: 4M)", 1, std::int64_t{1} << 32);
  add_size(verb, "--max-stop-strings", api.stops, "Of one request (default: 16)", 0, 1024);
  add_size(verb, "--max-stop-bytes", api.stop_bytes, "Of one stop string (default: 256)", 1, 65536);
  add_size(verb, "--max-logit-bias", api.logit_bias, "Tokens with a bias (default: 1024)", 0,
           static_cast<std::int64_t>(kMaxLogitBiases));
  add_size(verb, "--max-messages", api.messages, "Of one chat (default: 4096)", 1, 1 << 20);
  add_size(verb, "--max-tools", api.tools, "Of one chat (default: 128)", 0, 4096);
  GrammarLimits& grammar = options.grammar;
  add_size(verb, "--max-schema-bytes", grammar.max_bytes,
           "Of a schema, expression or list of choices (default: 256K)", 1, 1 << 24);
  add_size(verb, "--max-schema-depth", grammar.max_depth, "Nesting of a schema (default: 64)", 1,
           256);
  add_size(verb, "--max-schema-nodes", grammar.max_nodes, "Values in a schema (default: 20000)", 1,
           1 << 20);
  TemplateLimits& chat = options.chat_template;
  add_size(verb, "--max-template-steps", chat.steps, "Of a chat template's execution (default: 1M)",
           1000, std::int64_t{1} << 32);
  add_size(verb, "--max-template-ms", chat.milliseconds,
           "Of a chat template's execution (default: 100)", 1, 60'000);
  add_seconds(verb, "--request-timeout", api.request_time,
              "From a request's arrival to its answer's end, waiting included; 0: any time", 0.0);
}

std::string environment_name(std::string name) {
  for (char& c : name) {
    c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return "LIQUIDGEMM_" + name;
}

// CLI11 would let a configuration file win over the environment, so it is applied here, after both.
void apply_config(CLI::App& verb, const std::string& path) {
  for (const CLI::ConfigItem& item : CLI::ConfigBase().from_file(path)) {
    if (item.name == "++" || item.name == "--") continue;  // begin and end of a section
    std::string name = item.name;
    std::replace(name.begin(), name.end(), '_', '-');
    const bool section = item.parents.size() == 1 && item.parents[0] == verb.get_name();
    CLI::Option* option = verb.get_option_no_throw("--" + name);
    if (option == nullptr || name == "config" || name == "help" ||
        !(item.parents.empty() || section)) {
      throw CLI::ConfigError(path + ": " + item.fullname() + " is not a flag of `liquid " +
                             verb.get_name() + "`");
    }
    if (option->count() > 0) continue;
    if (option->get_expected_min() == 0) {
      option->add_result(option->get_flag_value(name, item.inputs.empty() ? "" : item.inputs[0]));
    } else {
      for (const std::string& input : item.inputs) option->add_result(input);
    }
    option->run_callback();
  }
}

}  // namespace

void add_serve_options(CLI::App& verb, ServeOptions& options) {
  add_model_options(verb, options.model);
  verb.get_option("MODEL")->required(false);  // the file of --config may name it
  add_precision_option(verb, options.precision);
  verb.add_option("--served-model-name,--alias", options.served_names,
                  "Names by which requests may call the model (default: its own)")
      ->delimiter(',');
  add_network_options(verb, options);
  add_engine_options(verb, options);
  add_api_options(verb, options);
  verb.add_option("--shutdown-timeout", options.shutdown_timeout,
                  "After SIGTERM or Ctrl-C: seconds for what runs to finish")
      ->check(seconds(0.0))
      ->capture_default_str();
  verb.add_option("--watchdog-timeout", options.watchdog_timeout,
                  "A step of the engine that takes longer makes /ready say 503; seconds")
      ->check(seconds(0.001))
      ->capture_default_str();
  verb.add_option("--metrics-compat", options.metrics_compat,
                  "vllm: /metrics shows each metric under vLLM's name as well")
      ->check(CLI::IsMember({"vllm"}));
  add_limit_options(verb, options);
  verb.add_option("--config", options.config,
                  "A file of flags, \"port = 8000\" a line; command line and environment win");
  for (CLI::Option* option : verb.get_options()) {
    const auto& names = option->get_lnames();
    if (names.empty() || names[0] == "help" || !option->get_envname().empty()) continue;
    option->envname(environment_name(names[0]));
  }
}

void finish_serve_options(CLI::App& verb, ServeOptions& options) {
  if (!options.config.empty()) apply_config(verb, options.config);
  if (options.model.model.empty()) {
    throw CLI::ValidationError("MODEL", "which model to serve is required");
  }
  if (options.ssl_keyfile.empty() != options.ssl_certfile.empty()) {
    throw CLI::ValidationError("--ssl-keyfile", "it and --ssl-certfile are needed together");
  }
  options.api.body_bytes = options.http.body_bytes;
  if (options.max_batched_tokens != 0 && options.max_batched_tokens < options.max_sequences) {
    throw CLI::ValidationError(
        "--max-num-batched-tokens",
        fmt::format("{}: expected at least --max-num-seqs {}, a token for each",
                    options.max_batched_tokens, options.max_sequences));
  }
}

Result<server::HttpServerOptions> http_options(const ServeOptions& options) {
  server::HttpServerOptions http;
  http.host = options.host;
  http.port = options.port;
  http.threads = options.http_threads;
  http.limits = options.http;
  http.ssl_keyfile = options.ssl_keyfile;
  http.ssl_certfile = options.ssl_certfile;
  http.access_log = options.access_log;
  for (const std::string& key : options.api_keys) {
    LIQUIDGEMM_RETURN_IF_ERROR(http.keys.add(key).with_context("--api-key"));
  }
  for (const std::string& file : options.api_key_files) {
    LIQUIDGEMM_RETURN_IF_ERROR(http.keys.add_file(file));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(http.origins, server::AllowedOrigins::parse(options.allowed_origins));
  return http;
}

Status set_serve_limits(const ServeOptions& options, const ModelConfig& config, LoadOptions& load) {
  BackendLimits& limits = load.limits;
  const bool gpu = expects_gpu(load);
  if (limits.max_position > config.max_position) {
    return invalid_argument(fmt::format("--max-model-len {}: {} takes at most {} tokens",
                                        limits.max_position, options.model.model,
                                        config.max_position));
  }
  limits.max_sequences = options.max_sequences;
  if (limits.max_sequences == 0) {
    limits.max_sequences = gpu ? kGpuSequences : kDefaultSequences;
    if (options.max_batched_tokens > 0) {
      limits.max_sequences = std::min(limits.max_sequences, options.max_batched_tokens);
    }
  }
  // Beside a row for each request, room for prompts whose log-probabilities are wanted.
  limits.max_logits_rows = limits.max_sequences + kPromptLogprobRows;
  limits.max_rows =
      options.max_batched_tokens > 0
          ? options.max_batched_tokens
          : std::max(gpu ? kGpuBatchedTokens : kDefaultBatchedTokens, limits.max_sequences);
  const std::int64_t longest = pages_for(limits.max_position);
  limits.pages = options.kv_pages;
  // The GPU's backend counts its own memory.
  if (gpu && limits.pages == 0) return ok_status();
  if (limits.pages == 0) {
    const double fixed = bench::model_bytes(config, limits);
    limits.pages = 1;
    const double page = bench::model_bytes(config, limits) - fixed;
    const double room = 0.5 * physical_memory_bytes() - fixed;
    const auto fitting = static_cast<std::int64_t>(std::max(0.0, room / page));
    limits.pages = std::clamp(fitting, longest, longest * limits.max_sequences);
  }
  if (limits.pages < longest) {
    return invalid_argument(fmt::format(
        "--num-kv-pages {}: one sequence of --max-model-len {} tokens needs {} pages of {}",
        limits.pages, limits.max_position, longest, kPageTokens));
  }
  if (gpu) return ok_status();
  return bench::check_memory(bench::model_bytes(config, limits),
                             options.model.model + ": weights, KV cache and work buffers take ",
                             "lower --max-model-len, --num-kv-pages or --max-num-seqs");
}

}  // namespace liquidgemm::cli
