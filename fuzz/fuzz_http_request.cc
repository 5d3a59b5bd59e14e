// Any bytes as what a client sends: requests one after another, the first byte says in pieces of
// which size they come. However they are cut, the same requests must come out.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_parser.h"
#include "server/http_router.h"

namespace {

using liquidgemm::server::HttpLimits;
using liquidgemm::server::HttpParser;

HttpLimits small_limits() {
  HttpLimits limits;
  limits.header_bytes = 1024;
  limits.header_fields = 16;
  limits.body_bytes = 4096;
  return limits;
}

struct Outcome {
  std::vector<std::string> requests;
  int status = 0;  // of the error that ended it
};

Outcome read_all(std::string_view bytes, std::size_t piece) {
  const HttpLimits limits = small_limits();
  Outcome outcome;
  std::string waiting;
  HttpParser parser(limits);
  auto* current = &parser;
  std::unique_ptr<HttpParser> next;
  while (!bytes.empty() || !waiting.empty()) {
    const std::size_t before = bytes.size();
    waiting += bytes.substr(0, piece);
    bytes.remove_prefix(std::min(piece, bytes.size()));
    while (true) {
      const HttpParser::State state = current->state();
      const std::size_t used = current->feed(waiting);
      if (used > waiting.size()) std::abort();
      waiting.erase(0, used);
      if (current->state() == HttpParser::State::kFailed) {
        outcome.status = current->error().status;
        return outcome;
      }
      if (waiting.size() >= limits.header_bytes && used == 0) std::abort();
      if (current->state() == HttpParser::State::kDone) {
        const auto& head = current->head();
        std::string body = current->take_body();
        if (body.size() > limits.body_bytes) std::abort();
        outcome.requests.push_back(head.method + " " + head.path + "?" + head.query + " " +
                                   head.content_type + " " + body);
        next = std::make_unique<HttpParser>(limits);
        current = next.get();
        if (waiting.empty()) break;
        continue;
      }
      if (used == 0 && state == current->state()) break;
    }
    if (before == 0) break;  // nothing more comes
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace liquidgemm::server;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = read_all(bytes, bytes.size() + 1);
  const Outcome pieces = read_all(bytes, 1 + data[0] % 32u);
  if (whole.requests != pieces.requests) std::abort();

  // What heads make of routes, keys and origins.
  static const HttpRouter* const router = [] {
    ApiKeys keys;
    (void)keys.add("key");
    auto origins = AllowedOrigins::parse({"https://a.example"});
    auto* made = new HttpRouter(std::move(keys), std::move(*origins));
    const Handler nothing = [](const HttpRequest&, const std::shared_ptr<HttpReply>&) {};
    made->set_routes({{"GET", "/health", nothing, true}, {"POST", "/v1/completions", nothing}});
    made->set_phase(ServerPhase::kServing);
    return made;
  }();
  HttpParser parser(small_limits());
  (void)parser.feed(bytes);
  if (parser.state() == HttpParser::State::kBody || parser.state() == HttpParser::State::kDone) {
    const auto decision = router->decide(parser.head());
    const bool may = parser.head().authorization.size() >= 10 || parser.head().path == "/health";
    if (decision.route != nullptr && !may) std::abort();
  }
  return 0;
}
