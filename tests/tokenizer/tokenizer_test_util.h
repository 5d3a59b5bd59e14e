// What the tokenizer's tests share: the golden files, and a way to write specs by hand.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

inline std::string read_data(const std::string& name) {
  const std::string path = std::string(LIQUIDGEMM_TEST_DATA) + "/tokenizer/" + name;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

inline std::string string_of(const json::Value& value) {
  const auto& text = value.as_string();
  return {text.data(), text.size()};
}

// strings.jsonl: a text, or {"hex": bytes that need not be UTF-8}.
inline std::vector<std::string> golden_strings() {
  std::vector<std::string> strings;
  for (const std::string& line : lines_of(read_data("strings.jsonl"))) {
    // A list around it, so that the parser sees a document of a kind it always takes.
    const auto parsed = json::parse("[" + line + "]", "strings.jsonl");
    EXPECT_TRUE(parsed.ok()) << parsed.status().to_string();
    const json::Value& entry = (*parsed).as_array()[0];
    if (entry.is_string()) {
      strings.push_back(string_of(entry));
      continue;
    }
    const std::string hex = string_of(entry.as_object().at("hex"));
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    strings.push_back(bytes);
  }
  return strings;
}

inline std::string ids_text(const std::vector<TokenId>& ids) {
  std::string text;
  for (const TokenId id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text;
}

inline TokenizerSpec load_spec(const std::string& name) {
  auto spec = parse_tokenizer_json(read_data(name + ".tokenizer.json"), name);
  EXPECT_TRUE(spec.ok()) << spec.status().to_string();
  return spec.ok() ? std::move(*spec) : TokenizerSpec{};
}

inline Tokenizer load_tokenizer(const std::string& name) {
  auto tokenizer = Tokenizer::build(load_spec(name), name);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  return std::move(*tokenizer);
}

// The 256 bytes under the ids 0..255, and no merges.
inline TokenizerSpec byte_spec() {
  TokenizerSpec spec;
  for (int b = 0; b < 256; ++b) {
    spec.vocabulary.push_back(alphabet_text_of_bytes(std::string(1, static_cast<char>(b))));
  }
  return spec;
}

// A generator whose seed is printed when the test fails.
class RandomTest : public testing::Test {
 protected:
  RandomTest()
      : seed_(std::random_device{}()),
        trace_(__FILE__, __LINE__, seed_text(seed_)),
        random_(seed_) {}
  static std::string seed_text(unsigned seed) { return "seed " + std::to_string(seed); }
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }

 private:
  unsigned seed_;
  testing::ScopedTrace trace_;

 protected:
  std::mt19937 random_;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace liquidgemm
