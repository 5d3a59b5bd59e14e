"""`liquid serve`: its life from the open port to the signal, and its flags."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import TIMEOUT

SMALL = ["--port", "0", "--max-model-len", "128", "--max-num-seqs", "2"]


class Server:
    def __init__(self, process, url, lines):
        self.process = process
        self.url = url
        self.lines = lines  # of standard error so far

    def get(self, path, key=None):
        """Status, fields and body."""
        host, port = re.fullmatch(r"http://(.+):(\d+)", self.url).groups()
        connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def stop(self):
        """The exit code after SIGTERM, and the rest of standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, err


@contextlib.contextmanager
def serving(liquid, *arguments, environment=None):
    liquid.environment.update(environment or {})
    process = liquid.start(
        "serve", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("Ready: "), line + process.stderr.read()
        yield Server(process, line.removeprefix("Ready: ").strip(), [])
    finally:
        if process.poll() is None:
            process.kill()
        process.stdout.close()
        process.stderr.close()
        process.wait()


def test_from_ready_to_the_signal(liquid, quantized):
    with serving(liquid, quantized, *SMALL) as server:
        assert server.get("/health")[0] == 200
        status, headers, body = server.get("/ready")
        assert (status, json.loads(body)) == (200, {"status": "ready"})
        assert headers["X-Request-Id"].startswith("req-")
        version = json.loads(server.get("/version")[2])
        assert version == liquid.ok("version", "--json").json()
        status, headers, body = server.get("/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "# TYPE liquidgemm:" in body and 'model_name="tiny-w4a8"' in body
        assert json.loads(server.get("/load")[2]) == {"server_load": 0}
        status, _, body = server.get("/none?secret")
        assert status == 404 and json.loads(body)["error"]["type"] == "invalid_request_error"
        begin = time.monotonic()
        code, log = server.stop()
        assert code == 0 and time.monotonic() - begin < TIMEOUT / 2
    for said in (
        "KV cache size: 256 tokens (4 pages of 64",
        "Maximum concurrency for 128 tokens per request: 2.00x, at most 2 at once",
        "gate_up: ",
        "attention: ",
        "method=GET path=/none status=404",
        "shutting down",
    ):
        assert said in log, log
    assert "secret" not in log
    assert "path=/health" not in log  # probes are noise


def test_ctrl_c_ends_it_too(liquid, quantized):
    with serving(liquid, quantized, *SMALL) as server:
        server.process.send_signal(signal.SIGINT)
        server.process.wait(TIMEOUT)
        assert server.process.returncode == 0


def test_json_log(liquid, quantized):
    with serving(liquid, quantized, *SMALL, "--log-json") as server:
        server.get("/version")
        code, log = server.stop()
        assert code == 0
    events = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "message"} <= event.keys() for event in events)
    (request,) = (event for event in events if event["message"] == "request")
    assert request["path"] == "/version" and request["status"] == 200 and request["ms"] >= 0
    assert request["peer"] == "127.0.0.1" and request["bytes"] > 0


def test_keys_from_flags_and_files(liquid, quantized, tmp_path):
    (tmp_path / "keys").write_text("# ours\nfrom-file\n")
    arguments = [*SMALL, "--api-key-file", tmp_path / "keys", "--api-key", "from-flag"]
    with serving(liquid, quantized, *arguments) as server:
        for path in ("/version", "/metrics", "/load", "/none"):
            assert server.get(path)[0] == 401
            assert server.get(path, "wrong")[0] == 401
            for key in ("from-file", "from-flag"):
                assert server.get(path, key)[0] == (404 if path == "/none" else 200)
        assert server.get("/health")[0] == server.get("/ready")[0] == 200
        code, log = server.stop()
        assert code == 0
        for key in ("from-file", "from-flag", "wrong"):
            assert key not in log


def test_command_line_before_environment_before_config(liquid, quantized, tmp_path):
    config = tmp_path / "serve.toml"
    config.write_text(
        f'model = "{quantized}"\n'
        "port = 0\n"
        "max_model_len = 256\n"
        'max-body-bytes = "1K"\n'
        "max-num-seqs = 3\n"
        "num-kv-pages = 40\n"
        'served-model-name = ["from-config"]\n'
        "enable-prefix-caching = false\n"
    )
    environment = {"LIQUIDGEMM_MAX_NUM_SEQS": "4", "LIQUIDGEMM_NUM_KV_PAGES": "50"}
    arguments = ["--config", config, "--num_kv_pages", "60"]
    with serving(liquid, *arguments, environment=environment) as server:
        assert 'model_name="from-config"' in server.get("/metrics")[2]
        code, log = server.stop()
        assert code == 0
    assert "(60 pages of 64" in log
    assert "for 256 tokens per request" in log and "at most 4 at once" in log


def test_a_port_that_is_taken_is_named(liquid, quantized):
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        liquid.fails("serve", quantized, "--port", port, naming=[str(port), "in use", "--port"])


def test_what_is_open_to_the_network_is_said_aloud(liquid, quantized):
    with serving(liquid, quantized, *SMALL, "--host", "0.0.0.0") as server:
        _, log = server.stop()
        assert "open to the network and asks for no key" in log
    with serving(liquid, quantized, *SMALL, "--host", "0.0.0.0", "--api-key", "k") as server:
        _, log = server.stop()
        assert "asks for no key" not in log


@pytest.mark.parametrize(
    "arguments, naming",
    [
        (["--api-key-file", "missing"], ["missing"]),
        (["--api-key", ""], ["--api-key"]),
        (["--allowed-origins", "example.org"], ["example.org", "https://"]),
        (["--ssl-keyfile", "k", "--ssl-certfile", "c"], ["c"]),
        (["--max-model-len", "1M"], ["--max-model-len"]),
        (["--num-kv-pages", "1", "--max-model-len", "128"], ["--num-kv-pages"]),
        (["--host", "192.0.2.1"], ["192.0.2.1"]),
    ],
)
def test_flags_that_cannot_work(liquid, quantized, arguments, naming):
    liquid.fails("serve", quantized, "--port", "0", *arguments, naming=naming)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "65536"],
        ["--port", "no"],
        ["--max-num-seqs", "0"],
        ["--max-num-batched-tokens", "16", "--max-num-seqs", "17"],
        ["--ssl-keyfile", "k"],
        ["--max-body-bytes", "-1"],
        ["--idle-timeout", "nan"],
        ["--shutdown-timeout", "inf"],
        ["--watchdog-timeout", "-1"],
        ["--request-timeout", "-1"],
        ["--config", "missing.toml"],
    ],
)
def test_wrong_usage(liquid, quantized, arguments):
    assert liquid("serve", quantized, *arguments).code == 2


def test_config_with_an_unknown_name(liquid, quantized, tmp_path):
    (tmp_path / "serve.toml").write_text("prot = 8000\n")
    outcome = liquid("serve", quantized, "--config", tmp_path / "serve.toml")
    assert outcome.code == 2 and "prot" in outcome.stderr
    assert liquid("serve").code == 2
