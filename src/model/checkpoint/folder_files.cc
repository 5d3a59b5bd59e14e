#include "model/checkpoint/folder_files.h"

#include <filesystem>

#include "base/mapped_file.h"
#include "base/status_macros.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace fs = std::filesystem;
namespace {

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

bool lies_in(const std::string& file, const std::string& folder) {
  return !folder.empty() && file.size() > folder.size() + 1 && file.starts_with(folder) &&
         file[folder.size()] == '/';
}

}  // namespace

Result<ModelFolder> ModelFolder::open(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return not_found(path + ": cannot open: " + error.message());
  if (!fs::is_directory(real, error)) return invalid_argument(path + ": not a folder");
  ModelFolder folder;
  folder.path_ = path;
  while (folder.path_.size() > 1 && folder.path_.back() == '/') folder.path_.pop_back();
  folder.real_ = real.string();
  if (real.parent_path().filename() == "snapshots") {
    folder.blobs_ = (real.parent_path().parent_path() / "blobs").string();
  }
  return folder;
}

bool ModelFolder::has(const std::string& name) const {
  // A dangling link counts as there: opening it says what is wrong.
  std::error_code error;
  return fs::symlink_status(real_ + "/" + name, error).type() != fs::file_type::not_found && !error;
}

Result<std::string> ModelFolder::resolve(std::string_view name) const {
  if (!is_plain_name(name)) {
    return corrupt(path_ + ": file name " + printable(name) +
                   " leaves the folder; expected a plain name");
  }
  const std::string file = path_ + "/" + std::string(name);
  std::error_code error;
  const std::string target = fs::canonical(real_ + "/" + std::string(name), error).string();
  if (error) return not_found(path_ + "/" + escaped(name) + ": cannot open: " + error.message());
  if (lies_in(target, real_) || lies_in(target, blobs_)) return file;
  return invalid_argument(path_ + "/" + escaped(name) +
                          ": this link leaves the folder; put the file itself into the folder, or "
                          "pass the folder that holds it");
}

Result<std::optional<std::string>> ModelFolder::read_optional(const std::string& name,
                                                              std::size_t max_bytes) const {
  if (!has(name)) return std::optional<std::string>();
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string file, resolve(name));
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string text, read_text_file(file, max_bytes));
  return std::optional<std::string>(std::move(text));
}

}  // namespace liquidgemm
