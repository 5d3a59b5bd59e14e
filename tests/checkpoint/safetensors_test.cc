#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "checkpoint/file_builders.h"
#include "model/checkpoint/safetensors.h"
#include "model/checkpoint/safetensors_source.h"

namespace liquidgemm {
namespace {

using testing::as_bytes;
using testing::float_tensor;
using testing::random_tensor;
using testing::raw;
using testing::safetensors_file;
using testing::TempFolder;
using testing::TestTensor;

void expect_error(const Status& status, const std::string& text,
                  StatusCode code = StatusCode::kCorrupt) {
  EXPECT_EQ(status.code(), code) << status.to_string();
  EXPECT_NE(status.message().find(text), std::string::npos)
      << status.to_string() << "\n  should mention: " << text;
}

Status parse(const std::string& file) {
  return parse_safetensors(as_bytes(file), "a.safetensors").status();
}

// One F32 tensor "w" with the given parts, over `bytes` bytes of data.
Status parse_entry(const std::string& entry, std::size_t bytes = 16) {
  return parse(safetensors_file("{\"w\":" + entry + "}", std::string(bytes, '\0')));
}

TEST(Safetensors, ReadsTensorsInFileOrder) {
  const std::string header = R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[5,13]},)"
                             R"("__metadata__":{"format":"pt"},)"
                             R"("a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},)"
                             R"("empty":{"dtype":"F32","shape":[0,7],"data_offsets":[5,5]}}   )";
  const std::string file = safetensors_file(header, std::string(13, 'x'));
  const auto tensors = parse_safetensors(as_bytes(file), "a.safetensors");
  ASSERT_TRUE(tensors.ok()) << tensors.status().to_string();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].info.name, "a");
  EXPECT_EQ((*tensors)[0].begin, 8 + header.size());
  EXPECT_EQ((*tensors)[1].info.name, "empty");
  EXPECT_EQ((*tensors)[2].info.name, "b");
  EXPECT_EQ((*tensors)[2].info.bytes, 8);
  EXPECT_EQ((*tensors)[2].info.shape, Shape{2});
}

TEST(Safetensors, RefusesLyingHeaders) {
  expect_error(parse(""), "too few");
  expect_error(parse("1234567"), "too few");
  for (std::uint64_t length : {std::uint64_t{1} << 63, ~std::uint64_t{0}, std::uint64_t{3}}) {
    expect_error(parse(raw(length) + "{}"), "claims " + std::to_string(length));
  }
  expect_error(parse(raw<std::uint64_t>(0) + "{}"), "0 bytes long");
  expect_error(parse(safetensors_file("[]", "")), "does not begin");
  expect_error(parse(safetensors_file("{\"a\":", "")), "header");
  expect_error(parse(safetensors_file("{\"\xff\":1}", "")), "header");
  expect_error(parse(safetensors_file("{\"w\":1,\"w\":2}", "")), "twice");
  EXPECT_FALSE(parse(safetensors_file("{\"a\":" + std::string(100000, '['), "")).ok());
  expect_error(parse(safetensors_file("{\"__metadata__\":{\"a\":1}}", "")), "__metadata__");
  expect_error(parse(safetensors_file("{}", "abc")), "3 bytes at the end");
  const std::string large(kMaxSafetensorsHeader + 1, ' ');
  expect_error(parse(safetensors_file("{" + large, "")), "at most", StatusCode::kResourceExhausted);
}

TEST(Safetensors, RefusesLyingEntries) {
  const auto with = [](const std::string& dtype, const std::string& shape,
                       const std::string& offsets) {
    return "{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
  };
  const std::string f32 = "\"F32\"";
  ASSERT_TRUE(parse_entry(with(f32, "[2,2]", "[0,16]")).ok());
  expect_error(parse_entry("7"), "object");
  expect_error(parse_entry(with("7", "[4]", "[0,16]")), "dtype");
  expect_error(parse_entry(with("\"F8_E4M3\"", "[16]", "[0,16]")), "F8_E4M3",
               StatusCode::kUnsupported);
  expect_error(parse_entry(with(f32, "4", "[0,16]")), "shape");
  expect_error(parse_entry(with(f32, "[-4]", "[0,16]")), "shape");
  expect_error(parse_entry(with(f32, "[4.0]", "[0,16]")), "shape");
  expect_error(parse_entry(with(f32, "[1,1,1,1,1,1,1,1,4]", "[0,16]")), "shape");
  expect_error(parse_entry(with(f32, "[4294967296,4294967296]", "[0,16]")), "overflow");
  expect_error(parse_entry(with(f32, "[9223372036854775807]", "[0,16]")), "overflow");
  expect_error(parse_entry(with(f32, "[18446744073709551615]", "[0,16]")), "shape");
  expect_error(parse_entry(with(f32, "[4]", "[0]")), "data_offsets");
  expect_error(parse_entry(with(f32, "[4]", "[-16,0]")), "data_offsets");
  expect_error(parse_entry(with(f32, "[4]", "[16,0]")), "end before they begin");
  expect_error(parse_entry(with(f32, "[4]", "[0,17]")), "leave the file");
  expect_error(parse_entry(with(f32, "[4]", "[0,9223372036854775807]")), "leave the file");
  expect_error(parse_entry(with(f32, "[3]", "[0,16]")), "needs 12");
  expect_error(parse_entry(with("\"F16\"", "[4]", "[0,16]")), "needs 8");
  expect_error(parse_entry(with(f32, "[4]", "[0,16]"), 20), "4 bytes at the end");
  expect_error(parse_entry(with(f32, "[4]", "[4,20]"), 20), "belong to no tensor");
  expect_error(parse_entry(with(f32, "[4]", "[0,16]"), 15), "leave the file");
}

TEST(Safetensors, RefusesOverlapsAndGaps) {
  const auto two = [](const std::string& a, const std::string& b) {
    return parse(safetensors_file(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":)" + a +
                                      R"(},"b":{"dtype":"U8","shape":[8],"data_offsets":)" + b +
                                      "}}",
                                  std::string(16, '\0')));
  };
  EXPECT_TRUE(two("[0,8]", "[8,16]").ok());
  EXPECT_TRUE(two("[8,16]", "[0,8]").ok());
  expect_error(two("[0,8]", "[0,8]"), "overlap");
  expect_error(two("[0,8]", "[7,15]"), "overlap");
  expect_error(two("[8,16]", "[8,16]"), "belong to no tensor");
}

// Whatever the bytes, parsing ends with a result or one error; sanitizers watch the reads.
TEST(Safetensors, SurvivesRandomMutations) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string good = safetensors_file(std::vector<TestTensor>{
      random_tensor("model.a", {3, 5}, 1), random_tensor("model.b", {7}, 2)});
  ASSERT_TRUE(parse(good).ok());
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    for (unsigned i = 0; i <= random() % 4; ++i) {
      // Mostly in the header: mutated data is still good data.
      bad[random() % (random() % 8 == 0 ? bad.size() : 200)] = static_cast<char>(random());
    }
    if (random() % 4 == 0) bad.resize(random() % bad.size());
    const auto result = parse_safetensors(as_bytes(bad), "a.safetensors");
    if (!result.ok()) continue;
    ++accepted;
    for (const StoredTensor& tensor : *result) {
      ASSERT_LE(tensor.begin + static_cast<std::size_t>(tensor.info.bytes), bad.size());
    }
  }
  EXPECT_GT(accepted, 0);
}

TEST(Safetensors, ManyTensorsStayCheap) {
  std::vector<TestTensor> tensors;
  for (int i = 0; i < 100000; ++i) {
    tensors.push_back({"t" + std::to_string(i), DType::kU8, {1}, "x"});
  }
  TempFolder folder;
  folder.write("model.safetensors", safetensors_file(tensors));
  const auto source = open_safetensors_folder(folder.path());
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  EXPECT_EQ((*source)->tensors().size(), 100000u);
  EXPECT_NE((*source)->find("t99999"), nullptr);
}

TEST(SafetensorsSource, ReadsRowsOfMisalignedTensors) {
  TempFolder folder;
  // Three bytes before the floats: legal, and no float is aligned.
  folder.write("model.safetensors", safetensors_file(std::vector<TestTensor>{
                                        {"a", DType::kU8, {3}, "abc"},
                                        float_tensor("b", {3, 2}, {0, 1, 10, 11, 20, 21}),
                                        {"c", DType::kF16, {}, raw<std::uint16_t>(0x3C00)}}));
  const auto source = open_safetensors_folder(folder.path());
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  const TensorSource& tensors = **source;
  float out[4] = {-1, -1, -1, -1};
  ASSERT_TRUE(tensors.read_rows("b", 1, 2, out).ok());
  EXPECT_EQ(std::vector<float>(out, out + 4), (std::vector<float>{10, 11, 20, 21}));
  ASSERT_TRUE(tensors.read_rows("c", 0, 1, out).ok());
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_TRUE(tensors.read_rows("b", 3, 0, out).ok());
  const auto bytes = tensors.bytes("a");
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(std::memcmp(bytes->data(), "abc", 3), 0);
  tensors.release("b");  // reading still works
  ASSERT_TRUE(tensors.read_rows("b", 0, 1, out).ok());
  EXPECT_EQ(out[1], 1.0f);

  using S = StatusCode;
  expect_error(tensors.read_rows("b", 2, 2, out), "3 rows", S::kInvalidArgument);
  expect_error(tensors.read_rows("b", -1, 1, out), "3 rows", S::kInvalidArgument);
  expect_error(tensors.read_rows("b", INT64_MAX, 1, out), "3 rows", S::kInvalidArgument);
  expect_error(tensors.read_rows("b", 1, INT64_MAX, out), "3 rows", S::kInvalidArgument);
  expect_error(tensors.read_rows("a", 0, 1, out), "does not hold floats", S::kUnsupported);
  expect_error(tensors.read_rows("z", 0, 1, out), "no tensor", S::kNotFound);
}

class Shards : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.write("s1.safetensors", safetensors_file(std::vector{random_tensor("a", {4}, 1)}));
    folder_.write("s2.safetensors", safetensors_file(std::vector{random_tensor("b", {4}, 2)}));
  }
  // weight_map's body.
  Result<std::unique_ptr<StoredTensors>> open(const std::string& map) {
    folder_.write("model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
    return open_safetensors_folder(folder_.path());
  }
  TempFolder folder_;
};

TEST_F(Shards, AreReadTogether) {
  const auto source = open(R"("a":"s1.safetensors","b":"s2.safetensors")");
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  EXPECT_EQ((*source)->tensors().size(), 2u);
  EXPECT_EQ((*source)->stored_bytes(),
            static_cast<std::int64_t>(std::filesystem::file_size(folder_.file("s1.safetensors")) +
                                      std::filesystem::file_size(folder_.file("s2.safetensors"))));
}

TEST_F(Shards, MustAgreeWithTheIndex) {
  const auto error = [&](const std::string& map) { return open(map).status(); };
  expect_error(error(R"("a":"s1.safetensors","b":"s3.safetensors")"), "s3.safetensors",
               StatusCode::kNotFound);
  expect_error(error(R"("a":"s1.safetensors","b":"s1.safetensors")"), "\"b\" is not in");
  expect_error(error(R"("a":"s2.safetensors","b":"s2.safetensors")"), "\"a\" is not in");
  expect_error(error(R"("b":"s2.safetensors","a":"s1.safetensors","c":"s1.safetensors")"), "\"c\"");
  folder_.write("s2.safetensors", safetensors_file(std::vector{random_tensor("b", {4}, 2),
                                                               random_tensor("x", {4}, 2)}));
  expect_error(error(R"("a":"s1.safetensors","b":"s2.safetensors")"), "not listed");
  folder_.write("s2.safetensors", safetensors_file(std::vector{random_tensor("a", {4}, 2)}));
  expect_error(error(R"("a":"s1.safetensors","b":"s2.safetensors")"), "\"a\"");
  expect_error(error(R"("a":7)"), "weight_map");
  expect_error(error(R"("a":"model.bin")"), "model.bin");
  expect_error(error(""), "no tensors");
}

TEST_F(Shards, NeverLeaveTheFolder) {
  TempFolder outside;
  const std::string secret =
      outside.write("s1.safetensors", safetensors_file(std::vector{random_tensor("a", {4}, 1)}));
  for (const std::string& name :
       {"../" + outside.path().substr(outside.path().rfind('/') + 1) + "/s1.safetensors", secret,
        std::string("./s1.safetensors"), std::string("sub/s1.safetensors"),
        std::string("..\\\\s1.safetensors")}) {
    expect_error(open("\"a\":\"" + name + "\"").status(), "leaves the folder");
  }
  expect_error(open("\"a\":\"s1.safetensors\\u0000.safetensors\"").status(), "leaves the folder");
  std::filesystem::create_symlink(secret, folder_.file("link.safetensors"));
  expect_error(open(R"("a":"link.safetensors")").status(), "leaves the folder",
               StatusCode::kInvalidArgument);
  std::filesystem::create_symlink("s1.safetensors", folder_.file("inside.safetensors"));
  EXPECT_TRUE(open(R"("a":"inside.safetensors")").ok());
  std::filesystem::create_symlink("nowhere", folder_.file("dangling.safetensors"));
  expect_error(open(R"("a":"dangling.safetensors")").status(), "dangling", StatusCode::kNotFound);
  std::filesystem::create_directory(folder_.file("folder.safetensors"));
  EXPECT_FALSE(open(R"("a":"folder.safetensors")").ok());
}

// models--org--name/snapshots/<revision>/model.safetensors -> ../../blobs/<hash>
TEST(SafetensorsSource, FollowsTheLinksOfHuggingFacesCache) {
  TempFolder cache;
  const std::filesystem::path model = cache.file("models--org--name");
  std::filesystem::create_directories(model / "blobs");
  std::filesystem::create_directories(model / "snapshots" / "abc");
  std::ofstream(model / "blobs" / "123", std::ios::binary)
      << safetensors_file(std::vector{random_tensor("a", {4}, 1)});
  std::filesystem::create_symlink("../../blobs/123",
                                  model / "snapshots" / "abc" / "model.safetensors");
  const auto source = open_safetensors_folder((model / "snapshots" / "abc").string() + "/");
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  EXPECT_NE((*source)->find("a"), nullptr);
}

TEST(SafetensorsSource, SaysWhatIsThereInstead) {
  TempFolder folder;
  const auto error = [&] { return open_safetensors_folder(folder.path()).status(); };
  expect_error(error(), "model.safetensors", StatusCode::kNotFound);
  folder.write("model.gguf", "");
  expect_error(error(), "model.gguf", StatusCode::kNotFound);
  folder.write("pytorch_model.bin", "");
  std::filesystem::remove(folder.file("model.gguf"));
  expect_error(error(), "convert it to safetensors", StatusCode::kUnsupported);
  folder.write("model.safetensors", "");
  expect_error(error(), "too few");
  expect_error(open_safetensors_folder(folder.file("nothing")).status(), "nothing",
               StatusCode::kNotFound);
  expect_error(open_safetensors_folder(folder.file("model.safetensors")).status(), "not a folder",
               StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace liquidgemm
