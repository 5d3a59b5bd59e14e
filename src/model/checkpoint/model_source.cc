#include "model/checkpoint/model_source.h"

#include <filesystem>

#include "model/checkpoint/gguf_source.h"
#include "model/checkpoint/huggingface_source.h"

namespace liquidgemm {

Result<ModelSource> open_model_source(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (error || !std::filesystem::exists(status)) {
    return not_found(path +
                     ": no such file or folder; expected a Hugging Face model folder or a "
                     ".gguf file");
  }
  if (std::filesystem::is_directory(status)) return open_hugging_face_folder(path);
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".safetensors" || extension == ".json") {
    return invalid_argument(path + ": pass the folder that holds this file");
  }
  if (extension == ".bin" || extension == ".pt" || extension == ".pth") {
    return unsupported(path +
                       ": pickles can run code when they are read and are refused; convert "
                       "the model to safetensors");
  }
  return open_gguf_file(path);
}

}  // namespace liquidgemm
