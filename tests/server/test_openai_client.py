"""OpenAI's own Python client against the real program: it needs no change but the address.

The package `openai` is not among the tests' packages; where it is missing, these tests are skipped.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

openai = pytest.importorskip(
    "openai", reason="the Python package `openai` is not installed (pip install openai)"
)
import pydantic  # noqa: E402  (comes with openai)

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cli"))
import checkpoints  # noqa: E402

BINARY = os.environ.get("LIQUID_BINARY", str(ROOT / "build/release/bin/liquid"))
TIMEOUT = 600 if os.environ.get("LIQUIDGEMM_SANITIZE") else 60
KEY = "a-key-of-this-test"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model, quantized."""
    folder = tmp_path_factory.mktemp("openai")
    checkpoints.write_model(folder / "tiny")
    subprocess.run(
        [BINARY, "quantize", folder / "tiny", "-o", folder / "tiny-w4a8"],
        check=True,
        capture_output=True,
        timeout=TIMEOUT,
    )
    return folder


@contextlib.contextmanager
def serving(folder, *arguments):
    command = [BINARY, "serve", folder / "tiny-w4a8", "--port", "0", "--api-key", KEY, *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    try:
        line = process.stdout.readline()
        assert line.startswith("Ready: "), line + (folder / "log").read_text()
        yield line.removeprefix("Ready: ").strip() + "/v1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def make_client(url, key=KEY):
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=TIMEOUT)


@pytest.fixture(scope="module")
def url(folder):
    with serving(folder, "--tool-call-parser", "hermes") as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    with make_client(url) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    (model,) = client.models.list().data
    return model.id


def test_models(client, model):
    assert model == "tiny-w4a8"
    assert client.models.retrieve(model).id == model


def test_completions(client, model):
    prompts = ["the sand", "an inn"]
    answer = client.completions.create(
        model=model, prompt=prompts, n=2, max_tokens=7, seed=1, logprobs=3, echo=True,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for choice in answer.choices:
        assert choice.text.startswith(prompts[choice.index // 2])
        assert choice.finish_reason == "length"
        logprobs = choice.logprobs
        assert logprobs.token_logprobs[0] is None
        assert all(value <= 0 for value in logprobs.token_logprobs[1:])
        assert len(logprobs.tokens) == len(logprobs.text_offset) == len(logprobs.top_logprobs)
    assert answer.usage.completion_tokens == 4 * 7
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 4 * 7

    tokens = client.completions.create(model=model, prompt=[5, 6, 7], max_tokens=1)
    assert tokens.usage.prompt_tokens == 3


def test_chat(client, model):
    settings = {"model": model, "messages": HELLO, "max_completion_tokens": 12, "seed": 5}
    settings["extra_body"] = {"min_tokens": 12}
    answer = client.chat.completions.create(
        **settings, n=2, logprobs=True, top_logprobs=2, temperature=0.7, top_p=0.9
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.message.role == "assistant" and choice.finish_reason == "length"
        assert len(choice.logprobs.content) == 12
        for token in choice.logprobs.content:
            assert token.logprob <= 0 and len(token.top_logprobs) == 2
            assert token.bytes is not None
    assert answer.usage.completion_tokens == 24
    again = client.chat.completions.create(
        **settings, n=2, logprobs=True, top_logprobs=2, temperature=0.7, top_p=0.9
    )
    assert [c.message.content for c in again.choices] == [c.message.content for c in answer.choices]


def test_streaming_says_the_same_as_one_answer(client, model):
    settings = {"model": model, "messages": HELLO, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**settings)
    stream = client.chat.completions.create(
        **settings, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert last.choices == [] and last.usage == whole.usage.model_copy(
        update={"prompt_tokens_details": last.usage.prompt_tokens_details}
    )
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason

    pieces = client.completions.create(
        model=model, prompt="the", max_tokens=24, temperature=0, stream=True
    )
    text = "".join(piece.choices[0].text for piece in pieces)
    whole = client.completions.create(model=model, prompt="the", max_tokens=24, temperature=0)
    assert text == whole.choices[0].text


def test_a_stream_that_is_left_early(client, model):
    settings = {"model": model, "prompt": "the", "max_tokens": 400, "stream": True}
    with client.completions.create(**settings) as stream:
        next(iter(stream))
    assert client.completions.create(model=model, prompt="the", max_tokens=1).choices


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Ulm", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def check_call(call):
    assert call.type == "function" and call.function.name == "weather" and call.id
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Ulm", "Rome") and 1 <= arguments["days"] <= 7


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_tools_there_and_back(client, model, choice):
    settings = {"model": model, "tools": [WEATHER], "parallel_tool_calls": False}
    settings |= {"max_tokens": 300}
    answer = client.chat.completions.create(messages=HELLO, tool_choice=choice, **settings)
    message = answer.choices[0].message
    assert len(message.tool_calls) == 1 and not message.content
    check_call(message.tool_calls[0])
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    settings["max_tokens"] = 8
    final = client.chat.completions.create(messages=[*HELLO, message, result], **settings)
    assert final.choices[0].finish_reason in ("stop", "length")


def test_tools_streamed(client, model):
    with client.chat.completions.stream(
        model=model, messages=HELLO, tools=[WEATHER], tool_choice="required",
        parallel_tool_calls=False, max_tokens=300,
    ) as events:  # fmt: skip
        final = events.get_final_completion()
    assert final.choices[0].finish_reason in ("tool_calls", "stop")
    (call,) = final.choices[0].message.tool_calls
    check_call(call)


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Report(pydantic.BaseModel):
    mood: Mood
    cities: list[Mood] = pydantic.Field(min_length=1, max_length=3)
    likes_rain: bool


def test_structured_output(client, model):
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "rain": {"type": "boolean"}},
        "required": ["mood", "rain"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "r", "strict": True, "schema": schema}}
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=300, response_format=form
    )
    found = json.loads(answer.choices[0].message.content)
    assert found["mood"] in ("good", "bad") and found["rain"] in (True, False)

    parsed = client.chat.completions.parse(
        model=model, messages=HELLO, max_tokens=400, response_format=Report
    )
    assert isinstance(parsed.choices[0].message.parsed, Report)


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"temperature": -1}, "temperature"),
        ({"n": 1000}, "n"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 1 << 20}, "max_tokens"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ],
)
def test_bad_requests(client, model, changes, field):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": model, "messages": HELLO, **changes})
    error = caught.value
    assert error.status_code == 400 and error.type == "invalid_request_error"
    assert error.param == field and field in error.message
    assert error.request_id.startswith("req-")


def test_other_errors(url, client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="another", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with make_client(url, "wrong") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.models.list()
    assert caught.value.status_code == 401


def test_too_many_requests(folder):
    limits = ["--max-num-seqs", "1", "--max-queued-requests", "1"]
    with serving(folder, *limits) as url, make_client(url) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(model="tiny-w4a8", prompt="the", n=8, max_tokens=64)
        assert caught.value.response.headers["Retry-After"] == "1"
        assert client.completions.create(model="tiny-w4a8", prompt="the", max_tokens=1).choices


def test_a_request_that_takes_too_long_is_not_asked_again(folder):
    with serving(folder, "--request-timeout", "0.001", "--max-num-seqs", "1") as url:
        with make_client(url) as client, pytest.raises(openai.InternalServerError) as caught:
            client.with_options(max_retries=5).completions.create(
                model="tiny-w4a8", prompt="the", n=8, max_tokens=200, extra_body={"ignore_eos": True}
            )
        assert caught.value.status_code == 504
        assert caught.value.code == "deadline_exceeded"
        request = urllib.request.Request(
            url.removesuffix("/v1") + "/metrics", headers={"Authorization": f"Bearer {KEY}"}
        )
        # All eight are counted, a moment after the first of them has been told.
        timeouts = re.compile(r'request_success_total{[^}]*finished_reason="timeout"} 8\b')
        for _ in range(100):
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
                page = reply.read().decode()
            if timeouts.search(page):
                break
            time.sleep(0.05)
        assert timeouts.search(page), page


def test_the_asynchronous_client(url, model):
    import asyncio

    async def ask():
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, timeout=TIMEOUT) as client:
            return await asyncio.gather(
                *(
                    client.completions.create(model=model, prompt="the", max_tokens=9, seed=3)
                    for _ in range(8)
                )
            )

    assert len({answer.choices[0].text for answer in asyncio.run(ask())}) == 1
