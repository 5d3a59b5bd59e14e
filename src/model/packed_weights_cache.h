// The packed weights of a model in one file, so that the next start reads instead of packing.
//
// They are read into memory of the process's own, not mapped: it lies in huge pages on every
// system, and what was checked cannot change or go away under a running model.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_reader.h"
#include "base/thread_pool.h"
#include "gemm/gemm.h"
#include "gemm/packed.h"
#include "model/checkpoint/model_source.h"
#include "model/packed_weights_header.h"

namespace liquidgemm {

class PackedWeightsCache {
 public:
  // A file that is there but does not fit is named in one warning, and replaced by save.
  PackedWeightsCache(std::string path, const PackedWeightsKey& key);

  const std::string& path() const { return path_; }

  // The next matrix, in the order in which save had them: `parts`, of which only the shapes are
  // looked at, stacked along N. Null: it must be packed.
  std::unique_ptr<CpuLinear> next(std::span<const WeightView> parts, ThreadPool& pool,
                                  HugePageMemory* memory);

  // Every matrix came from the file, and the file has no others.
  bool complete() const { return file_ && !missed_ && next_ == header_.matrices.size(); }

  // Writes the file anew, beside its place, and renames it: whole or not at all, also when two
  // processes do it at once.
  Status save(std::span<const CpuLinear* const> matrices, ThreadPool& pool) const;

 private:
  Status open();
  Result<std::unique_ptr<CpuLinear>> read(const PackedMatrixEntry& entry, std::uint64_t index,
                                          std::span<const WeightView> parts, ThreadPool& pool,
                                          HugePageMemory* memory) const;
  void warn(const Status& reason) const;

  std::string path_;
  PackedWeightsKey key_;
  std::optional<FileReader> file_;  // none: nothing to read
  PackedWeightsHeader header_;
  std::size_t next_ = 0;
  bool missed_ = false;
};

// The file's name says precision and instruction set, so that runs that differ in them do not
// replace each other's. It lies in the model's folder; for a model that is one file, in
// `other_folder`, its name then begins with the model's and has the fingerprint.
std::string packed_weights_path(const std::string& model_path, const std::string& other_folder,
                                const PackedWeightsKey& key);

}  // namespace liquidgemm
