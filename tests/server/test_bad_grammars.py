"""Schemas, expressions and choices that are wrong, not supported or too large."""

from __future__ import annotations

import itertools
import json

import pytest

from live_server import (
    CHAT,
    COMPLETIONS,
    GOOD,
    MAX_GROWTH_MIB,
    SANITIZED,
    Problems,
    watched_server,
    with_field,
)
from conftest import binary_exists, model, quantized  # noqa: F401


@pytest.fixture(scope="module")
def server(tmp_path_factory, quantized):  # noqa: F811
    with watched_server(tmp_path_factory.mktemp("serve"), quantized) as server:
        if not server.has_grammar():
            pytest.skip("built without structured output")
        yield server


@pytest.fixture(autouse=True)
def stays_well(server):
    yield
    server.assert_well()


def nested(depth: int) -> str:
    return '{"type":"array","items":' * depth + "true" + "}" * depth


# JSON texts: no schema, or one that is wrong, not supported or too large.
SCHEMAS = ["1", '"a"', "[]", '"{"', '{"type":"nonsense"}', '{"type":1}', '{"type":[]}']
SCHEMAS += ['{"properties":1}', '{"properties":{"a":1}}', '{"items":1}', '{"required":1}']
SCHEMAS += ['{"enum":[]}', '{"enum":1}', '{"anyOf":[]}', '{"anyOf":1}', '{"$ref":1}']
SCHEMAS += [
    '{"$ref":"#/nowhere"}',
    '{"$ref":"http://169.254.169.254/"}',
    '{"$ref":"file:///etc/passwd"}',
]
SCHEMAS += ['{"$ref":"#"}', '{"$defs":{"a":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}']
SCHEMAS += ['{"type":"string","pattern":"("}', '{"type":"string","pattern":1}']
SCHEMAS += ['{"type":"string","maxLength":1000000000}', '{"type":"array","minItems":1000000000}']
SCHEMAS += ['{"type":"string","minLength":5,"maxLength":1}', '{"type":"array","maxItems":-1}']
SCHEMAS += ['{"minimum":"a"}', '{"not":{}}', '{"type":"object","minProperties":1e9}']
SCHEMAS += [nested(100), nested(500), '{"enum":[' + ",".join(map(str, range(10_001))) + "]}"]
SCHEMAS += ['{"enum":["' + "a" * 300_000 + '"]}', '{"a":[' + "1," * 20_000 + "1]}"]
EXPRESSIONS = [
    "(",
    ")",
    "[",
    "[b-a]",
    "a{2,1}",
    "a{1000000000}",
    "(a{1000}){1000}",
    "*",
    "a**",
    "\\",
]
EXPRESSIONS += ["(?<a", "(?=a)", "\\1", "(" * 10_000, "(" * 100_000 + ")" * 100_000, "a" * 300_000]
EXPRESSIONS += ["\\p{Nonsense}", "[[:nonsense:]]", "(?#"]


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_grammars(server, path):
    spellings = {
        "guided_json": "%s",
        "structured_outputs": '{"json":%s}',
        "response_format": '{"type":"json_schema","json_schema":{"name":"a","schema":%s}}',
    }
    with Problems() as problems:
        for (name, form), schema in itertools.product(spellings.items(), SCHEMAS):
            body = with_field(path, name, form % schema)
            field = "request body" if schema == nested(500) else name
            problems.refused(server, path, body, field)
        for text in EXPRESSIONS:
            problems.refused(server, path, GOOD[path] | {"guided_regex": text}, "guided_regex")
        more = [
            ({"guided_choice": []}, "guided_choice"),
            ({"guided_choice": [1]}, "guided_choice[0]"),
            ({"guided_choice": "a"}, "guided_choice"),
            ({"guided_choice": [str(i) for i in range(10_001)]}, "guided_choice"),
            ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_"),
            ({"guided_json": {}, "response_format": {"type": "json_object"}}, "guided_json"),
            ({"response_format": {}}, "response_format.type"),
            ({"response_format": {"type": "xml"}}, "response_format.type"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"structured_outputs": {"grammar": "a"}}, "structured_outputs.grammar"),
        ]
        for change, field in more:
            problems.refused(server, path, GOOD[path] | change, field)


def test_schemas_of_forced_calls(server):
    choices = ['"required"', '{"type":"function","function":{"name":"f"}}']
    with Problems() as problems:
        for choice, schema in itertools.product(choices, SCHEMAS):
            function = '{"name":"f","parameters":%s}' % schema
            body = json.dumps(GOOD[CHAT])[:-1] + (
                ',"tool_choice":%s,"tools":[{"type":"function","function":%s}]}'
                % (choice, function)
            )
            field = "request body" if schema == nested(500) else "tools"
            problems.refused(server, CHAT, body, field)


def test_many_grammars_are_not_kept(server):
    before = server.rss_mib()
    with Problems() as problems:
        for i in range(400):
            schema = {"type": "object", "properties": {f"name{i}": {"type": "string"}}}
            body = GOOD[COMPLETIONS] | {"guided_json": schema, "max_tokens": 1}
            problems.accepted(server, COMPLETIONS, body)
    assert SANITIZED or server.rss_mib() - before < MAX_GROWTH_MIB
