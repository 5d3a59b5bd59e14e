// /v1/chat/completions: conversations and tools.

#include <algorithm>
#include <array>

#include "server/api_request.h"

namespace liquidgemm::server {
namespace {

constexpr std::size_t kMaxModelName = 1024;
constexpr std::size_t kMaxName = 64;  // of a function, as OpenAI has it
constexpr std::size_t kMaxText = 16u << 20;

// What a template gets from us; nobody else may set it.
constexpr std::array<std::string_view, 16> kReservedVariables = {
    "messages",  "tools",       "documents",     "add_generation_prompt",
    "bos_token", "eos_token",   "chat_template", "continue_final_message",
    "tokenize",  "return_dict", "range",         "dict",
    "namespace", "loop",        "strftime_now",  "raise_exception"};

bool is_function_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || c == '.';
         });
}

// A required name of a function; empty after an error.
std::string function_name(RequestFields& fields) {
  auto name = fields.string("name", kMaxText);
  if (!fields.ok()) return "";
  if (!name) {
    fields.fail("name", "missing");
    return "";
  }
  if (!is_function_name(*name)) {
    fields.fail("name", "expected 1 to " + std::to_string(kMaxName) +
                            " letters, digits, underscores, dots or dashes");
    return "";
  }
  return *name;
}

// A string, or a list of text parts, which templates want as one string.
std::optional<std::string> parse_content(RequestFields& message, const RequestRules& rules) {
  const json::Value* content = message.value("content");
  if (content == nullptr) return std::nullopt;
  if (content->is_string()) return std::string(content->get_string());
  if (!content->is_array()) {
    message.fail("content", "expected a string or a list of text parts, found " +
                                std::string(json::kind_name(*content)));
    return std::nullopt;
  }
  const json::Array* parts = message.array("content", rules.limits.content_parts);
  std::string joined;
  for (std::size_t i = 0; parts != nullptr && i < parts->size() && message.ok(); ++i) {
    const std::string at = "content[" + std::to_string(i) + "]";
    const json::Value& part = (*parts)[i];
    if (!part.is_object()) {
      message.fail(at, "expected a text part, found " + std::string(json::kind_name(part)));
      break;
    }
    RequestFields fields = message.inside(part.get_object(), at);
    const std::string type = fields.string("type", kMaxText).value_or("");
    if (type != "text" && fields.ok()) {
      fields.fail("type", "expected \"text\", found " +
                              json::dump(json::Value(type.substr(0, kMaxName))) +
                              "; only text is served");
    }
    const auto text = fields.string("text", kMaxText);
    if (!text) fields.fail("text", "missing");
    if (i > 0) joined += '\n';
    joined += text.value_or("");
  }
  return joined;
}

// The arguments as templates want them: an object.
json::Value parse_arguments(RequestFields& function, const RequestRules& rules) {
  const json::Value* arguments = function.value("arguments");
  if (arguments == nullptr) return json::Object();
  if (arguments->is_object()) return *arguments;
  if (!arguments->is_string()) {
    function.fail("arguments", "expected a JSON object as a string, found " +
                                   std::string(json::kind_name(*arguments)));
    return nullptr;
  }
  if (arguments->get_string().empty()) return json::Object();
  auto parsed = json::parse(std::string_view(arguments->get_string()), "arguments",
                            {.max_bytes = kMaxText, .max_depth = rules.limits.body_depth});
  if (!parsed.ok() || !parsed->is_object()) {
    function.fail("arguments", "expected a JSON object as a string" +
                                   (parsed.ok() ? ", found " + std::string(json::kind_name(*parsed))
                                                : "; " + parsed.status().message()));
    return nullptr;
  }
  return std::move(*parsed);
}

json::Array parse_tool_calls(RequestFields& message, const RequestRules& rules) {
  json::Array result;
  const json::Array* calls = message.array("tool_calls", rules.limits.tool_calls);
  for (std::size_t i = 0; calls != nullptr && i < calls->size() && message.ok(); ++i) {
    const std::string at = "tool_calls[" + std::to_string(i) + "]";
    const json::Value& call = (*calls)[i];
    if (!call.is_object()) {
      message.fail(at, "expected an object, found " + std::string(json::kind_name(call)));
      break;
    }
    RequestFields fields = message.inside(call.get_object(), at);
    const std::string id = fields.string("id", kMaxText).value_or("");
    if (fields.string("type", kMaxText).value_or("function") != "function") {
      fields.fail("type", "expected \"function\"");
    }
    const json::Object* function = fields.object("function");
    if (function == nullptr) {
      fields.fail("function", "missing");
      break;
    }
    RequestFields inner = fields.inside(*function, "function");
    std::string name = function_name(inner);
    json::Value arguments = parse_arguments(inner, rules);
    json::Object written{
        {"type", "function"},
        {"function", json::Object{{"name", std::move(name)}, {"arguments", std::move(arguments)}}}};
    if (!id.empty()) written["id"] = id;
    result.push_back(std::move(written));
  }
  return result;
}

json::Object parse_message(RequestFields& fields, const RequestRules& rules) {
  const auto given = fields.string("role", kMaxText);
  if (!given) fields.fail("role", "missing");
  std::string role = given.value_or("");
  const bool known = role == "system" || role == "developer" || role == "user" ||
                     role == "assistant" || role == "tool";
  if (!known) {
    fields.fail("role", "expected system, developer, user, assistant or tool, found " +
                            json::dump(json::Value(role.substr(0, kMaxName))));
  }
  // The newer name of the same thing; templates know the older one.
  if (role == "developer") role = "system";
  auto content = parse_content(fields, rules);
  json::Object message{{"role", role}};
  json::Array calls;
  if (role == "assistant") {
    calls = parse_tool_calls(fields, rules);
    fields.unsupported("audio");
    fields.unsupported("function_call", {}, "use tool_calls");
    // What the model thought or refused earlier; templates that want it read it.
    if (const auto thought = fields.string("reasoning_content", kMaxText)) {
      message["reasoning_content"] = *thought;
    }
    const auto refusal = fields.string("refusal", kMaxText);
    if (!content && refusal) content = *refusal;
  }
  if (!content && calls.empty()) fields.fail("content", "missing");
  message["content"] = content.value_or("");
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  if (const auto name = fields.string("name", kMaxText)) message["name"] = *name;
  if (role == "tool") {
    if (const auto id = fields.string("tool_call_id", kMaxText)) message["tool_call_id"] = *id;
  }
  return message;
}

void parse_template_variables(RequestFields& fields, const RequestRules& rules,
                              json::Object& variables) {
  const json::Object* given = fields.object("chat_template_kwargs");
  if (given == nullptr) return;
  if (given->size() > rules.limits.template_variables) {
    return fields.fail(
        "chat_template_kwargs",
        "at most " + std::to_string(rules.limits.template_variables) + " variables are accepted");
  }
  for (const auto& member : *given) {
    const std::string_view name = member.key();
    if (std::find(kReservedVariables.begin(), kReservedVariables.end(), name) !=
        kReservedVariables.end()) {
      return fields.fail("chat_template_kwargs." + std::string(name),
                         "reserved, not for a request to set");
    }
  }
  variables = *given;
}

// tool_choice by name: {"type": "function", "function": {"name": ...}}
void parse_named_choice(RequestFields& fields, const json::Object& object, ChatRequest& request) {
  RequestFields choice = fields.inside(object, "tool_choice");
  if (choice.string("type", kMaxText).value_or("") != "function") {
    choice.fail("type", "expected \"function\"");
  }
  const json::Object* function = choice.object("function");
  if (function == nullptr) return choice.fail("function", "missing");
  RequestFields inner = choice.inside(*function, "function");
  request.tool_name = function_name(inner);
  request.tool_choice = ToolChoice::kNamed;
  const auto& names = request.tool_names;
  if (std::find(names.begin(), names.end(), request.tool_name) == names.end()) {
    inner.fail("name", "no tool has this name");
  }
}

void parse_tool_choice(RequestFields& fields, const RequestRules& rules, ChatRequest& request) {
  const bool has_tools = !request.tool_names.empty();
  request.tool_choice = has_tools ? ToolChoice::kAuto : ToolChoice::kNone;
  const json::Value* choice = fields.value("tool_choice");
  if (choice != nullptr && choice->is_string()) {
    const std::string_view text = choice->get_string();
    if (text == "none") {
      request.tool_choice = ToolChoice::kNone;
    } else if (text == "required") {
      request.tool_choice = ToolChoice::kRequired;
    } else if (text == "auto") {
      request.tool_choice = ToolChoice::kAuto;
    } else {
      return fields.fail("tool_choice",
                         "expected none, auto, required or an object that names a function");
    }
  } else if (choice != nullptr && choice->is_object()) {
    parse_named_choice(fields, choice->get_object(), request);
  } else if (choice != nullptr) {
    return fields.fail("tool_choice",
                       "expected none, auto, required or an object that names a "
                       "function, found " +
                           std::string(json::kind_name(*choice)));
  }
  if (request.tool_choice == ToolChoice::kNone) {
    // A model that must not call is not told what it could.
    request.prompt.tools = nullptr;
    request.tool_names.clear();
    return;
  }
  if (!has_tools) return fields.fail("tool_choice", "only accepted together with tools");
  if (request.generation.grammar) {
    return fields.fail(request.generation.grammar_field,
                       "not accepted together with tools; set tool_choice to none");
  }
  if (request.tool_choice != ToolChoice::kAuto) return require_call(fields, rules, request);
  if (!rules.automatic_tools) {
    fields.fail("tool_choice",
                "this server does not look for tool calls in answers (--tool-call-parser); set "
                "tool_choice to none, required or a function");
  }
}

}  // namespace

void parse_tools(RequestFields& fields, const RequestRules& rules, json::Value& tools,
                 std::vector<std::string>& names) {
  const json::Array* list = fields.array("tools", rules.limits.tools);
  if (list == nullptr || list->empty()) return;
  for (std::size_t i = 0; i < list->size() && fields.ok(); ++i) {
    const std::string at = "tools[" + std::to_string(i) + "]";
    const json::Value& tool = (*list)[i];
    if (!tool.is_object()) {
      return fields.fail(at, "expected an object, found " + std::string(json::kind_name(tool)));
    }
    RequestFields outer = fields.inside(tool.get_object(), at);
    if (outer.string("type", kMaxText).value_or("") != "function") {
      outer.fail("type", "expected \"function\"");
    }
    const json::Object* function = outer.object("function");
    if (function == nullptr) return outer.fail("function", "missing");
    RequestFields inner = outer.inside(*function, "function");
    std::string name = function_name(inner);
    (void)inner.string("description", kMaxText);
    (void)inner.object("parameters");
    (void)inner.boolean("strict");
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      inner.fail("name", "appears twice");
    }
    names.push_back(std::move(name));
  }
  if (fields.ok()) tools = *list;
}

void parse_conversation(RequestFields& fields, const RequestRules& rules, ChatPrompt& prompt) {
  const json::Array* messages = fields.array("messages", rules.limits.messages);
  if (messages == nullptr || messages->empty()) {
    fields.fail("messages", messages == nullptr ? "missing" : "empty, expected a message");
  }
  for (std::size_t i = 0; messages != nullptr && i < messages->size() && fields.ok(); ++i) {
    const std::string at = "messages[" + std::to_string(i) + "]";
    const json::Value& message = (*messages)[i];
    if (!message.is_object()) {
      return fields.fail(at, "expected an object, found " + std::string(json::kind_name(message)));
    }
    RequestFields inner = fields.inside(message.get_object(), at);
    prompt.messages.push_back(parse_message(inner, rules));
  }
  parse_template_variables(fields, rules, prompt.variables);
  prompt.continue_final_message = fields.boolean("continue_final_message").value_or(false);
  prompt.add_generation_prompt =
      fields.boolean("add_generation_prompt").value_or(!prompt.continue_final_message);
  if (prompt.continue_final_message && prompt.add_generation_prompt) {
    fields.fail("continue_final_message", "not accepted together with add_generation_prompt");
  }
  fields.unsupported("chat_template", {}, "the model's own is used");
  fields.unsupported("documents", {"[]"});
}

std::optional<ApiError> parse_chat(const json::Object& object, const RequestRules& rules,
                                   ChatRequest& request) {
  std::optional<ApiError> error;
  RequestFields fields(object, "", error);
  request.model = fields.string("model", kMaxModelName);
  parse_conversation(fields, rules, request.prompt);
  request.add_special_tokens = fields.boolean("add_special_tokens").value_or(false);
  GenerationParams& generation = request.generation;
  parse_generation(fields, rules, 1, generation);
  // The newer name of max_tokens.
  const std::int64_t high = std::int64_t{1} << 31;
  if (const auto newer = fields.integer("max_completion_tokens", 1, high)) {
    if (generation.max_tokens && *generation.max_tokens != *newer) {
      fields.fail("max_completion_tokens", "differs from max_tokens; send one of them");
    }
    generation.max_tokens = newer;
    generation.max_tokens_name = "max_completion_tokens";
  }
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, rules.limits.logprobs);
  if (top.value_or(0) > 0 && !logprobs) {
    fields.fail("top_logprobs", "only accepted together with \"logprobs\": true");
  }
  if (logprobs) generation.logprobs = static_cast<std::int32_t>(top.value_or(0));
  parse_tools(fields, rules, request.prompt.tools, request.tool_names);
  request.parallel_tool_calls = fields.boolean("parallel_tool_calls").value_or(true);
  parse_tool_choice(fields, rules, request);
  fields.unsupported("echo", {"false"});
  fields.unsupported("audio");
  fields.unsupported("modalities", {"[\"text\"]"});
  fields.unsupported("prediction");
  fields.unsupported("web_search_options");
  fields.unsupported("functions", {"[]"}, "use tools");
  fields.unsupported("function_call", {"\"none\"", "\"auto\""}, "use tool_choice");
  fields.unsupported("store", {"false"});
  fields.unsupported("reasoning_effort", {"\"none\""},
                     "chat_template_kwargs reaches the model's template");
  fields.unsupported("include_reasoning", {"true"});
  fields.unsupported("verbosity", {"\"medium\""});
  fields.unsupported("mm_processor_kwargs", {"{}"});
  fields.unsupported("media_io_kwargs", {"{}"});
  request.unknown = fields.unknown();
  return error;
}

}  // namespace liquidgemm::server
