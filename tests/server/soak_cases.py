"""What a soak asks: requests whose only right answer is known, and requests that are wrong."""

from __future__ import annotations

import dataclasses
import json
import random

from soak_client import Connection, Reply, request

WORDS = (
    "river stone morning the of and lamp seven copper a quiet garden where birds count to machine "
    "letter 42 is winter under paper, bread. often language model writes it her boat north signal"
).split()


@dataclasses.dataclass
class Choice:
    """An answer, put together from the events of a stream or read from a whole reply."""

    text: str = ""
    finish: str | None = None
    logprobs: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Answer:
    id: str
    choices: list[Choice]
    usage: tuple[int, int] | None  # tokens of prompt and answers

    def same(self, other: Answer) -> bool:
        return self.choices == other.choices and self.usage == other.usage


@dataclasses.dataclass
class Case:
    path: str
    body: dict
    golden: Answer | None = None

    @property
    def chat(self) -> bool:
        return self.path.endswith("chat/completions")

    def bytes(self, *, stream: bool) -> bytes:
        extra = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return request(self.path, self.body | extra)


def logprobs_of(choice: dict, chat: bool) -> list:
    found = choice.get("logprobs")
    if not found:
        return []
    if chat:
        return found["content"]
    return list(zip(found["tokens"], found["token_logprobs"], found["top_logprobs"]))


def usage_of(reply: dict) -> tuple[int, int] | None:
    usage = reply.get("usage")
    return usage and (usage["prompt_tokens"], usage["completion_tokens"])


def whole_answer(case: Case, reply: Reply) -> Answer:
    told = reply.json()
    choices = [Choice() for _ in told["choices"]]
    for choice in told["choices"]:
        text = choice["message"]["content"] if case.chat else choice["text"]
        logprobs = logprobs_of(choice, case.chat)
        choices[choice["index"]] = Choice(text, choice["finish_reason"], logprobs)
    return Answer(told["id"], choices, usage_of(told))


class Stream:
    """Takes events one by one; says what is wrong with them by ValueError."""

    def __init__(self, case: Case):
        self.case = case
        self.answer = Answer("", [Choice() for _ in range(case.body.get("n", 1))], None)
        self.done = False

    def take(self, data: str) -> None:
        if self.done:
            raise ValueError(f"an event after [DONE]: {data}")
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data)
        if "error" in event:
            raise ValueError(f"an error in the stream: {data}")
        answer = self.answer
        answer.id = answer.id or event["id"]
        if event["id"] != answer.id:
            raise ValueError(f"an event of another answer, {event['id']} in {answer.id}")
        if event.get("usage"):
            if answer.usage:
                raise ValueError("usage comes twice")
            answer.usage = usage_of(event)
        for told in event["choices"]:
            choice = answer.choices[told["index"]]
            if choice.finish:
                raise ValueError(f"choice {told['index']} goes on after its end: {data}")
            text = told["delta"].get("content") if self.case.chat else told["text"]
            choice.text += text or ""
            choice.logprobs += logprobs_of(told, self.case.chat)
            choice.finish = told["finish_reason"]

    def end(self) -> Answer:
        if not self.done:
            raise ValueError("the stream ends without [DONE]")
        return self.answer


def make_cases(draw: random.Random, count: int, max_tokens: int, max_words: int) -> list[Case]:
    """Greedy or with a seed: every one has one right answer. Many begin alike."""

    def words(most: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, most)))

    beginnings = [" ".join(draw.choice(WORDS) for _ in range(max_words // 2)) for _ in range(3)]
    cases = []
    for _ in range(count):
        kind = draw.random()
        text = words(max_words // 2)
        if draw.random() < 0.4:
            text = draw.choice(beginnings) + " " + text
        body = {"max_tokens": draw.randint(1, max_tokens), "temperature": 0}
        if draw.random() < 0.2:
            body |= {"temperature": 0.9, "top_p": 0.95, "seed": draw.randint(0, 1 << 40)}
        if draw.random() < 0.2:
            body["n"] = draw.randint(2, 3)
        if draw.random() < 0.5:
            body["ignore_eos"] = True
        if kind < 0.3:
            body["messages"] = [{"role": "user", "content": text}]
            if draw.random() < 0.2:
                body |= {"logprobs": True, "top_logprobs": 2}
            cases.append(Case("/v1/chat/completions", body))
            continue
        body["prompt"] = text
        if kind > 0.8:
            body["prompt"] = [draw.randint(3, 250) for _ in range(draw.randint(1, max_words))]
        if draw.random() < 0.2:
            body["logprobs"] = 2
        cases.append(Case("/v1/completions", body))
    return cases


async def ask_alone(connection: Connection, case: Case) -> Answer:
    reply = await connection.exchange(case.bytes(stream=False))
    if reply.status != 200:
        raise ValueError(f"{reply.status} to {case.body}: {reply.body.decode()}")
    return whole_answer(case, reply)


async def with_stop_string(connection: Connection, draw: random.Random, case: Case) -> Case | None:
    """The case once more, with a stop string out of the middle of its answer."""
    text = case.golden.choices[0].text
    if len(text) < 8 or len(case.golden.choices) > 1 or "\ufffd" in text:
        return None
    begin = draw.randint(1, len(text) - 4)
    stop = text[begin : begin + draw.randint(2, 4)]
    other = Case(case.path, case.body | {"stop": ["never said \u2603", stop]})
    other.golden = await ask_alone(connection, other)
    choice = other.golden.choices[0]
    if (choice.text, choice.finish) != (text.split(stop)[0], "stop"):
        raise ValueError(f"{stop!r} stops {text!r} at {choice.text!r}, {choice.finish}")
    return other


async def goldens(port: int, draw: random.Random, cases: list[Case]) -> list[Case]:
    """All cases, each with the answer that it gets when nothing else runs."""
    connection, more = Connection(port), []
    for case in cases:
        case.golden = await ask_alone(connection, case)
        if draw.random() < 0.5:
            stopped = await with_stop_string(connection, draw, case)
            more += [stopped] if stopped else []
    connection.close()
    return cases + more


def bad_requests() -> list[bytes]:
    """Each must get a 4xx in OpenAI's shape."""
    completions, chat = "/v1/completions", "/v1/chat/completions"
    fine = {"prompt": "a", "max_tokens": 4}
    wrong = [
        {"max_tokens": -1}, {"max_tokens": 1 << 70}, {"temperature": "hot"}, {"temperature": -1},
        {"n": 0}, {"n": 1 << 31}, {"stop": ["x"] * 1000}, {"stop": 3}, {"top_p": 2},
        {"logit_bias": {"-5": 1}}, {"prompt": [-1]}, {"prompt": [1 << 40]}, {"prompt": [[]]},
        {"prompt": "word " * 20000}, {"stream": "yes"}, {"seed": "x"}, {"logprobs": 1000},
        {"best_of": 7}, {"model": "no such model"}, {"prompt": None},
    ]  # fmt: skip
    found = [request(completions, fine | change) for change in wrong]
    found += [
        request(completions, body)
        for body in (b"{", b"", b"[]", b'{"prompt": "\xff"}', b"[" * 5000, b'{"prompt":1e999}')
    ]
    messages = (None, [], "hello", [{"role": "user"}], [{"content": 3, "role": "user"}], [[]])
    found += [request(chat, {"messages": one}) for one in messages]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no"}}}
    found += [
        request(chat, {"messages": [{"role": "user", "content": "x"}], "response_format": schema}),
        request("/nowhere"),
        request(completions, fine, method="PUT"),
        request(completions, fine).replace(b"application/json", b"text/plain"),
        request(completions, fine, fields="X: " + "y" * 40000 + "\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999999\r\n\r\n",
    ]
    return found
