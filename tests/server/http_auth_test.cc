// Keys, origins, TLS.

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>

#include "fresh_seed.h"
#include "server/status_routes.h"
#include "server/test_server.h"

namespace liquidgemm::testing {
namespace {

class HttpAuth : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    folder_ = std::filesystem::path(::testing::TempDir()) /
              ("http-auth-" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override {
    ServerTest::TearDown();
    std::filesystem::remove_all(folder_);
  }
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  std::filesystem::path folder_;
};

TEST_F(HttpAuth, EveryRouteButThePublicOnesNeedsAKey) {
  ASSERT_TRUE(options_.keys.add("alpha-key").ok());
  ASSERT_TRUE(options_.keys.add("beta-key").ok());
  std::vector<Route> all = routes();
  for (Route& route : server::status_routes(
           {.version = "1", .commit = "c", .ready = [] { return ok_status(); }})) {
    if (route.path != "/health") all.push_back(std::move(route));
  }
  start(all);
  std::size_t is_public = 0;
  for (const Route& route : all) {
    const std::string bytes = route.method + " " + route.path + " HTTP/1.1\r\nHost: a\r\n";
    const RawReply reply = client().ask(bytes + "\r\n");
    if (route.is_public) {
      ++is_public;
      EXPECT_EQ(reply.status, 200) << route.path;
      continue;
    }
    EXPECT_EQ(reply.status, 401) << route.path;
    EXPECT_EQ(error_of(reply).at("type").as_string(), "authentication_error");
    EXPECT_EQ(reply.field("www-authenticate"), "Bearer");
    for (const char* wrong : {"Bearer alpha-ke", "Bearer alpha-key2", "Bearer", "Bearer ",
                              "Basic alpha-key", "alpha-key", "Bearer beta-key alpha-key"}) {
      EXPECT_EQ(client().ask(bytes + "Authorization: " + wrong + "\r\n\r\n").status, 401) << wrong;
    }
    if (route.path == "/keep") continue;
    for (const char* right : {"Bearer alpha-key", "bearer beta-key"}) {
      EXPECT_EQ(client().ask(bytes + "Authorization: " + right + "\r\n\r\n").status, 200)
          << route.path;
    }
  }
  EXPECT_EQ(is_public, 2u);
  // Nobody learns without a key which paths and methods there are.
  for (const char* line : {"GET /none", "DELETE /echo", "POST /health", "OPTIONS /echo"}) {
    EXPECT_EQ(client().ask(line + std::string(" HTTP/1.1\r\nHost: a\r\n\r\n")).status, 401) << line;
  }
  // Nor does the body of a stranger get read.
  RawClient stranger = client();
  stranger.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
  EXPECT_EQ(stranger.reply().status, 401);
  const std::string twice = "Authorization: Bearer alpha-key\r\nAuthorization: Bearer x\r\n";
  EXPECT_EQ(client().ask(get_bytes("/echo", twice)).status, 400);
}

TEST_F(HttpAuth, KeyFiles) {
  server::ApiKeys keys;
  EXPECT_TRUE(keys.add_file(file("keys", "# team a\nalpha\n\n  beta \r\n")).ok());
  EXPECT_EQ(keys.size(), 2u);
  EXPECT_TRUE(keys.allows("Bearer alpha"));
  EXPECT_TRUE(keys.allows("Bearer beta"));
  EXPECT_FALSE(keys.allows("Bearer # team a"));
  EXPECT_FALSE(keys.add_file(file("none", "# nothing\n")).ok());
  EXPECT_FALSE(keys.add_file((folder_ / "missing").string()).ok());
  const Status status = keys.add_file(file("bad", "good\nnot good\n"));
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("line 2"), std::string::npos);
  EXPECT_EQ(status.message().find("not good"), std::string::npos);
  EXPECT_FALSE(keys.add("").ok());
  EXPECT_FALSE(keys.add(std::string(2000, 'x')).ok());
}

TEST_F(HttpAuth, OriginsAreOffUntilAllowed) {
  const std::string preflight =
      "OPTIONS /echo HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n"
      "Access-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\n\r\n";
  const std::string origin = "Origin: https://a.example\r\n";
  start();
  EXPECT_EQ(client().ask(preflight).status, 405);
  EXPECT_EQ(client().ask(get_bytes("/echo", origin)).field("access-control-allow-origin"), "");
  for (const bool any : {false, true}) {
    server_.reset();
    ASSERT_TRUE(options_.keys.add("key").ok());
    auto origins =
        server::AllowedOrigins::parse({any ? "*" : "https://a.example", "http://b.example:8080"});
    ASSERT_TRUE(origins.ok());
    options_.origins = *origins;
    start();
    RawReply reply = client().ask(preflight);  // without a key, as browsers do
    EXPECT_EQ(reply.status, 204);
    EXPECT_EQ(reply.field("access-control-allow-origin"), any ? "*" : "https://a.example");
    EXPECT_EQ(reply.field("access-control-allow-methods"), "GET, HEAD, POST, OPTIONS");
    EXPECT_EQ(reply.field("access-control-allow-headers"),
              "authorization,content-type,x-stainless-os");
    EXPECT_EQ(reply.field("access-control-allow-credentials"), "");
    reply = client().ask(get_bytes("/echo", origin + "Authorization: Bearer key\r\n"));
    EXPECT_EQ(reply.field("access-control-allow-origin"), any ? "*" : "https://a.example");
    EXPECT_EQ(reply.field("vary"), any ? "" : "Origin");
    reply = client().ask(get_bytes("/echo", origin));  // the page can read why
    EXPECT_EQ(reply.status, 401);
    EXPECT_EQ(reply.field("access-control-allow-origin"), any ? "*" : "https://a.example");
    for (const char* other : {"https://a.example.evil", "http://a.example", "null"}) {
      reply = client().ask(get_bytes("/health", "Origin: " + std::string(other) + "\r\n"));
      EXPECT_EQ(reply.field("access-control-allow-origin"), any ? "*" : "") << other;
    }
  }
  for (const char* bad : {"a.example", "https://a.example/", "https://*.example", "", "https://"}) {
    EXPECT_FALSE(server::AllowedOrigins::parse({bad}).ok()) << bad;
  }
}

// A key and a certificate for it, as PEM files.
void make_certificate(const std::string& keyfile, const std::string& certfile) {
  EVP_PKEY* key = ::EVP_EC_gen("P-256");
  X509* certificate = ::X509_new();
  ::ASN1_INTEGER_set(::X509_get_serialNumber(certificate), 1);
  ::X509_gmtime_adj(::X509_getm_notBefore(certificate), -60);
  ::X509_gmtime_adj(::X509_getm_notAfter(certificate), 3600);
  ::X509_set_pubkey(certificate, key);
  X509_NAME* name = ::X509_get_subject_name(certificate);
  ::X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  ::X509_set_issuer_name(certificate, name);
  ::X509_sign(certificate, key, ::EVP_sha256());
  std::FILE* file = std::fopen(keyfile.c_str(), "w");
  ::PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  file = std::fopen(certfile.c_str(), "w");
  ::PEM_write_X509(file, certificate);
  std::fclose(file);
  ::X509_free(certificate);
  ::EVP_PKEY_free(key);
}

// One exchange over TLS with the newest version `version`; empty when the handshake failed.
std::string ask_tls(int port, int version, const std::string& bytes) {
  SSL_CTX* context = ::SSL_CTX_new(::TLS_client_method());
  ::SSL_CTX_set_min_proto_version(context, 0);
  ::SSL_CTX_set_max_proto_version(context, version);
  ::SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0");
  RawClient client(port);
  SSL* ssl = ::SSL_new(context);
  ::SSL_set_fd(ssl, client.fd());
  std::string received;
  if (::SSL_connect(ssl) == 1) {
    ::SSL_write(ssl, bytes.data(), static_cast<int>(bytes.size()));
    char buffer[65536];
    int size = 0;
    while ((size = ::SSL_read(ssl, buffer, sizeof buffer)) > 0) {
      received.append(buffer, static_cast<std::size_t>(size));
    }
    ::SSL_shutdown(ssl);
  }
  ::SSL_free(ssl);
  ::SSL_CTX_free(context);
  return received;
}

TEST_F(HttpAuth, Tls) {
  options_.ssl_keyfile = (folder_ / "key.pem").string();
  options_.ssl_certfile = (folder_ / "cert.pem").string();
  make_certificate(options_.ssl_keyfile, options_.ssl_certfile);
  options_.limits.header_timeout = std::chrono::milliseconds(1000);
  start();
  EXPECT_EQ(server_->url().rfind("https://127.0.0.1:", 0), 0u);
  const std::string body(300'000, 'x');
  const std::string bytes = post_bytes("/echo", body, "Connection: close\r\n");
  for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    const std::string reply = ask_tls(port(), version, bytes);
    EXPECT_EQ(reply.rfind("HTTP/1.1 200 OK\r\n", 0), 0u);
    EXPECT_NE(reply.find(body), std::string::npos);
  }
  EXPECT_EQ(ask_tls(port(), TLS1_1_VERSION, bytes), "");
  RawClient plain = client();
  plain.send(get_bytes("/echo"));
  EXPECT_EQ(plain.reply().status, 0);
  EXPECT_TRUE(plain.ended());
  RawClient silent = client();
  EXPECT_TRUE(silent.ended());  // the handshake has a time as well
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpAuth, BadTlsFilesAreNamed) {
  options_.ssl_keyfile = (folder_ / "key.pem").string();
  EXPECT_FALSE(HttpServer::start(options_, {}).ok());  // no certificate
  options_.ssl_certfile = (folder_ / "cert.pem").string();
  make_certificate(options_.ssl_keyfile, options_.ssl_certfile);
  const std::string other = (folder_ / "other.pem").string();
  make_certificate(other, (folder_ / "unused.pem").string());
  options_.ssl_keyfile = other;
  auto started = HttpServer::start(options_, {});
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.status().message().find("other.pem"), std::string::npos);
  options_.ssl_certfile = file("text.pem", "not a certificate");
  started = HttpServer::start(options_, {});
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.status().message().find("text.pem"), std::string::npos);
}

}  // namespace
}  // namespace liquidgemm::testing
