// Files that appear whole or not at all: written beside their place, flushed to disk, renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "liquidgemm/status.h"

namespace liquidgemm {

class AtomicFile {
 public:
  // Creates "path.tmp-<pid>-<number>" in the same folder. A full disk shows as kResourceExhausted
  // here, in write_at or in commit; the destination is untouched in every case.
  static Result<AtomicFile> create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  // Removes the temporary file unless commit() succeeded.
  ~AtomicFile();

  // Reserves the whole length at once, so that a full disk is known before hours of work.
  Status reserve(std::uint64_t bytes);
  // Safe from several threads at once on ranges that do not overlap.
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  Status append(std::string_view text);
  // fsync, close, rename over the destination, fsync the folder.
  Status commit();

 private:
  AtomicFile() = default;
  void discard();

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  std::uint64_t end_ = 0;
};

Status write_file_atomically(const std::string& path, std::string_view text);

}  // namespace liquidgemm
