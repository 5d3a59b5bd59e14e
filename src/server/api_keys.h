// The keys that open the server, kept as digests.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::server {

class ApiKeys {
 public:
  // 1 to kMaxKey visible ASCII characters. The message does not repeat the key.
  Status add(std::string_view key);
  // One key a line; empty lines and those that begin with # are passed over. A file without a key
  // is an error: it was meant to close the server.
  Status add_file(const std::string& path);

  bool empty() const { return digests_.empty(); }
  std::size_t size() const { return digests_.size(); }

  // Whether the value of an Authorization field is "Bearer KEY" with one of the keys. Takes the
  // same time whichever key it is and however much of it is right.
  bool allows(std::string_view authorization) const;

 private:
  static constexpr std::size_t kMaxKey = 1024;
  static constexpr std::size_t kMaxKeys = 10'000;
  using Digest = std::array<std::uint8_t, 32>;
  static Digest digest(std::string_view text);

  std::vector<Digest> digests_;
};

}  // namespace liquidgemm::server
