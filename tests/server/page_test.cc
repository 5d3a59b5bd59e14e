// The page's route: everybody may load it, and a browser may run nothing but its own code.

#include "server/page.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "server/embedded.h"

namespace liquidgemm::server {
namespace {

class KeptReply : public HttpReply {
 public:
  void send(int status, std::string_view type, std::string body, Headers headers) override {
    status_ = status;
    type_ = type;
    body_ = std::move(body);
    headers_ = std::move(headers);
  }
  void begin_stream(std::string_view, Headers) override { FAIL(); }
  bool write(std::string) override { return false; }
  void end() override {}
  void on_disconnect(std::function<void()>) override {}

  std::string header(std::string_view name) const {
    for (const auto& [key, value] : headers_) {
      if (key == name) return value;
    }
    return "";
  }

  int status_ = 0;
  std::string type_;
  std::string body_;
  Headers headers_;
};

TEST(Page, Route) {
  const Route route = page_route();
  EXPECT_EQ(route.method, "GET");
  EXPECT_EQ(route.path, "/");
  EXPECT_TRUE(route.is_public);
  const auto reply = std::make_shared<KeptReply>();
  route.handler({}, reply);
  EXPECT_EQ(reply->status_, 200);
  EXPECT_EQ(reply->type_, "text/html; charset=utf-8");
  EXPECT_EQ(reply->body_, kPageHtml);
  EXPECT_TRUE(reply->body_.starts_with("<!DOCTYPE html>"));
  EXPECT_TRUE(reply->body_.ends_with("</html>\n"));
  const std::string policy = reply->header("Content-Security-Policy");
  EXPECT_TRUE(policy.starts_with("default-src 'none'; ")) << policy;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_EQ(policy.find('*'), std::string::npos);
  EXPECT_NE(policy.find("script-src 'sha256-" + std::string(kPageScriptHash) + "';"), policy.npos);
  EXPECT_NE(policy.find("style-src 'sha256-" + std::string(kPageStyleHash) + "';"), policy.npos);
  EXPECT_EQ(kPageScriptHash.size(), 44u);
  EXPECT_EQ(reply->header("X-Content-Type-Options"), "nosniff");
}

}  // namespace
}  // namespace liquidgemm::server
