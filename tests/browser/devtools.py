"""Headless Chromium controlled through a pipe with the DevTools protocol, without a port or another package."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
TIMEOUT = 60.0
"""Seconds to wait for a reply."""

Message = dict[str, Any]


def chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser(path: str, folder: Path) -> Iterator["Browser"]:
    """Run Chromium with an empty profile in this folder."""
    requests_read, requests_write = os.pipe()
    answers_read, answers_write = os.pipe()
    # Chromium reads from descriptor 3 and writes to 4.
    redirected = f'exec "$@" 3<&{requests_read} 4>&{answers_write}'
    process = subprocess.Popen(
        ["bash", "-c", redirected, "bash", path, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(requests_read, answers_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(requests_read)
    os.close(answers_write)
    try:
        yield Browser(requests_write, answers_read)
    finally:
        os.close(requests_write)
        os.close(answers_read)
        process.terminate()
        process.wait(timeout=TIMEOUT)


class Browser:
    """Connection to the browser: numbered requests, their replies, and events."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._unread = b""
        self._number = 0
        self._events: list[Message] = []

    def open(self, html: Path, *, scripts: bool = True, width: int = 1400, dark: bool = False) -> "Tab":
        """Open a file in a new tab and wait until it is loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Network", "Log", "Runtime"):
            tab.ask(f"{domain}.enable")
        tab.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        tab.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.ask("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        tab.ask("Page.navigate", url=html.as_uri())
        tab.wait_for("Page.loadEventFired")
        return tab

    def ask(self, method: str, session: str | None = None, **parameters: object) -> Message:
        """Return the result of one request."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        os.write(self._requests, json.dumps(request | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: Message = answer["result"]
        return result

    def events(self, session: str, method: str) -> list[Message]:
        """Return the parameters of the received events of a method."""
        return [
            event["params"] for event in self._events if (event.get("sessionId"), event["method"]) == (session, method)
        ]

    def wait_for(self, session: str, method: str) -> None:
        """Wait for an event of this method."""
        while not self.events(session, method):
            self._events.append(self._next())

    def _next(self) -> Message:
        deadline = time.monotonic() + TIMEOUT
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._answers, 1 << 16) if ready else b""
            assert chunk, "the browser does not reply"
            self._unread += chunk
        message, _, self._unread = self._unread.partition(b"\0")
        read: Message = json.loads(message)
        return read


class Tab:
    """One page in the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def ask(self, method: str, **parameters: object) -> Message:
        """Return the result of one request for this page."""
        return self._browser.ask(method, self._session, **parameters)

    def wait_for(self, method: str) -> None:
        """Wait for an event of this method."""
        self._browser.wait_for(self._session, method)

    def run(self, expression: str) -> Any:
        """Return the JSON value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **named)

    @property
    def requested(self) -> list[str]:
        """Return the URLs of all network requests."""
        return [event["request"]["url"] for event in self._browser.events(self._session, "Network.requestWillBeSent")]

    @property
    def log_entries(self) -> list[str]:
        """Return the browser's log entries: policy violations and script errors."""
        logged = [event["entry"]["text"] for event in self._browser.events(self._session, "Log.entryAdded")]
        thrown = self._browser.events(self._session, "Runtime.exceptionThrown")
        return [*logged, *(event["exceptionDetails"]["text"] for event in thrown)]
