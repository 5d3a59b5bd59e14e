#include "bench/serve_target.h"

#include <algorithm>
#include <charconv>

namespace liquidgemm::bench {
namespace {

bool visible(unsigned char c) { return c > 0x20 && c < 0x7f; }

bool is_port(std::string_view text) {
  int port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

}  // namespace

std::string ServeTarget::authority() const {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + port;
}

std::string ServeTarget::path(const std::string& endpoint) const {
  constexpr std::string_view kVersion = "/v1";
  const bool twice =
      prefix.size() >= kVersion.size() &&
      prefix.compare(prefix.size() - kVersion.size(), kVersion.size(), kVersion) == 0 &&
      endpoint.rfind("/v1/", 0) == 0;
  return prefix + (twice ? endpoint.substr(kVersion.size()) : endpoint);
}

Result<ServeTarget> parse_base_url(const std::string& url) {
  const auto wrong = [&](const char* what) {
    return invalid_argument(url + ": " + what +
                            "; expected http://HOST:PORT, with a path or without");
  };
  if (!std::all_of(url.begin(), url.end(), visible)) return wrong("it has spaces or unusual bytes");
  if (url.rfind("https://", 0) == 0) {
    return unsupported(url +
                       ": this client speaks plain HTTP only; let a TLS proxy stand between, or "
                       "name the server's http:// address");
  }
  constexpr std::string_view kScheme = "http://";
  if (url.rfind(kScheme, 0) != 0) return wrong("it does not begin with http://");
  if (url.find_first_of("?#@") != std::string::npos) return wrong("?, # and @ have no place in it");
  const std::size_t slash = std::min(url.find('/', kScheme.size()), url.size());
  std::string authority = url.substr(kScheme.size(), slash - kScheme.size());
  ServeTarget target;
  target.prefix = url.substr(slash);
  while (!target.prefix.empty() && target.prefix.back() == '/') target.prefix.pop_back();
  if (!authority.empty() && authority.front() == '[') {
    const std::size_t end = authority.find(']');
    if (end == std::string::npos) return wrong("a bracket is not closed");
    target.host = authority.substr(1, end - 1);
    authority.erase(0, end + 1);
  } else {
    const std::size_t colon = std::min(authority.find(':'), authority.size());
    target.host = authority.substr(0, colon);
    authority.erase(0, colon);
  }
  if (target.host.empty()) return wrong("it names no host");
  if (!authority.empty()) {
    target.port = authority.substr(1);
    if (authority.front() != ':' || !is_port(target.port)) {
      return wrong("the port is no number of 1 to 65535");
    }
  }
  return target;
}

Status check_api_key(const std::string& key) {
  if (std::all_of(key.begin(), key.end(), visible)) return ok_status();
  return invalid_argument("it has spaces or unusual bytes");
}

}  // namespace liquidgemm::bench
