"""Why `liquid serve` may refuse a request that fits its description: what no schema can say. Any
other 400 to such a request fails scripts/check_server.sh. docs/serving.md has the same list."""

from __future__ import annotations

import re

import schemathesis

GRAMMAR = r"(response_format|guided_|structured_outputs|tools)"
REASONS = [
    # Numbers and lengths that go together.
    r"exceed the longest sequence that is served",
    r"^min_tokens: \d+ is more than max_",
    r"^n: \d+ prompts times \d+, at most",
    r"^prompt: more than \d+ tokens in one request",
    # Lengths in bytes; a schema counts characters.
    r"^\S+: \d+ bytes, at most \d+",
    # Text of no token, where the tokenizer adds none of its own.
    r"^prompt: empty, expected at least one token",
    # Schemas, expressions and choices.
    rf"^{GRAMMAR}\S*: (schema|regular expression|regex|choice)",
    rf"^{GRAMMAR}\S*: (the grammar|no token of the model's vocabulary)",
    rf"^{GRAMMAR}\S*: expected a JSON schema, found string",
    r"with tool_choice required, \$ref may only point to",
    r"expected an object that agrees with those of the other tools",
    # Two of them, or one beside tools: what describes that makes the description too large for
    # Schemathesis.
    rf"^{GRAMMAR}\S*: not accepted together with {GRAMMAR}",
    # JSON as text.
    r"arguments: expected a JSON object as a string",
    # Names within the request.
    r"function\.name: (appears twice|no tool has this name)",
    # The model's own.
    r"^messages: the chat template: ",
]


@schemathesis.check
def refusals_of_valid_requests_have_a_reason(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code != 400:
        return
    message = response.json()["error"]["message"]
    assert any(re.search(reason, message) for reason in REASONS), f"refused, for no reason: {message}"
