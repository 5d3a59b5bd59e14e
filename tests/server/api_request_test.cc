#include "server/api_request.h"

#include <gtest/gtest.h>

#include <cmath>

namespace liquidgemm::server {
namespace {

RequestRules rules() {
  RequestRules rules;
  rules.vocabulary = 512;
  rules.structured_output = true;
  rules.automatic_tools = true;
  return rules;
}

std::optional<ApiError> completion(const std::string& body, CompletionRequest& request,
                                   const RequestRules& some = rules()) {
  json::Object object;
  if (auto error = parse_body(body, some.limits, object)) return error;
  return parse_completion(object, some, request);
}

std::optional<ApiError> chat(const std::string& body, ChatRequest& request,
                             const RequestRules& some = rules()) {
  json::Object object;
  if (auto error = parse_body(body, some.limits, object)) return error;
  return parse_chat(object, some, request);
}

std::string repeated(std::string_view item, int count) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i == 0 ? "" : ",") + std::string(item);
  return list;
}

struct BadField {
  std::string json;   // what is put into a good body
  std::string param;  // what the error must name
};

// Fields that both endpoints have. Rows 5 to 7, 9 and 11 of the catalogue of bad inputs.
std::vector<BadField> bad_fields() {
  std::vector<BadField> bad;
  const std::vector<std::string> no_integers = {
      "-1", "1.5", "1e20", "\"3\"", "true", "[1]", "{}", "9223372036854775808", "1e999"};
  for (const std::string& value : no_integers) {
    const std::string param = value == "1e999" ? "" : "?";
    for (const std::string name : {"max_tokens", "n", "min_tokens"}) {
      bad.push_back({"\"" + name + "\":" + value, param.empty() ? "" : name});
    }
    if (value != "-1") {
      bad.push_back({"\"top_k\":" + value, param.empty() ? "" : "top_k"});
      bad.push_back({"\"seed\":" + value, param.empty() ? "" : "seed"});
    }
  }
  for (const std::string name : {"temperature", "top_p", "min_p", "repetition_penalty",
                                 "presence_penalty", "frequency_penalty"}) {
    for (const std::string value : {"\"NaN\"", "\"1\"", "1e30", "-1e30", "true", "[0.5]", "{}"}) {
      bad.push_back({"\"" + name + "\":" + value, name});
    }
    bad.push_back({"\"" + name + "\":1e999", ""});
    bad.push_back({"\"" + name + "\":NaN", ""});
    bad.push_back({"\"" + name + "\":Infinity", ""});
  }
  const std::vector<BadField> more = {
      {R"("temperature":-0.1)", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("top_p":-0.0)", "top_p"},
      {R"("top_p":1.0001)", "top_p"},
      {R"("min_p":1)", "min_p"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("presence_penalty":2.5)", "presence_penalty"},
      {R"("top_k":-2)", "top_k"},
      {R"("top_k":2147483648)", "top_k"},
      {R"("n":0)", "n"},
      {R"("n":17)", "n"},
      {R"("n":2147483648)", "n"},
      {R"("stop":3)", "stop"},
      {R"("stop":["a",3])", "stop[1]"},
      {R"("stop":{})", "stop"},
      {"\"stop\":[" + repeated("\"a\"", 17) + "]", "stop"},
      {"\"stop\":\"" + std::string(257, 'a') + "\"", "stop"},
      {"\"stop\":[\"" + std::string(257, 'a') + "\"]", "stop[0]"},
      {R"("stop_token_ids":[512])", "stop_token_ids[0]"},
      {R"("stop_token_ids":[1,-1])", "stop_token_ids[1]"},
      {R"("stop_token_ids":["a"])", "stop_token_ids[0]"},
      {R"("stop_token_ids":7)", "stop_token_ids"},
      {"\"stop_token_ids\":[" + repeated("1", 129) + "]", "stop_token_ids"},
      {R"("logit_bias":[])", "logit_bias"},
      {R"("logit_bias":{"a":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"512":1})", "logit_bias"},
      {R"("logit_bias":{"07":1})", "logit_bias"},
      {R"("logit_bias":{"99999999999999999999":1})", "logit_bias"},
      {R"("logit_bias":{"7":"1"})", "logit_bias.7"},
      {R"("logit_bias":{"7":null})", "logit_bias.7"},
      {R"("logit_bias":{"7":100.5})", "logit_bias.7"},
      {R"("stream":1)", "stream"},
      {R"("stream":"true")", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":[])", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage"},
      {R"("ignore_eos":0)", "ignore_eos"},
      {R"("cache_salt":7)", "cache_salt"},
      {"\"cache_salt\":\"" + std::string(1025, 's') + "\"", "cache_salt"},
      {R"("user":7)", "user"},
      {R"("model":7)", "model"},
      // Known and not supported.
      {R"("best_of":2)", "best_of"},
      {R"("use_beam_search":true)", "use_beam_search"},
      {R"("length_penalty":0.5)", "length_penalty"},
      {R"("prompt_logprobs":1)", "prompt_logprobs"},
      {R"("bad_words":["x"])", "bad_words"},
      {R"("allowed_token_ids":[1])", "allowed_token_ids"},
      {R"("logits_processors":["x"])", "logits_processors"},
      {R"("lora_request":{"a":1})", "lora_request"},
      {R"("truncate_prompt_tokens":5)", "truncate_prompt_tokens"},
      {R"("priority":1)", "priority"},
      {R"("guided_grammar":"root ::= 1")", "guided_grammar"},
      // Structured output.
      {R"("response_format":"json")", "response_format"},
      {R"("response_format":{})", "response_format.type"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})",
       "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":[]}})",
       "response_format.json_schema.schema"},
      {R"("guided_json":7)", "guided_json"},
      {R"("guided_json":"{")", "guided_json"},
      {R"("guided_regex":[])", "guided_regex"},
      {R"("guided_choice":[])", "guided_choice"},
      {R"("guided_choice":"a")", "guided_choice"},
      {R"("guided_choice":["a",1])", "guided_choice[1]"},
      {R"("guided_regex":"a","guided_json":{})", "guided_regex"},
      {R"("structured_outputs":{"grammar":"x"})", "structured_outputs.grammar"},
  };
  bad.insert(bad.end(), more.begin(), more.end());
  return bad;
}

TEST(ApiRequest, BothEndpointsRefuseTheSameBadFields) {
  for (const BadField& bad : bad_fields()) {
    CompletionRequest one;
    auto error = completion("{\"prompt\":\"a\"," + bad.json + "}", one);
    ASSERT_TRUE(error) << bad.json.substr(0, 100);
    EXPECT_EQ(error->status, 400);
    EXPECT_EQ(error->param, bad.param) << bad.json.substr(0, 100) << "\n" << error->message;
    EXPECT_TRUE(bad.param.empty() || error->message.starts_with(bad.param + ": "))
        << error->message;
    EXPECT_LT(error->message.size(), 600u);
    ChatRequest other;
    error = chat("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]," + bad.json + "}", other);
    ASSERT_TRUE(error) << bad.json.substr(0, 100);
    EXPECT_EQ(error->param, bad.param) << bad.json.substr(0, 100) << "\n" << error->message;
  }
}

TEST(ApiRequest, CompletionsRefuseBadFieldsOfTheirOwn) {
  const std::vector<BadField> bad = {
      {R"("x":1)", "prompt"},
      {R"("prompt":null)", "prompt"},
      {R"("prompt":7)", "prompt"},
      {R"("prompt":{})", "prompt"},
      {R"("prompt":[])", "prompt"},
      {R"("prompt":[[]])", "prompt[0]"},
      {R"("prompt":[[1],[]])", "prompt[1]"},
      {R"("prompt":["a",7])", "prompt[1]"},
      {R"("prompt":["a",[7]])", "prompt[1]"},
      {R"("prompt":[[7],"a"])", "prompt[1]"},
      {R"("prompt":[true])", "prompt[0]"},
      {R"("prompt":[7,"a"])", "prompt[1]"},
      {R"("prompt":[7,-1])", "prompt[1]"},
      {R"("prompt":[512])", "prompt[0]"},
      {R"("prompt":[1.5])", "prompt[0]"},
      {R"("prompt":[1e20])", "prompt[0]"},
      {R"("prompt":[9223372036854775808])", "prompt[0]"},
      {R"("prompt":[[1],[2147483648]])", "prompt[1][0]"},
      {"\"prompt\":[" + repeated("\"a\"", 65) + "]", "prompt"},
      {"\"prompt\":[" + repeated("\"a\"", 64) + "],\"n\":3", "n"},
      {R"("prompt":"a","echo":"yes")", "echo"},
      {R"("prompt":"a","logprobs":21)", "logprobs"},
      {R"("prompt":"a","logprobs":-1)", "logprobs"},
      {R"("prompt":"a","logprobs":true)", "logprobs"},
      {R"("prompt":"a","suffix":"b")", "suffix"},
      {R"("prompt":"a","max_tokens":0)", "max_tokens"},
      {R"("prompt":"a","prompt_embeds":"b")", "prompt_embeds"},
  };
  for (const BadField& field : bad) {
    CompletionRequest request;
    const auto error = completion("{" + field.json + "}", request);
    ASSERT_TRUE(error) << field.json.substr(0, 100);
    EXPECT_EQ(error->param, field.param) << field.json.substr(0, 100) << "\n" << error->message;
  }
}

TEST(ApiRequest, ChatsRefuseBadFieldsOfTheirOwn) {
  const std::string hello = R"("messages":[{"role":"user","content":"a"}],)";
  const std::string tool = R"({"type":"function","function":{"name":"f"}})";
  const auto message = [](const std::string& inner) { return "\"messages\":[" + inner + "]"; };
  const std::vector<BadField> bad = {
      {R"("x":1)", "messages"},
      {R"("messages":[])", "messages"},
      {R"("messages":"hi")", "messages"},
      {R"("messages":[7])", "messages[0]"},
      {"\"messages\":[" + repeated(R"({"role":"user","content":"a"})", 4097) + "]", "messages"},
      {message(R"({"content":"a"})"), "messages[0].role"},
      {message(R"({"role":"king","content":"a"})"), "messages[0].role"},
      {message(R"({"role":7,"content":"a"})"), "messages[0].role"},
      {message(R"({"role":"user"})"), "messages[0].content"},
      {message(R"({"role":"user","content":null})"), "messages[0].content"},
      {message(R"({"role":"user","content":7})"), "messages[0].content"},
      {message(R"({"role":"user","content":[7]})"), "messages[0].content[0]"},
      {message(R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]})"),
       "messages[0].content[0].type"},
      {message(R"({"role":"user","content":[{"type":"input_audio","input_audio":{}}]})"),
       "messages[0].content[0].type"},
      {message(R"({"role":"user","content":[{"type":"text"}]})"), "messages[0].content[0].text"},
      {message(R"({"role":"user","content":[{"text":"a"}]})"), "messages[0].content[0].type"},
      {message(R"({"role":"assistant","content":"a","tool_calls":{}})"), "messages[0].tool_calls"},
      {message(R"({"role":"assistant","tool_calls":[{"id":"1"}]})"),
       "messages[0].tool_calls[0].function"},
      {message(
           R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"[1]"}}]})"),
       "messages[0].tool_calls[0].function.arguments"},
      {message(R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]})"),
       "messages[0].tool_calls[0].function.arguments"},
      {message(R"({"role":"assistant","tool_calls":[{"function":{"name":"f g"}}]})"),
       "messages[0].tool_calls[0].function.name"},
      {hello + R"("top_logprobs":3)", "top_logprobs"},
      {hello + R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {hello + R"("logprobs":3)", "logprobs"},
      {hello + R"("max_tokens":0)", "max_tokens"},
      {hello + R"("max_completion_tokens":0)", "max_completion_tokens"},
      {hello + R"("max_completion_tokens":3,"max_tokens":4)", "max_completion_tokens"},
      {hello + R"("tools":{})", "tools"},
      {hello + R"("tools":[7])", "tools[0]"},
      {hello + R"("tools":[{"type":"function"}])", "tools[0].function"},
      {hello + R"("tools":[{"type":"magic","function":{"name":"f"}}])", "tools[0].type"},
      {hello + R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"},
      {hello + R"("tools":[{"type":"function","function":{"name":""}}])", "tools[0].function.name"},
      {hello + R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])",
       "tools[0].function.parameters"},
      {hello + "\"tools\":[" + tool + "," + tool + "]", "tools[1].function.name"},
      {hello + "\"tools\":[" + repeated(tool, 129) + "]", "tools"},
      {hello + R"("tool_choice":"auto")", "tool_choice"},
      {hello + R"("tool_choice":"required")", "tool_choice"},
      {hello + "\"tools\":[" + tool + R"(],"tool_choice":"maybe")", "tool_choice"},
      {hello + "\"tools\":[" + tool + R"(],"tool_choice":3)", "tool_choice"},
      {hello + "\"tools\":[" + tool + R"(],"tool_choice":{"type":"function"})",
       "tool_choice.function"},
      {hello + "\"tools\":[" + tool +
           R"(],"tool_choice":{"type":"function","function":{"name":"g"}})",
       "tool_choice.function.name"},
      {hello + "\"tools\":[" + tool + R"(],"response_format":{"type":"json_object"})",
       "response_format"},
      {hello + "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":"
               "{\"$ref\":\"#\"}}}],\"tool_choice\":\"required\"",
       "tools[0].function.parameters"},
      {hello + R"("chat_template":"{{ 1 }}")", "chat_template"},
      {hello + R"("chat_template_kwargs":7)", "chat_template_kwargs"},
      {hello + R"("chat_template_kwargs":{"messages":[]})", "chat_template_kwargs.messages"},
      {hello + R"("chat_template_kwargs":{"add_generation_prompt":false})",
       "chat_template_kwargs.add_generation_prompt"},
      {hello + R"("continue_final_message":true,"add_generation_prompt":true)",
       "continue_final_message"},
      {hello + R"("modalities":["text","audio"])", "modalities"},
      {hello + R"("audio":{"voice":"x"})", "audio"},
      {hello + R"("functions":[{"name":"f"}])", "functions"},
      {hello + R"("store":true)", "store"},
      {hello + R"("reasoning_effort":"high")", "reasoning_effort"},
  };
  for (const BadField& field : bad) {
    ChatRequest request;
    const auto error = chat("{" + field.json + "}", request);
    ASSERT_TRUE(error) << field.json.substr(0, 200);
    EXPECT_EQ(error->param, field.param) << field.json.substr(0, 200) << "\n" << error->message;
    EXPECT_LT(error->message.size(), 600u);
  }
}

TEST(ApiRequest, BodiesThatAreNoObjectsAreRefused) {
  const std::string deep(200, '[');
  for (const std::string& body :
       std::vector<std::string>{"", "null", "[]", "7", "{", "{}x", "\xff", "{\"a\":1,\"a\":2}",
                                deep, "{\"a\":\"\\ud800\"}", "{\"prompt\":\"a\x01\"}"}) {
    json::Object object;
    const auto error = parse_body(body, {}, object);
    ASSERT_TRUE(error) << body;
    EXPECT_EQ(error->status, 400);
    EXPECT_EQ(error->param, "");
  }
  json::Object object;
  EXPECT_TRUE(parse_body(std::string(100, ' '), {.body_bytes = 50}, object));
}

TEST(ApiRequest, NeutralValuesOfUnsupportedFieldsAreAccepted) {
  ChatRequest request;
  const auto error = chat(
      R"({"messages":[{"role":"user","content":"a"}],"best_of":1,"audio":null,"store":false,
          "modalities":["text"],"use_beam_search":false,"length_penalty":1.0,"service_tier":"auto",
          "bad_words":[],"logit_bias":{},"stop":null,"tools":[],"tool_choice":"none",
          "response_format":{"type":"text"},"metadata":{"a":"b"},"seed":-5,"top_k":-1,
          "parallel_tool_calls":true,"functions":[],"echo":false,"priority":0})",
      request);
  EXPECT_FALSE(error) << error->message;
  EXPECT_TRUE(request.unknown.empty());
  EXPECT_EQ(request.generation.sampling.seed, static_cast<std::uint64_t>(-5));
  EXPECT_EQ(request.generation.sampling.top_k, 0);
}

TEST(ApiRequest, WholeNumbersMayBeWrittenWithAPoint) {
  CompletionRequest request;
  const auto error = completion(
      R"({"prompt":[7.0,1e1],"max_tokens":301.0,"n":2E0,"top_k":-1.0,"seed":-4e18,
          "logprobs":0.0,"stop_token_ids":[3.0],"best_of":1.0})",
      request);
  ASSERT_FALSE(error) << error->message;
  const GenerationParams& generation = request.generation;
  EXPECT_EQ(std::get<std::vector<TokenId>>(request.prompts[0]), (std::vector<TokenId>{7, 10}));
  EXPECT_EQ(generation.max_tokens, 301);
  EXPECT_EQ(generation.n, 2);
  EXPECT_EQ(generation.sampling.top_k, 0);
  EXPECT_EQ(static_cast<std::int64_t>(generation.sampling.seed), -4'000'000'000'000'000'000);
  EXPECT_EQ(generation.logprobs, 0);
  EXPECT_EQ(generation.stop_tokens, std::vector<TokenId>{3});
  for (const std::string value :
       {"9223372036854775808", "-9223372036854775809", "-9.3e18", "1.5", "1e300", "0.1"}) {
    const auto refused = completion("{\"prompt\":\"a\",\"seed\":" + value + "}", request);
    ASSERT_TRUE(refused) << value;
    EXPECT_EQ(refused->param, "seed");
  }
}

TEST(ApiRequest, RoundingToFloatKeepsOpenRanges) {
  CompletionRequest request;
  const auto error = completion(
      R"({"prompt":"a","top_p":1e-60,"min_p":0.999999999999,"repetition_penalty":1e-300})",
      request);
  ASSERT_FALSE(error) << error->message;
  const SamplingParams& sampling = request.generation.sampling;
  EXPECT_GT(sampling.top_p, 0.0f);
  EXPECT_LT(sampling.min_p, 1.0f);
  EXPECT_GT(sampling.repetition_penalty, 0.0f);
  EXPECT_TRUE(check_sampling(sampling).ok());
}

TEST(ApiRequest, UnknownFieldsAreNamedUpToALimit) {
  std::string body = "{\"prompt\":\"a\"";
  for (int i = 0; i < 1000; ++i)
    body += ",\"x" + std::to_string(i) + std::string(100, 'y') + "\":1";
  CompletionRequest request;
  const auto error = completion(body + "}", request);
  EXPECT_FALSE(error);
  EXPECT_EQ(request.unknown.size(), RequestFields::kMaxUnknown);
  EXPECT_EQ(request.unknown[0].size(), RequestFields::kMaxUnknownBytes);
}

TEST(ApiRequest, WhatARequestLeavesOpenComesFromTheModel) {
  RequestRules some = rules();
  some.sampling.temperature = 0.6f;
  some.sampling.top_p = 0.9f;
  CompletionRequest request;
  ASSERT_FALSE(completion(R"({"prompt":"a","top_p":0.5})", request, some));
  EXPECT_EQ(request.generation.sampling.temperature, 0.6f);
  EXPECT_EQ(request.generation.sampling.top_p, 0.5f);
  EXPECT_EQ(request.generation.max_tokens, 16);
  EXPECT_FALSE(request.generation.has_seed);
  ChatRequest other;
  ASSERT_FALSE(
      chat(R"({"messages":[{"role":"user","content":"a"}],"temperature":0})", other, some));
  EXPECT_EQ(other.generation.sampling.temperature, 0.0f);
  EXPECT_FALSE(other.generation.max_tokens);
}

TEST(ApiRequest, LengthsAreCheckedTogether) {
  GenerationParams generation;
  std::int64_t tokens = 0;
  EXPECT_FALSE(fit_length(generation, 10, 100, tokens));
  EXPECT_EQ(tokens, 90);  // whatever fits
  EXPECT_EQ(fit_length(generation, 0, 100, tokens)->param, "prompt");
  EXPECT_EQ(fit_length(generation, 100, 100, tokens)->param, "prompt");
  EXPECT_EQ(fit_length(generation, 101, 100, tokens)->param, "prompt");
  generation.max_tokens = 90;
  EXPECT_FALSE(fit_length(generation, 10, 100, tokens));
  EXPECT_EQ(tokens, 90);
  EXPECT_EQ(fit_length(generation, 11, 100, tokens)->param, "max_tokens");
  EXPECT_EQ(fit_length(generation, 11, 100, tokens)->code, "context_length_exceeded");
  generation.max_tokens = std::int64_t{1} << 31;
  EXPECT_EQ(fit_length(generation, 1, 100, tokens)->param, "max_tokens");
  generation.max_tokens_name = "max_completion_tokens";
  EXPECT_EQ(fit_length(generation, 1, 100, tokens)->param, "max_completion_tokens");
  generation.max_tokens = 0;  // only with echo
  EXPECT_FALSE(fit_length(generation, 100, 100, tokens));
  generation.max_tokens = 5;
  generation.min_tokens = 6;
  EXPECT_EQ(fit_length(generation, 1, 100, tokens)->param, "min_tokens");
  generation.max_tokens.reset();
  generation.min_tokens = 100;
  EXPECT_EQ(fit_length(generation, 1, 100, tokens)->param, "min_tokens");
}

TEST(ApiRequest, ConversationsBecomeWhatTemplatesExpect) {
  ChatRequest request;
  const auto error = chat(
      R"({"messages":[
            {"role":"developer","content":"Be brief."},
            {"role":"user","name":"Ann","content":[{"type":"text","text":"a"},
                                                   {"type":"text","text":"b"}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
               "function":{"name":"f","arguments":"{\"x\": [1, null]}"}}]},
            {"role":"tool","tool_call_id":"c1","content":"7"}],
          "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],
          "chat_template_kwargs":{"enable_thinking":false}})",
      request);
  ASSERT_FALSE(error) << error->message;
  EXPECT_EQ(json::dump(request.prompt.messages),
            R"([{"role":"system","content":"Be brief."},)"
            R"({"role":"user","content":"a\nb","name":"Ann"},)"
            R"({"role":"assistant","content":"","tool_calls":[{"type":"function","function":)"
            R"({"name":"f","arguments":{"x":[1,null]}},"id":"c1"}]},)"
            R"({"role":"tool","content":"7","tool_call_id":"c1"}])");
  EXPECT_TRUE(request.prompt.tools.is_array());
  EXPECT_EQ(request.tool_choice, ToolChoice::kAuto);
  EXPECT_EQ(request.tool_names, std::vector<std::string>{"f"});
  EXPECT_TRUE(request.prompt.add_generation_prompt);
  EXPECT_EQ(json::dump(request.prompt.variables), R"({"enable_thinking":false})");
}

TEST(ApiRequest, ForcedCallsBecomeASchema) {
  const std::string body =
      R"({"messages":[{"role":"user","content":"a"}],"parallel_tool_calls":false,"tools":[
          {"type":"function","function":{"name":"f","parameters":{"type":"object",
            "properties":{"x":{"$ref":"#/$defs/X"}},"$defs":{"X":{"type":"integer"}}}}},
          {"type":"function","function":{"name":"g"}}],"tool_choice":)";
  ChatRequest request;
  auto error = chat(body + "\"required\"}", request);
  ASSERT_FALSE(error) << error->message;
  EXPECT_EQ(request.generation.grammar->text,
            R"({"$defs":{"X":{"type":"integer"}},"type":"array","minItems":1,"maxItems":1,)"
            R"("items":{"anyOf":[{"type":"object","properties":{"name":{"const":"f"},)"
            R"("parameters":{"type":"object","properties":{"x":{"$ref":"#/$defs/X"}}}},)"
            R"("required":["name","parameters"],"additionalProperties":false},)"
            R"({"type":"object","properties":{"name":{"const":"g"},)"
            R"("parameters":{"type":"object"}},)"
            R"("required":["name","parameters"],"additionalProperties":false}]}})");
  ChatRequest named;
  error = chat(body + R"({"type":"function","function":{"name":"g"}}})", named);
  ASSERT_FALSE(error) << error->message;
  EXPECT_EQ(named.tool_choice, ToolChoice::kNamed);
  EXPECT_EQ(named.generation.grammar->text, R"({"type":"object"})");
  // Where grammars are missing, that is said; nothing is left to chance.
  RequestRules some = rules();
  some.structured_output = false;
  ChatRequest refused;
  EXPECT_EQ(chat(body + "\"required\"}", refused, some)->param, "tool_choice");
  CompletionRequest plain;
  EXPECT_EQ(completion(R"({"prompt":"a","guided_regex":"a+"})", plain, some)->param,
            "guided_regex");
  some.automatic_tools = false;
  ChatRequest unsearched;
  EXPECT_EQ(chat(body + "\"auto\"}", unsearched, some)->param, "tool_choice");
}

TEST(ApiRequest, StructuredOutputInEverySpelling) {
  const std::vector<std::pair<std::string, GrammarSpec::Kind>> spellings = {
      {R"("response_format":{"type":"json_object"})", GrammarSpec::Kind::kJsonObject},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"a":1}}})",
       GrammarSpec::Kind::kJsonSchema},
      {R"("guided_json":{"a":1})", GrammarSpec::Kind::kJsonSchema},
      {R"("guided_json":"{\"a\":1}")", GrammarSpec::Kind::kJsonSchema},
      {R"("structured_outputs":{"json":{"a":1}})", GrammarSpec::Kind::kJsonSchema},
      {R"("guided_regex":"a+")", GrammarSpec::Kind::kRegex},
      {R"("structured_outputs":{"regex":"a+"})", GrammarSpec::Kind::kRegex},
      {R"("guided_choice":["a","b"])", GrammarSpec::Kind::kChoice},
  };
  for (const auto& [text, kind] : spellings) {
    CompletionRequest request;
    const auto error = completion("{\"prompt\":\"a\"," + text + "}", request);
    ASSERT_FALSE(error) << text << "\n" << error->message;
    ASSERT_TRUE(request.generation.grammar) << text;
    EXPECT_EQ(request.generation.grammar->kind, kind) << text;
    if (kind == GrammarSpec::Kind::kJsonSchema) {
      EXPECT_EQ(request.generation.grammar->text, R"({"a":1})");
    }
  }
}

}  // namespace
}  // namespace liquidgemm::server
