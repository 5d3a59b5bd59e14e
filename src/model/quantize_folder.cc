#include "model/quantize_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "model/packed_weights_header.h"
#include "model/quantize_files.h"

namespace liquidgemm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "quantize-state.json";
constexpr std::size_t kMaxState = 64u << 20;

Status system_error(const std::string& path, const char* what, int error) {
  const std::string message = path + ": cannot " + what + ": " + std::strerror(error);
  return error == ENOSPC || error == EDQUOT ? resource_exhausted(message) : io_error(message);
}

bool is_empty_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error) && fs::is_empty(path, error) && !error;
}

// The names in a folder; an error when one of them is no plain file.
Result<std::vector<std::string>> plain_files(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    names.push_back(entries->path().filename().string());
    if (!fs::is_regular_file(entries->symlink_status(error))) {
      return invalid_argument(folder + ": holds " + names.back() +
                              ", which is no file of a checkpoint; choose another folder");
    }
  }
  if (error) return io_error(folder + ": cannot list: " + error.message());
  return names;
}

bool is_liquid_checkpoint(const std::string& folder) {
  const auto value = json::parse_file(folder + "/config.json");
  if (!value.ok()) return false;
  const json::Object* config = value->if_object();
  const json::Value* quantization =
      config == nullptr ? nullptr : config->if_contains("quantization_config");
  const json::Object* object = quantization == nullptr ? nullptr : quantization->if_object();
  const json::Value* method = object == nullptr ? nullptr : object->if_contains("quant_method");
  return method != nullptr && method->is_string() && method->get_string() == "liquidquant";
}

// Replacing means deleting: only what is certainly a checkpoint of ours, and nothing beside it.
Status check_out(const std::string& out, bool overwrite) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(out, error);
  if (!fs::exists(status) || is_empty_folder(out)) return ok_status();
  if (!fs::is_directory(status)) {
    return invalid_argument(out + ": is there already and is not a folder; choose another name");
  }
  if (!is_liquid_checkpoint(out)) {
    return invalid_argument(out +
                            ": is there already and is not a LiquidQuant checkpoint, so it "
                            "is never replaced; choose another folder");
  }
  if (!overwrite) {
    return invalid_argument(out +
                            ": a checkpoint is there already; choose another folder, or ask "
                            "for it to be replaced (--overwrite)");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<std::string> names, plain_files(out));
  for (const std::string& name : names) {
    // Packed weights are made from the checkpoint, again if need be.
    const bool packed = name.starts_with(kPackedWeightsPrefix);
    if (!is_checkpoint_file(name) && name != kState && !packed) {
      return invalid_argument(out + ": holds " + name +
                              " beside the checkpoint; move it away before replacing the folder");
    }
  }
  return ok_status();
}

void remove_files(const std::string& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder, error)) paths.push_back(entry.path());
  for (const fs::path& path : paths) fs::remove(path, error);
  fs::remove(folder, error);
}

Status sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return system_error(folder, "open", errno);
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // EINVAL: a file system that does not sync folders.
  return result == 0 || error == EINVAL ? ok_status() : system_error(folder, "flush", error);
}

std::string megabytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace

Result<QuantizeFolder> QuantizeFolder::open(const std::string& out, bool overwrite,
                                            const std::string& fingerprint) {
  if (out.empty()) return invalid_argument("quantize: the output folder has no name");
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(out, error), error);
  if (error) return io_error(out + ": " + error.message());
  if (!path.has_filename()) path = path.parent_path();
  if (!path.has_filename()) return invalid_argument(out + ": cannot be an output folder");
  QuantizeFolder folder;
  folder.out_ = path.string();
  folder.path_ = folder.out_ + ".partial";
  folder.fingerprint_ = fingerprint;
  folder.overwrite_ = overwrite;
  LIQUIDGEMM_RETURN_IF_ERROR(check_out(folder.out_, overwrite));
  fs::create_directories(path.parent_path(), error);
  if (error) return io_error(path.parent_path().string() + ": cannot create: " + error.message());
  LIQUIDGEMM_RETURN_IF_ERROR(folder.lock());
  // Another run may have finished between the first look and the lock.
  LIQUIDGEMM_RETURN_IF_ERROR(check_out(folder.out_, overwrite));
  LIQUIDGEMM_RETURN_IF_ERROR(folder.prepare());
  return folder;
}

QuantizeFolder::QuantizeFolder(QuantizeFolder&& other) noexcept { *this = std::move(other); }

QuantizeFolder& QuantizeFolder::operator=(QuantizeFolder&& other) noexcept {
  std::swap(out_, other.out_);
  std::swap(path_, other.path_);
  std::swap(fingerprint_, other.fingerprint_);
  std::swap(overwrite_, other.overwrite_);
  std::swap(prepared_, other.prepared_);
  std::swap(lock_, other.lock_);
  std::swap(finished_, other.finished_);
  return *this;
}

QuantizeFolder::~QuantizeFolder() {
  if (lock_ < 0) return;
  if (prepared_ && finished_.empty()) remove_files(path_);
  std::error_code error;
  if (!prepared_) fs::remove(path_, error);  // only if it is empty
  ::close(lock_);
}

// The lock is on the folder itself, so nothing is left behind. A run that finishes renames the
// folder away while another waits to lock it: look whether the name still leads to what was locked.
Status QuantizeFolder::lock() {
  for (int attempt = 0; attempt < 10; ++attempt) {
    if (::mkdir(path_.c_str(), 0755) != 0 && errno != EEXIST) {
      return system_error(path_, "create", errno);
    }
    const int fd = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) continue;
    if (fd < 0) return system_error(path_, "open", errno);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      if (error == EWOULDBLOCK) {
        ::close(fd);
        return resource_exhausted(path_ +
                                  ": another run is writing this checkpoint; wait for it "
                                  "or choose another folder");
      }
      // A file system without locks (some network ones): go on unlocked.
    }
    struct stat locked {};
    struct stat named {};
    if (::fstat(fd, &locked) == 0 && ::stat(path_.c_str(), &named) == 0 &&
        locked.st_ino == named.st_ino && locked.st_dev == named.st_dev) {
      lock_ = fd;
      return ok_status();
    }
    ::close(fd);
  }
  return io_error(path_ + ": keeps changing; is another run writing this checkpoint?");
}

// Keeps what fits, removes what an earlier run left unfinished.
Status QuantizeFolder::prepare() {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<std::string> names, plain_files(path_));
  bool ours = names.empty();
  for (const std::string& name : names) ours |= name.starts_with(kState);
  if (!ours) {
    return invalid_argument(path_ +
                            ": is needed for work in progress but holds something else; "
                            "move it away");
  }
  load_state();
  LIQUIDGEMM_RETURN_IF_ERROR(remove_unfinished());
  LIQUIDGEMM_RETURN_IF_ERROR(write_state());
  prepared_ = true;
  return ok_status();
}

// A state that cannot be read, or is of another source or other options, means starting anew.
void QuantizeFolder::load_state() {
  const auto value = json::parse_file(file(kState), {kMaxState, 8});
  if (!value.ok() || !value->is_object()) return;
  const json::Reader state(value->get_object(), file(kState));
  const auto fingerprint = state.required_string("fingerprint");
  const auto shards = state.required_object("shards");
  if (!fingerprint.ok() || *fingerprint != fingerprint_ || !shards.ok()) return;
  for (const auto& [name, entry] : **shards) {
    if (!entry.is_object()) continue;
    const json::Reader reader(entry.get_object(), file(kState));
    const auto bytes = reader.required_int("bytes", 1, INT64_MAX);
    const auto modules = reader.required_object("modules");
    if (!bytes.ok() || !modules.ok()) continue;
    FinishedShard shard;
    shard.file_bytes = static_cast<std::uint64_t>(*bytes);
    bool complete = true;
    for (const auto& [module, errors] : **modules) {
      if (!errors.is_object()) {
        complete = false;
        break;
      }
      const json::Reader numbers(errors.get_object(), file(kState));
      const auto error = numbers.required_number("squared_error", 0, 1e300);
      const auto norm = numbers.required_number("squared_norm", 0, 1e300);
      complete = complete && error.ok() && norm.ok();
      if (complete) shard.modules[std::string(module)] = {*error, *norm};
    }
    std::error_code missing;
    const std::string shard_name(name);
    if (complete && is_checkpoint_file(shard_name) &&
        fs::file_size(file(shard_name), missing) == shard.file_bytes && !missing) {
      finished_[shard_name] = std::move(shard);
    }
  }
}

Status QuantizeFolder::write_state() const {
  json::Object shards;
  for (const auto& [name, shard] : finished_) {
    json::Object modules;
    for (const auto& [module, errors] : shard.modules) {
      modules[module] = json::Object{{"squared_error", errors.squared_error},
                                     {"squared_norm", errors.squared_norm}};
    }
    shards[name] = json::Object{{"bytes", shard.file_bytes}, {"modules", std::move(modules)}};
  }
  const json::Object state{{"fingerprint", fingerprint_}, {"shards", std::move(shards)}};
  return write_file_atomically(file(kState), json::dump_pretty(state));
}

Status QuantizeFolder::remove_unfinished() const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<std::string> names, plain_files(path_));
  for (const std::string& name : names) {
    if (name == kState || finished_.contains(name)) continue;
    std::error_code error;
    fs::remove(file(name), error);
    if (error) return io_error(file(name) + ": cannot remove: " + error.message());
  }
  return ok_status();
}

Status QuantizeFolder::add_finished(const std::string& name, FinishedShard shard) {
  finished_[name] = std::move(shard);
  return write_state();
}

Status QuantizeFolder::check_space(std::uint64_t bytes) const {
  struct statvfs info {};
  if (::statvfs(path_.c_str(), &info) != 0) return ok_status();  // reservations will tell
  const std::uint64_t free = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  if (free >= bytes) return ok_status();
  return resource_exhausted(out_ + ": the checkpoint needs " + megabytes(bytes) + " more, but " +
                            megabytes(free) +
                            " are free there; free some space or choose another folder");
}

Status QuantizeFolder::publish() {
  LIQUIDGEMM_RETURN_IF_ERROR(sync_folder(path_));
  LIQUIDGEMM_RETURN_IF_ERROR(check_out(out_, overwrite_));
  std::error_code error;
  std::string old;
  if (!fs::exists(out_, error) || is_empty_folder(out_)) {
    if (std::rename(path_.c_str(), out_.c_str()) != 0) {
      return system_error(out_, "put the finished checkpoint in place", errno);
    }
  } else if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, out_.c_str(), RENAME_EXCHANGE) == 0) {
    old = path_;
  } else {
    // No exchange on this file system: two renames, between which OUT is absent.
    old = out_ + ".old-" + std::to_string(::getpid());
    if (std::rename(out_.c_str(), old.c_str()) != 0) {
      return system_error(out_, "move the old checkpoint away", errno);
    }
    if (std::rename(path_.c_str(), out_.c_str()) != 0) {
      const int problem = errno;
      std::rename(old.c_str(), out_.c_str());
      return system_error(out_, "put the finished checkpoint in place", problem);
    }
  }
  ::close(std::exchange(lock_, -1));
  if (!old.empty()) remove_files(old);
  fs::remove(out_ + "/" + kState, error);
  return sync_folder(fs::path(out_).parent_path().string());
}

}  // namespace liquidgemm
