#include "model/chat/chat_template.h"

#include <new>
#include <utility>

#include "base/status_macros.h"
#include "model/chat/interpreter.h"
#include "model/chat/lexer.h"
#include "model/chat/parser.h"
#include "model/chat/text.h"

namespace liquidgemm {

struct ChatTemplate::Impl {
  std::string original;
  chat::Source source;
  chat::Body body;
  TemplateLimits limits;
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string source, const std::string& where,
                                         const TemplateLimits& limits) {
  if (source.size() > limits.output_bytes) {
    return resource_exhausted(where + ": the chat template has " + std::to_string(source.size()) +
                              " bytes, at most " + std::to_string(limits.output_bytes) +
                              " are allowed");
  }
  if (!chat::is_utf8(source)) return corrupt(where + ": the chat template is not UTF-8");
  try {
    auto impl = std::make_shared<Impl>();
    impl->source = {chat::normalize_newlines(source), where};
    impl->original = std::move(source);
    impl->limits = limits;
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<chat::Token> tokens, chat::tokenize(impl->source));
    chat::Parser parser(impl->source, std::move(tokens), limits.depth);
    LIQUIDGEMM_ASSIGN_OR_RETURN(impl->body, parser.parse());
    return ChatTemplate(std::move(impl));
  } catch (const std::bad_alloc&) {
    return resource_exhausted(where + ": not enough memory for the chat template");
  }
}

Result<std::string> ChatTemplate::render(const json::Object& variables) const {
  try {
    return chat::Interpreter(impl_->source, impl_->limits).render(impl_->body, variables);
  } catch (const std::bad_alloc&) {
    return resource_exhausted(impl_->source.where + ": not enough memory to render the template");
  }
}

const std::string& ChatTemplate::source() const { return impl_->original; }

Result<std::string> render_chat(const ChatTemplate& chat_template,
                                const std::vector<ChatMessage>& messages,
                                bool add_generation_prompt, const std::string& bos_token,
                                const std::string& eos_token) {
  json::Array list;
  for (const ChatMessage& message : messages) {
    list.push_back(json::Object{{"role", message.role}, {"content", message.content}});
  }
  // The same names, with the same values when unused, as Hugging Face's call passes.
  return chat_template.render({{"messages", std::move(list)},
                               {"add_generation_prompt", add_generation_prompt},
                               {"bos_token", bos_token},
                               {"eos_token", eos_token},
                               {"tools", nullptr},
                               {"documents", nullptr}});
}

}  // namespace liquidgemm
