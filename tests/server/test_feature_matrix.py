"""Every combination of what shapes an answer: all are served, and agree where they must."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from live_server import CHAT, COMPLETIONS, live_server
from conftest import binary_exists, model, quantized  # noqa: F401

PENALTIES = [
    {},
    {"presence_penalty": 1.5, "frequency_penalty": -0.5},
    {"repetition_penalty": 1.4, "logit_bias": {"40": 3, "50": -100}},
]
GRAMMARS = [
    ({}, ".*"),
    ({"guided_regex": "[a-z]{1,9}[0-9]"}, "[a-z]*[0-9]?"),
    (
        {"guided_choice": ["the land", "the end"]},
        "|".join("the land"[:i] for i in range(9)) + "|the e?n?d?",
    ),
    ({"response_format": {"type": "json_object"}}, r"\s*(\{.*)?"),
]
LOGPROBS = [None, 0, 4]
COUNTS = [1, 3]
MAX_TOKENS = 6
TEXT = "the land and the end of the sea in the sand " * 3  # more than a page of tokens


@pytest.fixture(scope="module")
def server(tmp_path_factory, quantized):  # noqa: F811
    flags = ["--max-model-len", "256", "--max-num-seqs", "4"]
    with live_server(tmp_path_factory.mktemp("serve"), quantized, *flags) as server:
        server.learn_goldens()
        yield server


def choices_of(answer, is_chat: bool) -> tuple[list[dict], dict]:
    """Of a whole answer: text, logprobs and end of each choice; the usage."""
    found = []
    for index, choice in enumerate(answer["choices"]):
        assert choice["index"] == index
        text = choice["message"]["content"] if is_chat else choice["text"]
        found.append(
            {"text": text, "end": choice["finish_reason"], "tokens": tokens_of(choice, is_chat)}
        )
    return found, answer["usage"]


def streamed_choices(events: list[dict], count: int, is_chat: bool) -> tuple[list[dict], dict]:
    """The same of a stream's events."""
    found = [{"text": "", "end": None, "tokens": []} for _ in range(count)]
    for event in events[:-1]:
        for choice in event["choices"]:
            one = found[choice["index"]]
            text = choice["delta"].get("content") if is_chat else choice["text"]
            one["text"] += text or ""
            one["end"] = choice["finish_reason"] or one["end"]
            one["tokens"] += tokens_of(choice, is_chat)
    assert events[-1]["choices"] == []
    return found, events[-1]["usage"]


def tokens_of(choice: dict, is_chat: bool) -> list:
    """Each token's text, its logprob and how many others are told."""
    logprobs = choice.get("logprobs")
    if not logprobs:
        return []
    if is_chat:
        return [(t["token"], t["logprob"], len(t["top_logprobs"])) for t in logprobs["content"]]
    top = [
        len(others or {}) for others in logprobs["top_logprobs"] or [{}] * len(logprobs["tokens"])
    ]
    return list(zip(logprobs["tokens"], logprobs["token_logprobs"], top))


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_every_combination(server, path):
    is_chat = path == CHAT
    salts = itertools.count()
    grammars = GRAMMARS if server.has_grammar() else GRAMMARS[:1]
    for penalties, grammar, logprobs, count in itertools.product(
        PENALTIES, grammars, LOGPROBS, COUNTS
    ):
        fields, pattern = grammar
        body = (
            {"max_tokens": MAX_TOKENS, "temperature": 1.2, "seed": 5, "n": count}
            | penalties
            | fields
        )
        body |= {"cache_salt": f"{path}{next(salts)}"}
        body |= {"messages": [{"role": "user", "content": TEXT}]} if is_chat else {"prompt": TEXT}
        if logprobs is not None:
            body |= (
                {"logprobs": True, "top_logprobs": logprobs} if is_chat else {"logprobs": logprobs}
            )
        answers = []
        for stream in (False, True):  # the second of them finds the first's prefix
            extra = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
            answer = server.post(path, body | extra)
            assert answer.status == 200, (body, answer.body)
            if stream:
                answers.append(streamed_choices(answer.events(), count, is_chat))
            else:
                answers.append(choices_of(answer.json(), is_chat))
        (whole, usage), (streamed, streamed_usage) = answers
        assert whole == streamed, body
        assert streamed_usage["prompt_tokens_details"]["cached_tokens"] >= 64, (
            body,
            streamed_usage,
        )
        assert (
            usage["completion_tokens"] == streamed_usage["completion_tokens"] <= MAX_TOKENS * count
        )
        assert len(whole) == count
        for one in whole:
            assert one["end"] in ("stop", "length"), body
            assert re.fullmatch(pattern, one["text"], re.S), (body, one)
            if logprobs is None:
                assert one["tokens"] == []
                continue
            assert 1 <= len(one["tokens"]) <= MAX_TOKENS, (body, one)
            for _, logprob, others in one["tokens"]:
                assert logprob <= 0 and others <= max(logprobs + (not is_chat), 0), (body, one)
    server.assert_well()


def test_echo_with_prompt_logprobs(server):
    for logprobs, count, stream in itertools.product([None, 0, 3], COUNTS, [False, True]):
        body = {
            "prompt": TEXT,
            "max_tokens": 2,
            "echo": True,
            "n": count,
            "seed": 1,
            "stream": stream,
        }
        if logprobs is not None:
            body["logprobs"] = logprobs
        answer = server.post(COMPLETIONS, body)
        assert answer.status == 200, (body, answer.body)
        chunks = answer.events() if stream else [answer.json()]
        for index in range(count):
            mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
            text = "".join(choice["text"] for choice in mine)
            assert text.startswith(TEXT), json.dumps(body)
            tokens = [token for choice in mine for token in tokens_of(choice, False)]
            assert bool(tokens) == (logprobs is not None)
            assert all(logprob is None or logprob <= 0 for _, logprob, _ in tokens)
    server.assert_well()
