#include "server/page.h"

#include "server/embedded.h"

namespace liquidgemm::server {

Route page_route() {
  // Only the page's own script and style, known by their hashes, and only this server's answers.
  std::string policy = "default-src 'none'; script-src 'sha256-";
  policy += kPageScriptHash;
  policy += "'; style-src 'sha256-";
  policy += kPageStyleHash;
  policy +=
      "'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
      "frame-ancestors 'none'";
  Headers headers = {{"Content-Security-Policy", std::move(policy)},
                     {"X-Content-Type-Options", "nosniff"},
                     {"Referrer-Policy", "no-referrer"},
                     {"Cache-Control", "no-cache"}};
  return {"GET", "/",
          [headers = std::move(headers)](const HttpRequest&, std::shared_ptr<HttpReply> reply) {
            reply->send(200, "text/html; charset=utf-8", std::string(kPageHtml), headers);
          },
          /*is_public=*/true};
}

}  // namespace liquidgemm::server
