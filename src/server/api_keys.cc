#include "server/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <fstream>

#include "base/status_macros.h"

namespace liquidgemm::server {
namespace {

constexpr std::string_view kScheme = "bearer ";

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

}  // namespace

ApiKeys::Digest ApiKeys::digest(std::string_view text) {
  Digest digest;
  ::SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

Status ApiKeys::add(std::string_view key) {
  if (key.empty()) return invalid_argument("an API key is empty");
  if (key.size() > kMaxKey) {
    return invalid_argument("an API key is longer than " + std::to_string(kMaxKey) + " characters");
  }
  if (!std::all_of(key.begin(), key.end(), [](char c) { return c > 0x20 && c < 0x7f; })) {
    return invalid_argument("an API key may hold visible ASCII characters only, no spaces");
  }
  if (digests_.size() >= kMaxKeys) {
    return resource_exhausted("more than " + std::to_string(kMaxKeys) + " API keys");
  }
  digests_.push_back(digest(key));
  return ok_status();
}

Status ApiKeys::add_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return io_error(path + ": cannot read the file of API keys");
  std::string line;
  std::size_t number = 0;
  std::size_t found = 0;
  while (std::getline(file, line)) {
    ++number;
    const std::string_view key = trimmed(line);
    if (key.empty() || key[0] == '#') continue;
    LIQUIDGEMM_RETURN_IF_ERROR(add(key).with_context(path + ": line " + std::to_string(number)));
    ++found;
  }
  if (file.bad()) return io_error(path + ": cannot read the file of API keys");
  if (found == 0) return invalid_argument(path + ": holds no API key; expected one a line");
  return ok_status();
}

bool ApiKeys::allows(std::string_view authorization) const {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  if (authorization.size() < kScheme.size()) return false;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    if (lower(authorization[i]) != kScheme[i]) return false;
  }
  const Digest given = digest(trimmed(authorization.substr(kScheme.size())));
  int matches = 0;
  for (const Digest& key : digests_) {
    matches |= static_cast<int>(::CRYPTO_memcmp(key.data(), given.data(), given.size()) == 0);
  }
  return matches != 0;
}

}  // namespace liquidgemm::server
