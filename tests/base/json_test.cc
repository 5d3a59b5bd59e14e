#include "base/json.h"

#include <gtest/gtest.h>

namespace liquidgemm::json {
namespace {

TEST(Json, RefusesWhatLies) {
  for (const char* text : {"", "{", "{\"a\":1}x", "{\"a\":1,\"a\":2}", "[1e999]", "[-1e999]",
                           "{\"a\":{\"b\":1,\"b\":1}}", "[\"\xff\"]", "nul", "[1,]"}) {
    const auto result = parse(text, "file.json");
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_EQ(result.status().code(), StatusCode::kCorrupt);
    EXPECT_EQ(result.status().message().rfind("file.json: ", 0), 0u);
  }
  EXPECT_TRUE(parse("{\"a\":[1,2,{\"b\":null}]} \n", "f").ok());
}

TEST(Json, DepthAndSizeAreLimited) {
  const std::string deep(1000, '[');
  EXPECT_FALSE(parse(deep, "f").ok());
  Limits limits;
  limits.max_bytes = 4;
  EXPECT_EQ(parse("[1,2]", "f", limits).status().code(), StatusCode::kResourceExhausted);
}

TEST(Json, ReaderNamesTheField) {
  const auto value =
      parse(R"({"n": 3, "f": 1.5, "s": "x", "o": {"big": 4294967296}, "z": null})", "c.json");
  ASSERT_TRUE(value.ok());
  const Reader reader(value->get_object(), "c.json");
  EXPECT_EQ(*reader.required_int("n", 1, 3), 3);
  EXPECT_EQ(reader.required_int("n", 1, 2).status().message(),
            "c.json: field \"n\": expected a whole number from 1 to 2, found 3");
  EXPECT_EQ(reader.required_int("s", 1, 2).status().message(),
            "c.json: field \"s\": expected a whole number from 1 to 2, found a string");
  EXPECT_EQ(reader.required_int("none", 1, 2).status().message(),
            "c.json: field \"none\" is missing");
  EXPECT_FALSE(reader.required_int("f", 0, 9).ok());
  EXPECT_FALSE(reader.optional_string("z")->has_value());
  EXPECT_EQ(*reader.required_number("n", 0, 10), 3.0);
  const auto object = reader.required_object("o");
  ASSERT_TRUE(object.ok());
  const Reader inner(**object, "c.json", "o");
  EXPECT_EQ(inner.required_int("big", 0, 100).status().message(),
            "c.json: field \"o.big\": expected a whole number from 0 to 100, found 4294967296");
}

TEST(Json, PrettyTextReadsBack) {
  const auto value = parse(R"({"a":[1,2.5,"x\n"],"b":{},"c":[]})", "f");
  ASSERT_TRUE(value.ok());
  const auto again = parse(dump_pretty(*value), "f");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, *value);
}

}  // namespace
}  // namespace liquidgemm::json
