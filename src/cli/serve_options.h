// The flags of `liquid serve`: spelled as vLLM's, each also an environment variable and a name in
// the file of --config.
#pragma once

#include <string>
#include <vector>

#include "cli/model_options.h"
#include "engine/grammar.h"
#include "model/chat/chat_template.h"
#include "server/api_limits.h"
#include "server/http_server.h"

namespace liquidgemm::cli {

struct ServeOptions {
  ModelOptions model;
  std::string precision = "auto";
  std::vector<std::string> served_names;  // empty: the model's own name

  std::string host = "127.0.0.1";
  int port = 8000;
  int http_threads = 2;
  std::vector<std::string> api_keys;
  std::vector<std::string> api_key_files;
  std::vector<std::string> allowed_origins;
  std::string ssl_keyfile;
  std::string ssl_certfile;
  server::HttpLimits http;
  bool access_log = true;
  bool log_json = false;

  std::int64_t max_sequences = 0;  // 0: 16, on a GPU 256
  std::int64_t max_batched_tokens = 0;  // 0: 256, on a GPU 2048, or max_sequences if more
  std::int64_t max_queued_requests = 1024;
  std::int64_t kv_pages = 0;  // 0: as many as are useful and fit
  bool prefix_caching = true;

  std::string tool_call_parser = "auto";
  server::ApiLimits api;
  GrammarLimits grammar;
  TemplateLimits chat_template;

  double shutdown_timeout = 30.0;  // seconds
  double watchdog_timeout = 300.0;

  std::string metrics_compat;  // "vllm": its names too

  std::string config;
};

void add_serve_options(CLI::App& verb, ServeOptions& options);
// Once the verb was chosen: what --config says for flags that neither the command line nor the
// environment gave, and what is wrong with all of it together. Throws CLI11's errors: wrong usage.
void finish_serve_options(CLI::App& verb, ServeOptions& options);

// Keys, origins and limits as the transport wants them.
Result<server::HttpServerOptions> http_options(const ServeOptions& options);

// Sequences, rows and KV pages for the model. Without --num-kv-pages the cache holds as many of the
// longest sequences as run at once, or what half of the machine's memory has room for.
Status set_serve_limits(const ServeOptions& options, const ModelConfig& config, LoadOptions& load);

}  // namespace liquidgemm::cli
