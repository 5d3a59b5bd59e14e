"""docs/serving.md and examples/serve/ against the program: what they name exists, and is complete."""

import json
import re
import tomllib

import pytest

from conftest import ROOT
from test_serve import SMALL, serving

PAGE = ROOT / "docs/serving.md"
EXAMPLES = ROOT / "examples/serve"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")


@pytest.fixture
def flags(liquid):
    """Every long name of every option of `liquid serve`."""
    found = set()
    for line in liquid.ok("serve", "--help").text.splitlines():
        if re.match(r"  -", line):
            found |= set(FLAG.findall(line.split(" ")[2]))
    assert {"--port", "--max-model-len", "--no-enable-prefix-caching"} <= found
    return found


def serve_commands(text):
    """Lines that run `liquid serve`, with those that a backslash joins to them."""
    return re.findall(r"liquid serve .*", text.replace("\\\n", " "))


def test_every_flag_is_documented_and_exists(flags):
    text = PAGE.read_text()
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)[ `]", prose))
    assert named - flags == set(), "no such flag"
    assert flags - named == {"--help"}, "not documented"
    for command in serve_commands(text):
        assert set(FLAG.findall(command)) <= flags, command


def test_flags_of_the_examples_exist(flags):
    config = tomllib.loads((EXAMPLES / "serve.toml").read_text())
    assert {f"--{name}" for name in config} <= flags
    for name in ("liquid.service", "Dockerfile"):
        text = (EXAMPLES / name).read_text()
        commands = serve_commands(text)
        assert commands or name == "Dockerfile"
        for command in commands:
            assert set(FLAG.findall(command)) <= flags, command
        for variable in re.findall(r"\bLIQUIDGEMM_([A-Z_]+)", text):
            assert "--" + variable.lower().replace("_", "-") in flags, variable


def test_the_service_waits_longer_than_the_server(liquid):
    """10 s after --shutdown-timeout the server has ended by itself."""
    unit = (EXAMPLES / "liquid.service").read_text()
    config = tomllib.loads((EXAMPLES / "serve.toml").read_text())
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > config["shutdown-timeout"] + 10


def properties(schema):
    return set(schema.get("properties", {})) - {"suffix"}


def test_every_metric_endpoint_and_field_is_documented(liquid, quantized):
    with serving(liquid, quantized, *SMALL, "--metrics-compat", "vllm") as server:
        metrics = set(re.findall(r"^# TYPE (\S+)", server.get("/metrics")[2], re.M))
        description = json.loads(server.get("/openapi.json")[2])
    text = PAGE.read_text()
    named = set(re.findall(r"`((?:liquidgemm|vllm):[a-z_0-9]+)`", text))
    assert named - metrics == set(), "no such metric"
    own = {metric for metric in metrics if metric.startswith("liquidgemm:")}
    assert own - named == set(), "not documented"
    renamed = {metric.replace("liquidgemm:", "vllm:") for metric in own}
    alone = {"vllm:kv_pages", "vllm:engine_steps_total"}
    assert renamed - metrics == alone, "not under vLLM's name"
    assert metrics - own - renamed - named == set(), "vLLM's own names, not documented"
    for path in description["paths"]:
        assert f"{path}`" in text, path
    for name in ("CompletionRequest", "ChatRequest"):
        for field in properties(description["components"]["schemas"][name]):
            assert f"`{field}`" in text, field


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target
