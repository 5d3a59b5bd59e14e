"""A headless Chromium, driven over WebDriver: HTTP and JSON, so nothing but Python is needed."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

ENTER, ESCAPE, TAB, SHIFT = "\ue007", "\ue00c", "\ue004", "\ue008"


def find() -> tuple[str, str] | None:
    """The browser and its driver, or None where they are not installed."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Browser:
    def __init__(self, browser: str, driver: str, folder: pathlib.Path):
        port = free_port()
        self._base = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [driver, f"--port={port}", f"--log-path={folder / 'chromedriver.log'}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder)},
        )
        self._session = ""
        try:
            self._wait_for_driver()
            options = {
                "binary": browser,
                # The tests may run as root or in a container; the page under test is our own.
                "args": [
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-dev-shm-usage",
                    "--disable-gpu",
                    f"--user-data-dir={folder / 'profile'}",
                ],
            }
            capabilities = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        try:
            if self._session:
                self._call("DELETE", self._session)
        except OSError:
            pass
        finally:
            self._process.terminate()
            self._process.wait(20)

    def _wait_for_driver(self) -> None:
        for _ in range(300):
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise TimeoutError("chromedriver did not start")

    def _call(self, method: str, path: str, body: dict | None = None):
        request = urllib.request.Request(
            self._base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()[:500]}") from None

    def _do(self, path: str, body: dict | None = None):
        return self._call("POST", self._session + path, body or {})

    def open(self, url: str) -> None:
        self._do("/url", {"url": url})

    def run(self, script: str, *arguments):
        return self._do("/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def visible(self, selector: str) -> bool:
        return self.run(
            "const e = document.querySelector(arguments[0]);"
            "return e !== null && e.getClientRects().length > 0",
            selector,
        )

    def focused(self) -> str:
        return self.run("return document.activeElement.id")

    def keys(self, *keys: str) -> None:
        """Types with the keyboard into what has the focus."""
        actions = []
        for part in keys:
            for key in part:
                actions += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._do("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def chord(self, held: str, key: str) -> None:
        actions = [
            {"type": "keyDown", "value": held},
            {"type": "keyDown", "value": key},
            {"type": "keyUp", "value": key},
            {"type": "keyUp", "value": held},
        ]
        self._do("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def wait(self, condition, what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s for {what}"
            time.sleep(0.05)

    def resize(self, width: int, height: int) -> None:
        """The page's own size, as a phone of that size would show it."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def color_scheme(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", {"features": features})

    def devtools(self, command: str, parameters: dict):
        return self._do("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def messages(self) -> list[str]:
        """What the console has said since the last call: errors, warnings, refusals."""
        return [entry["message"] for entry in self._do("/se/log", {"type": "browser"})]

    def screenshot(self, path: pathlib.Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", self._session + "/screenshot")))
