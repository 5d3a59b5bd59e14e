#include "cli/model_path.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/mapped_file.h"
#include "liquidgemm_version.h"
#include "model/packed_weights_header.h"

namespace liquidgemm::cli {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string home() {
  const std::string folder = environment("HOME");
  return folder.empty() ? "." : folder;
}

fs::path hub_cache() {
  if (const std::string hub = environment("HF_HUB_CACHE"); !hub.empty()) return hub;
  if (const std::string hf = environment("HF_HOME"); !hf.empty()) return fs::path(hf) / "hub";
  return fs::path(home()) / ".cache/huggingface/hub";
}

// "org/name" or "name", as the Hugging Face hub allows: no part that could leave the folder.
bool is_hub_name(const std::string& model) {
  if (std::count(model.begin(), model.end(), '/') > 1 || model.empty()) return false;
  std::string part;
  for (const char c : model + "/") {
    if (c == '/') {
      if (part.empty() || part[0] == '.' || part[0] == '-') return false;
      part.clear();
    } else if (std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.') {
      part += c;
    } else {
      return false;
    }
  }
  return true;
}

// hub/models--org--name/refs/main names the snapshot.
Result<std::string> find_in_hub(const std::string& model) {
  std::string folder = "models--" + model;
  const std::size_t slash = folder.find('/');
  if (slash != std::string::npos) folder.replace(slash, 1, "--");
  const fs::path repository = hub_cache() / folder;
  std::error_code error;
  if (auto reference = read_text_file((repository / "refs/main").string(), 4096); reference.ok()) {
    std::string revision = *reference;
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) {
      revision.pop_back();
    }
    const bool plain =
        !revision.empty() && std::all_of(revision.begin(), revision.end(),
                                         [](unsigned char c) { return std::isalnum(c) != 0; });
    const fs::path snapshot = repository / "snapshots" / revision;
    if (plain && fs::is_directory(snapshot, error)) return snapshot.string();
  }
  return not_found("no folder, .gguf file or cached Hugging Face model is called \"" + model +
                   "\" (looked in " + repository.string() +
                   "); this program downloads nothing, but `hf download " + model + "` would");
}

// FNV-1a, 64 bits: names a folder, protects nothing.
struct Fingerprint {
  std::uint64_t value = 0xcbf29ce484222325u;
  void add(const std::string& text) {
    for (const unsigned char c : text + "\n") value = (value ^ c) * 0x100000001b3u;
  }
};

void add_file(Fingerprint& fingerprint, const fs::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) return;
  fingerprint.add(file.filename().string() + " " + std::to_string(info.st_size) + " " +
                  std::to_string(info.st_mtim.tv_sec) + "." + std::to_string(info.st_mtim.tv_nsec));
}

}  // namespace

Result<std::string> resolve_model(const std::string& model) {
  std::error_code error;
  if (model.empty()) return invalid_argument("the model's name is empty");
  if (fs::is_directory(model, error) || fs::is_regular_file(model, error)) return model;
  if (is_hub_name(model) && !model.ends_with(".gguf")) return find_in_hub(model);
  return not_found(model + ": no such folder or file");
}

std::string cache_folder() {
  const std::string cache = environment("XDG_CACHE_HOME");
  return (cache.empty() ? fs::path(home()) / ".cache" : fs::path(cache)) / "liquidgemm";
}

Result<std::string> quantized_cache_path(const std::string& model_path,
                                         const std::string& settings) {
  std::error_code error;
  const fs::path path = fs::canonical(model_path, error);
  if (error) return io_error(model_path + ": " + error.message());
  Fingerprint fingerprint;
  fingerprint.add(path.string());
  fingerprint.add(settings);
  fingerprint.add(LIQUIDGEMM_VERSION);
  if (fs::is_directory(path, error)) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path, error)) {
      // What this program itself keeps there says nothing about the model.
      if (entry.path().filename().string().starts_with(kPackedWeightsPrefix)) continue;
      files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) add_file(fingerprint, file);
  } else {
    add_file(fingerprint, path);
  }
  if (error) return io_error(model_path + ": " + error.message());
  char hash[17];
  std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(fingerprint.value));
  const std::string name = path.stem().string() + "-" + settings + "-" + hash;
  return (fs::path(cache_folder()) / "quantized" / name).string();
}

}  // namespace liquidgemm::cli
