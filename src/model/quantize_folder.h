// The folder in which a checkpoint grows until it is complete.
//
//   OUT.partial/   quantize-state.json   which shards are finished, and of what
//                  model-00001-of-00004.safetensors, ...
//
// The folder is locked (flock) as long as this object lives, so two runs cannot mix their work.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm {

// What the report needs to know of a module whose shard an earlier run finished.
struct ModuleErrors {
  double squared_error = 0;
  double squared_norm = 0;
};

struct FinishedShard {
  std::uint64_t file_bytes = 0;
  std::map<std::string, ModuleErrors> modules;
};

class QuantizeFolder {
 public:
  // Checks that OUT may be written (absent, an empty folder, or with `overwrite` a LiquidQuant
  // checkpoint and nothing else), makes and locks OUT.partial, and keeps the finished shards in it
  // if they are of the same `fingerprint`.
  static Result<QuantizeFolder> open(const std::string& out, bool overwrite,
                                     const std::string& fingerprint);

  QuantizeFolder(QuantizeFolder&& other) noexcept;
  QuantizeFolder& operator=(QuantizeFolder&& other) noexcept;
  // Unlocks; removes OUT.partial if it holds nothing that a later run could use.
  ~QuantizeFolder();

  const std::string& out() const { return out_; }  // absolute, without links
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  const std::map<std::string, FinishedShard>& finished() const { return finished_; }
  Status add_finished(const std::string& name, FinishedShard shard);

  // Enough room for `bytes` more? Reservations may still fail; this says it before any work.
  Status check_space(std::uint64_t bytes) const;

  // OUT.partial becomes OUT in one step; what OUT was before is removed after that.
  Status publish();

 private:
  QuantizeFolder() = default;
  Status prepare();
  Status lock();
  void load_state();
  Status write_state() const;
  Status remove_unfinished() const;

  std::string out_;
  std::string path_;
  std::string fingerprint_;
  bool overwrite_ = false;
  bool prepared_ = false;  // what is in OUT.partial is ours to remove
  int lock_ = -1;
  std::map<std::string, FinishedShard> finished_;
};

}  // namespace liquidgemm
