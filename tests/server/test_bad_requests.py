"""Bad input over HTTP: whatever a client sends, it gets a 4xx that names the field, and the server
stays alive, gives the next good request its answer, and keeps its memory.

Each test is one class of bad input. Values are JSON texts, for some of them no Python value gives.
"""

from __future__ import annotations

import itertools
import json
import re

import pytest

from live_server import (
    BODY_BYTES,
    CAPACITY,
    CHAT,
    COMPLETIONS,
    DETOKENIZE,
    GOOD,
    TOKENIZE,
    VOCABULARY,
    Problems,
    watched_server,
    with_field,
)
from conftest import binary_exists, model, quantized  # noqa: F401

FLAGS = ["--tool-call-parser", "hermes"]
NO_NUMBERS = ["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10"]
WRONG_TYPES = {
    "number": ['"3"', '"NaN"', '"Infinity"', "true", "[]", "[1]", "{}"],
    "boolean": ["0", "1", "1.5", '"true"', '""', "[]", "{}"],
    "string": ["0", "-1", "1.5", "true", "[]", "{}"],
    "list": ["0", "1.5", "true", "{}"],
    "object": ["0", "1.5", "true", "[]", '"a"'],
}
# Lowest and highest value. Each has to be whole, written as 3 or 3.0.
INTEGERS = {
    COMPLETIONS: {
        "n": (1, 16),
        "max_tokens": (1, 200),
        "min_tokens": (0, 2),
        "top_k": (-1, 2**31 - 1),
        "seed": (-(2**63), 2**63 - 1),
        "logprobs": (0, 20),
    },
    CHAT: {
        "n": (1, 16),
        "max_tokens": (1, 200),
        "min_tokens": (0, 2),
        "top_k": (-1, 2**31 - 1),
        "seed": (-(2**63), 2**63 - 1),
        "top_logprobs": (0, 20),
        "max_completion_tokens": (1, 200),
    },
}
INTEGER_TEXTS = ["-1", "0", "3", "3.0", "3e0", "1.5", "2147483648", "-2147483649", "1e20"]
INTEGER_TEXTS += ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e300"]
# Values outside, and the nearest ones inside.
FLOATS = {
    "temperature": (["-1e-9", "101", "1e30"], ["0", "-0.0", "1e-45", "1e-320", "100"]),
    "top_p": (["0", "-0.0", "-1", "1.0001", "1e30"], ["1e-60", "5e-324", "1", "1.0"]),
    "min_p": (["-1e-9", "1", "1.5", "1e30"], ["0", "1e-320", "0.9999999999999"]),
    "repetition_penalty": (["0", "-1", "101", "1e30"], ["1e-60", "1e-38", "100"]),
    "presence_penalty": (["-2.0001", "2.0001", "-1e30", "1e30"], ["-2", "2", "1e-320"]),
    "frequency_penalty": (["-2.0001", "2.0001", "-1e30", "1e30"], ["-2", "2", "1e-320"]),
}
BOTH = [COMPLETIONS, CHAT]
TYPED = {
    "boolean": {
        COMPLETIONS: ["echo"],
        CHAT: [
            "logprobs",
            "parallel_tool_calls",
            "add_generation_prompt",
            "continue_final_message",
        ],
        TOKENIZE: ["return_token_strs", "add_special_tokens"],
    },
    "string": {TOKENIZE: ["model", "prompt"], DETOKENIZE: ["model"]},
    "list": {CHAT: ["messages", "tools"], DETOKENIZE: ["tokens"], COMPLETIONS: []},
    "object": {CHAT: ["chat_template_kwargs"], COMPLETIONS: []},
}
SHARED = {
    "boolean": ["stream", "ignore_eos", "include_stop_str_in_output", "skip_special_tokens"],
    "string": ["model", "user", "cache_salt", "guided_regex", "safety_identifier"],
    "list": ["stop", "stop_token_ids", "guided_choice"],
    "object": ["logit_bias", "response_format", "stream_options", "structured_outputs", "metadata"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, quantized):  # noqa: F811
    with watched_server(tmp_path_factory.mktemp("serve"), quantized, *FLAGS) as server:
        yield server


@pytest.fixture(autouse=True)
def stays_well(server):
    yield
    server.assert_well()


# ---- Fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BOTH)
def test_integers(server, path):
    with Problems() as problems:
        for name, (low, high) in INTEGERS[path].items():
            for text in INTEGER_TEXTS:
                value = int(text) if re.fullmatch(r"-?\d+", text) else float(text)
                if value == int(value) and low <= value <= high:
                    problems.accepted(server, path, with_field(path, name, text))
                else:
                    problems.refused(server, path, with_field(path, name, text), name)
            for text in WRONG_TYPES["number"]:
                problems.refused(server, path, with_field(path, name, text), name)
            for text in NO_NUMBERS:
                problems.refused(server, path, with_field(path, name, text), "request body")
            problems.accepted(server, path, with_field(path, name, "null"))


@pytest.mark.parametrize("path", BOTH)
def test_floats(server, path):
    with Problems() as problems:
        for name, (outside, inside) in FLOATS.items():
            for text in outside + WRONG_TYPES["number"]:
                problems.refused(server, path, with_field(path, name, text), name)
            for text in NO_NUMBERS:
                problems.refused(server, path, with_field(path, name, text), "request body")
            for text in [*inside, "null"]:
                problems.accepted(server, path, with_field(path, name, text))


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("kind", TYPED)
def test_types(server, kind, path):
    names = TYPED[kind].get(path, []) + (SHARED[kind] if path in BOTH else [])
    with Problems() as problems:
        for name, text in itertools.product(names, WRONG_TYPES[kind]):
            problems.refused(server, path, with_field(path, name, text), name)
        for name in names:
            body = with_field(path, name, "null")
            if name in ("messages", "tokens", "prompt"):
                problems.refused(server, path, body, name)
            else:
                problems.accepted(server, path, body)


@pytest.mark.parametrize("path", BOTH)
def test_known_but_not_supported(server, path):
    fields = {
        "best_of": 2,
        "use_beam_search": True,
        "length_penalty": 2,
        "early_stopping": True,
        "truncate_prompt_tokens": 5,
        "allowed_token_ids": [1],
        "bad_words": ["a"],
        "logits_processors": ["a"],
        "logprob_token_ids": [1] * 200,
        "prompt_logprobs": 1,
        "prompt_embeds": "a",
        "priority": 1,
        "request_id": "a",
        "guided_grammar": "root ::= root",
        "guided_whitespace_pattern": " ",
        "structural_tag": {},
        "kv_transfer_params": {},
        "lora_path": "/etc/passwd",
        "chat_template": "{{ 1 }}",
        "documents": [{"a": "b"}],
        "functions": [{}],
        "audio": {},
        "suffix": "a",
    }
    only_chat = {"chat_template", "documents", "functions", "audio"}
    with Problems() as problems:
        for name, value in fields.items():
            if name in only_chat and path == COMPLETIONS or name == "suffix" and path == CHAT:
                continue
            problems.refused(server, path, GOOD[path] | {name: value}, name)
            problems.accepted(server, path, GOOD[path] | {name: None})


def test_bodies_that_are_no_objects(server):
    bodies = [
        "",
        " ",
        "null",
        "true",
        "7",
        '"a"',
        "[]",
        "[{}]",
        "{",
        "}",
        '{"a"}',
        '{"a":}',
        "{'a':1}",
    ]
    bodies += [
        '{"prompt":"a",}',
        '{"prompt":"a"} x',
        '{"prompt":"a"}{}',
        '{"prompt":"a","prompt":"b"}',
    ]
    bodies += ["\ufeff{}", "//a\n{}", b"\xff\xfe{}", b"\x00", "[" * 100_000, '{"a":' * 100_000]
    bodies += [b'{"prompt":"' + bad + b'"}' for bad in INVALID_TEXTS]
    with Problems() as problems:
        for path, body in itertools.product(GOOD, bodies):
            problems.refused(server, path, body, "request body")
        for path in GOOD:
            required = {COMPLETIONS: "prompt", CHAT: "messages", TOKENIZE: "prompt"}
            problems.refused(server, path, "{}", required.get(path, "tokens"))
            problems.refused(server, path, GOOD[path] | {"model": "no-such"}, "model", (404,))
            problems.refused(server, path, GOOD[path] | {"model": "a" * 2000}, "model", (400, 404))
            big = json.dumps(GOOD[path])[:-1] + ',"x":"' + "a" * BODY_BYTES + '"}'
            problems.refused(server, path, big, "body", (413,))


# Surrogates alone or in the wrong order; bytes that are no UTF-8, overlong, cut; control codes.
INVALID_TEXTS = [rb"\ud800", rb"\udc00a", rb"\udc00\ud800", rb"\ud800\ud800", rb"\u12", rb"\x41"]
INVALID_TEXTS += [
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"\xe2\x82",
    b"\x01",
    b"\n",
]


# ---- Fan-out and prompts -------------------------------------------------------------------------


def test_too_many(server):
    def chat_with(**message):
        return {"messages": [{"role": "assistant", "content": "a"} | message]}

    tool = {"type": "function", "function": {"name": "f"}}
    part = {"type": "text", "text": "a"}
    every = [  # on both endpoints
        ({"n": 17}, "n"),
        ({"best_of": 1000}, "best_of"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": "a" * 257}, "stop"),
        ({"stop": ["a", "b" * 257]}, "stop[1]"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stop_token_ids": [1] * 129}, "stop_token_ids"),
        ({"stop_token_ids": [VOCABULARY]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [1, -1]}, "stop_token_ids[1]"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"logit_bias": {str(VOCABULARY): 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"01": 1}}, "logit_bias"),
        ({"logit_bias": {"1.0": 1}}, "logit_bias"),
        ({"logit_bias": {"99999999999999999999": 1}}, "logit_bias"),
        ({"logit_bias": {"a" * 100_000: 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"logit_bias": {"1": 1e300}}, "logit_bias.1"),
        ({"logit_bias": {"1": "1"}}, "logit_bias.1"),
        ({"logit_bias": {"1": None}}, "logit_bias.1"),
        ({"cache_salt": "a" * 1025}, "cache_salt"),
        ({"user": "a" * 1025}, "user"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
    ]
    own = [
        (COMPLETIONS, {"logprobs": 21}, "logprobs"),
        (COMPLETIONS, {"prompt": ["a"] * 65}, "prompt"),
        (COMPLETIONS, {"prompt": [[5]] * 65}, "prompt"),
        (COMPLETIONS, {"prompt": ["a"] * 64, "n": 3}, "n"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"top_logprobs": 1}, "top_logprobs"),
        (CHAT, {"messages": [{"role": "user", "content": "a"}] * 4097}, "messages"),
        (CHAT, chat_with(content=[part] * 1025), "messages[0].content"),
        (CHAT, chat_with(tool_calls=[tool] * 129), "messages[0].tool_calls"),
        (CHAT, {"tools": [{**tool, "function": {"name": f"f{i}"}} for i in range(129)]}, "tools"),
        (CHAT, {"tools": [tool, tool]}, "tools[1].function.name"),
        (CHAT, {"chat_template_kwargs": {f"a{i}": 1 for i in range(65)}}, "chat_template_kwargs"),
        (DETOKENIZE, {"tokens": [5] * 10_000 + [VOCABULARY]}, "tokens[10000]"),
        (DETOKENIZE, {"tokens": [-1]}, "tokens[0]"),
        (DETOKENIZE, {"tokens": [2**31]}, "tokens[0]"),
        (DETOKENIZE, {"tokens": [1.5]}, "tokens[0]"),
        (DETOKENIZE, {"tokens": ["1"]}, "tokens[0]"),
        (DETOKENIZE, {"tokens": [True]}, "tokens[0]"),
    ]
    own += [(path, change, field) for path in BOTH for change, field in every]
    with Problems() as problems:
        for path, change, field in own:
            problems.refused(server, path, GOOD[path] | change, field)


def test_prompts(server):
    bad = ["[]", "[[]]", "[[5],[]]", "[true]", "[null]", "[{}]", "[1.5]", "[-1]", f"[{VOCABULARY}]"]
    bad += ["[2147483648]", "[9223372036854775808]", "[1e20]", '["a",5]', '[5,"a"]', '["a",[5]]']
    bad += ['[[5],"a"]', "[[[5]]]", "[[-1]]", "[[5,null]]", "null", "true", "5", "{}", '""', '[""]']
    bad += ['["a",""]', '"' + "the " * 300 + '"', json.dumps([5] * 257), "[" + "[" * 60 + "]" * 61]
    good = ['"\\u0000"', '"a\\u0000b"', '"\\ud83d\\ude00"', '" "', '"<|im_start|>"', "[0]", "[1,2]"]
    good += [f"[{VOCABULARY - 1}]", "[5.0]", '"\\u202e\\ufeff\\uffff"', json.dumps([5] * 254)]
    with Problems() as problems:
        for text in bad:
            problems.refused(server, COMPLETIONS, with_field(COMPLETIONS, "prompt", text), "prompt")
        for text in good:
            problems.accepted(server, COMPLETIONS, with_field(COMPLETIONS, "prompt", text))
        content = {"role": "user", "content": "the " * 300}
        problems.refused(server, CHAT, {"messages": [content]}, "messages")


def test_lengths_together(server):
    def prompt(tokens, **rest):
        return {"prompt": [5] * tokens} | rest

    with Problems() as problems:
        problems.accepted(server, COMPLETIONS, prompt(CAPACITY - 1, max_tokens=1))
        problems.accepted(server, COMPLETIONS, prompt(CAPACITY, max_tokens=0, echo=True))
        problems.refused(server, COMPLETIONS, prompt(CAPACITY, max_tokens=1), "prompt")
        problems.refused(server, COMPLETIONS, prompt(CAPACITY + 1, max_tokens=1), "prompt")
        problems.refused(server, COMPLETIONS, prompt(CAPACITY - 2, max_tokens=3), "max_tokens")
        problems.refused(server, COMPLETIONS, prompt(5, max_tokens=0), "max_tokens")
        problems.refused(server, COMPLETIONS, prompt(5, min_tokens=17), "min_tokens")
        for path in BOTH:
            body = GOOD[path] | {"max_tokens": 5, "min_tokens": 6}
            problems.refused(server, path, body, "min_tokens")
            body = GOOD[path] | {"max_tokens": None, "min_tokens": CAPACITY}
            problems.refused(server, path, body, "min_tokens")
            problems.accepted(server, path, GOOD[path] | {"max_tokens": 5, "min_tokens": 5})
        body = GOOD[CHAT] | {"max_tokens": 5, "max_completion_tokens": 6}
        problems.refused(server, CHAT, body, "max_completion_tokens")


# ---- Conversations and templates -----------------------------------------------------------------


def test_conversations(server):
    def says(**message):
        return {"messages": [{"role": "user", "content": "a"} | message]}

    url = {"url": "http://169.254.169.254/latest"}
    image = {"type": "image_url", "image_url": url}
    bad = [
        ({"messages": []}, "messages"),
        ({"messages": ["a"]}, "messages[0]"),
        ({"messages": [None]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        (says(role="robot"), "messages[0].role"),
        (says(role=1), "messages[0].role"),
        (says(role="a" * 100_000), "messages[0].role"),
        (says(content=None), "messages[0].content"),
        (says(content=1), "messages[0].content"),
        (says(content={}), "messages[0].content"),
        (says(content=["a"]), "messages[0].content[0]"),
        (says(content=[{}]), "messages[0].content[0].type"),
        (says(content=[{"type": "text"}]), "messages[0].content[0].text"),
        (says(content=[{"type": "text", "text": 1}]), "messages[0].content[0].text"),
        (says(content=[image]), "messages[0].content[0].type"),
        (says(content=[{"type": "text", "text": "a"}, image]), "messages[0].content[1].type"),
        (says(content=[{"type": "input_audio", "input_audio": {}}]), "messages[0].content[0]"),
        (says(content=[{"type": "video_url", "video_url": url}]), "messages[0].content[0]"),
        (says(content=[{"type": "file", "file": {"file_id": "../a"}}]), "messages[0].content[0]"),
        (says(name=1), "messages[0].name"),
        (says(role="assistant", tool_calls={}), "messages[0].tool_calls"),
        (says(role="assistant", tool_calls=[1]), "messages[0].tool_calls[0]"),
        (says(role="assistant", tool_calls=[{}]), "messages[0].tool_calls[0].function"),
        (says(role="assistant", function_call={"name": "f"}), "messages[0].function_call"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"chat_template": "{% for a in range(100000) %}{% endfor %}"}, "chat_template"),
        ({"chat_template": "{{ ''.__class__.__mro__ }}"}, "chat_template"),
    ]
    for arguments in ("{", "[]", "1", "[" * 1000, 1, []):
        call = {"function": {"name": "f", "arguments": arguments}}
        bad.append(
            (says(role="assistant", tool_calls=[call]), "messages[0].tool_calls[0].function")
        )
    reserved = ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"]
    reserved += ["chat_template", "continue_final_message", "range", "namespace", "raise_exception"]
    bad += [
        ({"chat_template_kwargs": {name: 1}}, "chat_template_kwargs." + name) for name in reserved
    ]
    with Problems() as problems:
        for change, field in bad:
            problems.refused(server, CHAT, GOOD[CHAT] | change, field)
            if "tool" not in field:
                problems.refused(server, TOKENIZE, GOOD[CHAT] | change, field)
        problems.accepted(server, CHAT, GOOD[CHAT] | {"chat_template_kwargs": {"thinking": False}})


def test_tools(server):
    def tools(**function):
        return {"tools": [{"type": "function", "function": {"name": "f"} | function}]}

    function = "tools[0].function"
    bad = [
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, function),
        ({"tools": [{"type": "function", "function": 1}]}, function),
        ({"tools": [{"type": "function", "function": {}}]}, function + ".name"),
        (tools(name=""), function + ".name"),
        (tools(name="a b"), function + ".name"),
        (tools(name="a" * 65), function + ".name"),
        (tools(name=1), function + ".name"),
        (tools(name="\u00e9"), function + ".name"),
        (tools(description=1), function + ".description"),
        (tools(parameters="{}"), function + ".parameters"),
        (tools(parameters=[]), function + ".parameters"),
        (tools(strict="a"), function + ".strict"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        (tools() | {"tool_choice": {}}, "tool_choice"),
        (tools() | {"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        (tools() | {"guided_regex": "a"}, "guided_regex"),
    ]
    with Problems() as problems:
        for change, field in bad:
            problems.refused(server, CHAT, GOOD[CHAT] | change, field)
