"""What `liquid serve` may refuse although its description allows it: what no schema can say. Every
other 400 to a valid request fails scripts/check_server.sh."""

from __future__ import annotations

import re

import schemathesis

REASONS = [
]


@schemathesis.check
def refusals_of_valid_requests_are_explained(ctx, response, case):
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = response.json()["error"]
    if not any(re.search(reason, error["message"]) for reason in REASONS):
        import os
        open(os.environ["REFUSALS"], "a").write(case.operation.label + "\t" + error["message"] + "\n")
