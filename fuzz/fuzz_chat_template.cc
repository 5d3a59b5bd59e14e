// Any bytes as a chat template, rendered with a fixed conversation under small limits.

#include <cstddef>
#include <cstdint>
#include <string>

#include "model/chat/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace liquidgemm;
  static const json::Object kVariables = [] {
    const auto parsed = json::parse(
        R"({"messages": [
              {"role": "system", "content": " be kind\n"},
              {"role": "user", "content": "Gr\u00fc\u00dfe \ud83d\ude00 <b>"},
              {"role": "assistant", "content": "<think>\nx\n</think>y", "tool_calls": [
                {"id": "abcdefghi", "function": {"name": "f", "arguments": {"a": [1, 2.5, null]}}}]},
              {"role": "tool", "content": "{}", "tool_call_id": "abcdefghi"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "properties": {"a": {"type": ["array", "null"]}}}}}],
            "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})",
        "fuzz");
    return parsed.ok() ? parsed->as_object() : json::Object();
  }();
  TemplateLimits limits;
  limits.steps = 20'000;
  limits.output_bytes = 1 << 16;
  const std::string source(reinterpret_cast<const char*>(data), size);
  const auto parsed = ChatTemplate::parse(source, "fuzz", limits);
  if (parsed.ok()) (void)parsed->render(kVariables);
  return 0;
}
