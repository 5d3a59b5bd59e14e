"""--request-timeout: what takes too long is ended, told why and counted. Streams and the order of
events, by a clock of the test's own: api_completions_test.cc."""

from __future__ import annotations

import re
import time

from live_server import CHAT, COMPLETIONS, GOOD, TOKENIZE, live_server
from conftest import binary_exists, model, quantized  # noqa: F401

FLAGS = ["--max-model-len", "256", "--max-num-seqs", "1"]
LONG = {"max_tokens": 200, "ignore_eos": True, "n": 4}  # no machine takes a millisecond for it


def ended(server, reason: str) -> int:
    page = server.get("/metrics").body.decode()
    return int(re.search(rf'_success_total{{[^}}]*finished_reason="{reason}"}} (\d+)', page)[1])


def test_what_takes_too_long_is_ended_and_counted(tmp_path, quantized):  # noqa: F811
    with live_server(tmp_path, quantized, *FLAGS, "--request-timeout", "0.001") as server:
        for path in (COMPLETIONS, CHAT):
            answer = server.post(path, GOOD[path] | LONG)
            assert answer.status == 504 and answer.error_problem() is None, answer.body
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("timeout_error", "deadline_exceeded")
            assert "0.001 s" in error["message"] and "--request-timeout" in error["message"]
            assert answer.headers["X-Should-Retry"] == "false"
        # Each answer counts, a moment after the first of them has been told of.
        for _ in range(100):
            if ended(server, "timeout") == 8:
                break
            time.sleep(0.05)
        assert ended(server, "timeout") == 8
        assert server.get("/load").json() == {"server_load": 0}
        assert 'state="used"} 0\n' in server.get("/metrics").body.decode()
        assert server.get("/ready").status == 200
        assert server.post(TOKENIZE, GOOD[TOKENIZE]).status == 200


def test_zero_is_any_time(tmp_path, quantized):  # noqa: F811
    with live_server(tmp_path, quantized, *FLAGS, "--request-timeout", "0") as server:
        answer = server.post(COMPLETIONS, GOOD[COMPLETIONS] | LONG)
        assert answer.status == 200 and len(answer.json()["choices"]) == 4
        assert ended(server, "timeout") == 0
