#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <numeric>

#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

std::vector<TokenId> page_of(TokenId first) {
  std::vector<TokenId> tokens(kPageTokens);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(PrefixCache, FindsAPageOnlyAfterTheSamePrefix) {
  PrefixCache cache(8, "model", PrefixCache::random_hash());
  const auto a = page_of(0), b = page_of(100);
  const std::uint64_t root = cache.root_hash("");
  const std::uint64_t after_a = cache.page_hash(root, a);
  const std::uint64_t after_b = cache.page_hash(root, b);
  const PrefixCache::Key first{.hash = after_a, .parent = -1, .tokens = a, .salt = ""};
  EXPECT_FALSE(cache.find(first));
  EXPECT_TRUE(cache.insert(first, 3));
  EXPECT_EQ(cache.find(first), 3);

  const PrefixCache::Key second{
      .hash = cache.page_hash(after_a, b), .parent = 3, .tokens = b, .salt = ""};
  EXPECT_TRUE(cache.insert(second, 5));
  EXPECT_EQ(cache.find(second), 5);
  EXPECT_EQ(cache.size(), 2);

  // The same tokens after another prefix, or at the beginning.
  EXPECT_FALSE(cache.find({.hash = after_b, .parent = -1, .tokens = b, .salt = ""}));
  EXPECT_FALSE(
      cache.find({.hash = cache.page_hash(after_b, b), .parent = -1, .tokens = b, .salt = ""}));

  cache.forget(5);
  EXPECT_FALSE(cache.find(second));
  EXPECT_EQ(cache.find(first), 3);
}

TEST(PrefixCache, HashesDependOnKeyScopeSaltAndPrefix) {
  const auto tokens = page_of(7);
  const PrefixCache::Hash hash = PrefixCache::random_hash();
  const auto of = [&](const PrefixCache::Hash& with, std::string_view scope,
                      std::string_view salt) {
    const PrefixCache cache(1, scope, with);
    return cache.page_hash(cache.root_hash(salt), tokens);
  };
  const std::uint64_t one = of(hash, "model\nf16", "salt");
  EXPECT_EQ(of(hash, "model\nf16", "salt"), one);
  EXPECT_NE(of(hash, "model\nint8", "salt"), one);
  EXPECT_NE(of(hash, "model\nf16", "other"), one);
  EXPECT_NE(of(hash, "model\nf16", ""), one);
  EXPECT_NE(of(PrefixCache::random_hash(), "model\nf16", "salt"), one);
  const PrefixCache cache(1, "model\nf16", hash);
  EXPECT_NE(cache.page_hash(one, tokens), one);
}

// The hash only finds a candidate. With one hash for everything nothing is mixed up.
TEST(PrefixCache, ACollisionIsNoHit) {
  PrefixCache cache(8, "", [](std::uint64_t, std::span<const std::byte>) { return 1; });
  const auto a = page_of(0);
  const PrefixCache::Key first{.hash = 1, .parent = -1, .tokens = a, .salt = "mine"};
  ASSERT_TRUE(cache.insert(first, 0));
  EXPECT_EQ(cache.find(first), 0);
  for (std::size_t changed = 0; changed < kPageTokens; ++changed) {
    auto other = a;
    ++other[changed];
    const PrefixCache::Key key{.hash = 1, .parent = -1, .tokens = other, .salt = "mine"};
    EXPECT_FALSE(cache.find(key)) << "token " << changed;
    EXPECT_FALSE(cache.insert(key, 1)) << "there is one page for one hash";
  }
  EXPECT_FALSE(cache.find({.hash = 1, .parent = -1, .tokens = a, .salt = "yours"}));
  EXPECT_FALSE(cache.find({.hash = 1, .parent = -1, .tokens = a, .salt = ""}));
  EXPECT_FALSE(cache.find({.hash = 1, .parent = 0, .tokens = a, .salt = "mine"}));
  EXPECT_EQ(cache.find(first), 0);
}

// A page that hung on one that was forgotten is not found again when the number of the forgotten
// page stands for another text.
TEST(PrefixCache, APageThatIsUsedAgainIsAnotherParent) {
  PrefixCache cache(8, "", [](std::uint64_t parent, std::span<const std::byte> added) {
    return parent + static_cast<std::uint64_t>(added[0]) + 1;
  });
  const auto a = page_of(1), b = page_of(2);
  auto a2 = a;
  a2.back() = 0;
  ASSERT_TRUE(cache.insert({.hash = 10, .parent = -1, .tokens = a, .salt = ""}, 0));
  ASSERT_TRUE(cache.insert({.hash = 11, .parent = 0, .tokens = b, .salt = ""}, 1));
  cache.forget(0);
  ASSERT_TRUE(cache.insert({.hash = 10, .parent = -1, .tokens = a2, .salt = ""}, 0));
  EXPECT_FALSE(cache.find({.hash = 11, .parent = 0, .tokens = b, .salt = ""}));
}

}  // namespace
}  // namespace liquidgemm
