#include "model/checkpoint/huggingface_source.h"

#include <set>

#include "base/status_macros.h"
#include "model/checkpoint/folder_files.h"
#include "model/checkpoint/printable.h"
#include "model/checkpoint/quantized_tensors.h"
#include "model/checkpoint/safetensors_source.h"

namespace liquidgemm {
namespace {

constexpr std::size_t kMaxConfig = 16u << 20;
constexpr std::size_t kMaxTokenizer = 64u << 20;
constexpr std::size_t kMaxTemplate = 1u << 20;

Status read_configs(const ModelFolder& folder, ModelSource& source) {
  const std::string& path = folder.path();
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto config, folder.read_optional("config.json", kMaxConfig));
  if (!config) {
    // A folder of GGUF files, say: its own message helps more than a missing config.json.
    auto tensors = open_safetensors_folder(folder);
    if (!tensors.ok()) return tensors.status();
    return not_found(path + "/config.json: missing; expected a Hugging Face model folder");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(source.config, parse_config(*config, path + "/config.json"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto generation,
                              folder.read_optional("generation_config.json", kMaxTemplate));
  if (!generation) return ok_status();
  return parse_generation_config(*generation, path + "/generation_config.json", source.config,
                                 source.generation);
}

// Added tokens that only tokenizer_config.json lists. Where both files know an id, tokenizer.json
// is right: it is the one that the published tokenizer runs on.
void add_missing_tokens(const std::vector<AddedToken>& more, TokenizerSpec& tokenizer) {
  std::set<TokenId> known;
  for (const AddedToken& token : tokenizer.added_tokens) known.insert(token.id);
  for (const AddedToken& token : more) {
    const auto id = static_cast<std::size_t>(token.id);
    const bool ordinary = id < tokenizer.vocabulary.size() && !tokenizer.vocabulary[id].empty();
    if (!ordinary && known.insert(token.id).second) tokenizer.added_tokens.push_back(token);
  }
}

Status read_tokenizer(const ModelFolder& folder, ModelSource& source) {
  const std::string where = folder.path() + "/tokenizer.json";
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto text, folder.read_optional("tokenizer.json", kMaxTokenizer));
  if (!text) {
    const bool other = folder.has("tokenizer.model") || folder.has("vocab.json");
    return not_found(where + ": missing" +
                     (other ? "; the tokenizer is here in another form: save it again with "
                              "transformers (AutoTokenizer...save_pretrained), which writes it"
                            : "; download the tokenizer files of the model too"));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(source.tokenizer, parse_tokenizer_json(*text, where));

  TokenizerConfig config;
  const std::string config_where = folder.path() + "/tokenizer_config.json";
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto config_text,
                              folder.read_optional("tokenizer_config.json", kMaxConfig));
  if (config_text) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(config, parse_tokenizer_config(*config_text, config_where));
  }
  add_missing_tokens(config.added_tokens, source.tokenizer);
  LIQUIDGEMM_RETURN_IF_ERROR(check_tokenizer_fits(source.tokenizer, source.config, where));
  source.bos_token = std::move(config.bos_token);
  source.eos_token = std::move(config.eos_token);

  // The file wins over the string, as in transformers.
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto jinja,
                              folder.read_optional("chat_template.jinja", kMaxTemplate));
  source.chat_template = jinja ? std::move(*jinja) : std::move(config.chat_template);
  return ok_status();
}

}  // namespace

Result<ModelSource> open_hugging_face_folder(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(ModelFolder folder, ModelFolder::open(path));
  ModelSource source;
  source.format = ModelSource::Format::kHuggingFace;
  source.path = folder.path();
  LIQUIDGEMM_RETURN_IF_ERROR(read_configs(folder, source));
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::unique_ptr<StoredTensors> tensors,
                              open_safetensors_folder(folder));
  source.stored_bytes = tensors->stored_bytes();
  LIQUIDGEMM_RETURN_IF_ERROR(source.config.quantization
                                 ? check_quantized_layout(source.config, *tensors)
                                 : check_float_layout(source.config, *tensors));
  source.tensors = std::move(tensors);
  LIQUIDGEMM_RETURN_IF_ERROR(read_tokenizer(folder, source));
  return source;
}

}  // namespace liquidgemm
