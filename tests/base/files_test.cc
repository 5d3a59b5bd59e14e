#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/file_reader.h"
#include "base/mapped_file.h"

namespace liquidgemm {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  Files() {
    std::string pattern = testing::TempDir() + "/liquidgemm-files-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Files() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string text_of(const std::string& name) const {
    auto text = read_text_file(path(name), 1 << 20);
    return text.ok() ? *text : text.status().to_string();
  }
  int entries() const {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      (void)entry;
      ++count;
    }
    return count;
  }

  std::string folder_;
};

TEST_F(Files, AnAtomicFileAppearsWholeOrNotAtAll) {
  ASSERT_TRUE(write_file_atomically(path("a"), "old").ok());
  {
    auto file = AtomicFile::create(path("a"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->append("half of the n").ok());
    EXPECT_EQ(text_of("a"), "old");
    // Given up here.
  }
  EXPECT_EQ(text_of("a"), "old");
  EXPECT_EQ(entries(), 1) << "a temporary file was left behind";
  ASSERT_TRUE(write_file_atomically(path("a"), "new").ok());
  EXPECT_EQ(text_of("a"), "new");
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, RangesMayBeWrittenFromSeveralThreads) {
  auto file = AtomicFile::create(path("a"));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->reserve(4000).ok());
  std::vector<std::thread> writers;
  for (int part = 3; part >= 0; --part) {
    writers.emplace_back([&, part] {
      const std::vector<std::byte> bytes(1000, std::byte(static_cast<unsigned char>('a' + part)));
      EXPECT_TRUE(file->write_at(static_cast<std::uint64_t>(part) * 1000, bytes).ok());
    });
  }
  for (std::thread& writer : writers) writer.join();
  ASSERT_TRUE(file->commit().ok());
  std::string expected;
  for (const char c : {'a', 'b', 'c', 'd'}) expected += std::string(1000, c);
  EXPECT_EQ(text_of("a"), expected);
}

TEST_F(Files, AFullDiskIsAnErrorThatChangesNothing) {
  ASSERT_TRUE(write_file_atomically(path("a"), "old").ok());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 100;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = write_file_atomically(path("a"), std::string(1000, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find(path("a")), std::string::npos);
  EXPECT_EQ(text_of("a"), "old");
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, AFolderThatIsNotThereIsNamed) {
  const Status status = write_file_atomically(path("none/a"), "x");
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("none/a"), std::string::npos);
}

TEST_F(Files, MappedBytesAreTheFilesAndSurviveRelease) {
  std::string content(3 * 4096 + 17, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  ASSERT_TRUE(write_file_atomically(path("a"), content).ok());
  auto mapped = MappedFile::open(path("a"));
  ASSERT_TRUE(mapped.ok());
  MappedFile moved = std::move(*mapped);
  ASSERT_EQ(moved.bytes().size(), content.size());
  moved.release(0, content.size());
  moved.release(5000, 1u << 30);
  moved.release(1u << 30, 5);
  EXPECT_EQ(std::memcmp(moved.bytes().data(), content.data(), content.size()), 0);
  ASSERT_TRUE(write_file_atomically(path("empty"), "").ok());
  auto empty = MappedFile::open(path("empty"));
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE(empty->bytes().empty());
}

TEST_F(Files, WhatIsNoRegularFileIsRefusedWithoutHanging) {
  EXPECT_EQ(MappedFile::open(path("none")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(MappedFile::open(folder_).status().code(), StatusCode::kInvalidArgument);
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::open(path("pipe")).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(read_text_file(path("pipe"), 10).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(Files, AReaderReadsAnywhereAndNotBeyondTheEnd) {
  std::string content(10'000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  ASSERT_TRUE(write_file_atomically(path("a"), content).ok());
  auto reader = FileReader::open(path("a"));
  ASSERT_TRUE(reader.ok());
  FileReader moved = std::move(*reader);
  EXPECT_EQ(moved.size(), content.size());
  std::string part(4000, '\0');
  const auto into = std::as_writable_bytes(std::span(part.data(), part.size()));
  ASSERT_TRUE(moved.read_at(5000, into).ok());
  EXPECT_EQ(part, content.substr(5000, 4000));
  EXPECT_TRUE(moved.read_at(10'000, into.first(0)).ok());
  EXPECT_EQ(moved.read_at(6001, into).code(), StatusCode::kCorrupt);
  // A file that is cut while it is read is an error, not a signal.
  ASSERT_EQ(::truncate(path("a").c_str(), 100), 0);
  EXPECT_EQ(moved.read_at(0, into).code(), StatusCode::kCorrupt);
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(FileReader::open(path("pipe")).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(FileReader::open(path("none")).status().code(), StatusCode::kNotFound);
}

TEST_F(Files, WritersOfOneFileInOneProcessDoNotMeet) {
  std::vector<std::thread> writers;
  for (int i = 0; i < 8; ++i) {
    writers.emplace_back([&, i] {
      EXPECT_TRUE(
          write_file_atomically(path("a"), std::string(3000, static_cast<char>('a' + i))).ok());
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string text = text_of("a");
  EXPECT_EQ(text, std::string(3000, text[0]));
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, TextIsReadUpToALimit) {
  ASSERT_TRUE(write_file_atomically(path("a"), "12345").ok());
  EXPECT_EQ(*read_text_file(path("a"), 5), "12345");
  EXPECT_EQ(read_text_file(path("a"), 4).status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace liquidgemm
