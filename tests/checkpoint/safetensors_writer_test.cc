#include "model/checkpoint/safetensors_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <random>

#include "base/thread_pool.h"
#include "checkpoint/file_builders.h"
#include "model/checkpoint/safetensors_source.h"

namespace liquidgemm {
namespace {

using testing::TempFolder;

TensorInfo info(const std::string& name, DType dtype, const Shape& shape) {
  return {name, dtype, shape, *tensor_bytes(dtype, shape)};
}

TEST(SafetensorsWriter, ReaderGetsBackWhatThreadsWroteInAnyOrder) {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  // Odd byte counts in front of wider elements: only the order in the file keeps those aligned.
  const std::vector<TensorInfo> tensors = {
      info("odd.bytes", DType::kU8, {7, 3}), info("signed", DType::kI8, {5}),
      info("scale", DType::kF32, {9}),       info("half", DType::kF16, {3, 5}),
      info("norm", DType::kBF16, {11}),      info("empty", DType::kF32, {0, 4}),
      info("quote\"name", DType::kF32, {2})};
  std::vector<std::string> values;
  for (const TensorInfo& tensor : tensors) {
    std::string bytes(static_cast<std::size_t>(tensor.bytes), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    values.push_back(bytes);
  }
  const TempFolder folder;
  const std::string path = folder.file("model.safetensors");
  auto writer = SafetensorsWriter::create(path, tensors);
  ASSERT_TRUE(writer.ok()) << writer.status().to_string();
  struct Piece {
    std::size_t tensor;
    std::size_t at;
  };
  std::vector<Piece> pieces;
  for (std::size_t tensor = 0; tensor < tensors.size(); ++tensor) {
    for (std::size_t at = 0; at < values[tensor].size(); ++at) pieces.push_back({tensor, at});
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  ThreadPool pool(3);
  std::atomic<int> failures{0};
  pool.parallel_for(
      static_cast<std::int64_t>(pieces.size()), 1, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
          const Piece& piece = pieces[static_cast<std::size_t>(i)];
          const auto byte = testing::as_bytes(values[piece.tensor]).subspan(piece.at, 1);
          const auto at = static_cast<std::int64_t>(piece.at);
          if (!writer->write(piece.tensor, at, byte).ok()) ++failures;
        }
      });
  EXPECT_EQ(failures, 0);
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->commit().ok());
  EXPECT_EQ(std::filesystem::file_size(path), SafetensorsWriter::file_bytes(tensors));

  const auto source = open_safetensors_folder(folder.path());
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  EXPECT_EQ((*source)->tensors().size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo* found = (*source)->find(tensors[i].name);
    ASSERT_NE(found, nullptr) << tensors[i].name;
    EXPECT_EQ(found->dtype, tensors[i].dtype);
    EXPECT_EQ(found->shape, tensors[i].shape);
    const auto bytes = (*source)->bytes(tensors[i].name);
    ASSERT_TRUE(bytes.ok());
    EXPECT_TRUE(std::ranges::equal(*bytes, testing::as_bytes(values[i])));
    const auto width = static_cast<std::uintptr_t>(dtype_block_bytes(tensors[i].dtype));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes->data()) % width, 0u) << tensors[i].name;
  }
}

TEST(SafetensorsWriter, RefusesWritesOutsideATensor) {
  const TempFolder folder;
  auto writer = SafetensorsWriter::create(folder.file("model.safetensors"),
                                          {info("a", DType::kU8, {4}), info("b", DType::kU8, {4})});
  ASSERT_TRUE(writer.ok());
  const std::string bytes = "12345";
  EXPECT_FALSE(writer->write(0, 0, testing::as_bytes(bytes)).ok());
  EXPECT_FALSE(writer->write(0, 4, testing::as_bytes(bytes).first(1)).ok());
  EXPECT_FALSE(writer->write(1, -1, testing::as_bytes(bytes).first(1)).ok());
  EXPECT_TRUE(writer->write(1, 0, testing::as_bytes(bytes).first(4)).ok());
}

TEST(SafetensorsWriter, LeavesNothingBehindWithoutCommit) {
  const TempFolder folder;
  {
    auto writer =
        SafetensorsWriter::create(folder.file("model.safetensors"), {info("a", DType::kU8, {4})});
    ASSERT_TRUE(writer.ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  TensorInfo wrong = info("a", DType::kF32, {4});
  wrong.bytes = 15;
  EXPECT_FALSE(SafetensorsWriter::create(folder.file("model.safetensors"), {wrong}).ok());
}

}  // namespace
}  // namespace liquidgemm
