"""A real browser without a window: pages are opened, looked at, clicked and typed into, over its own protocol.

Chromium speaks JSON over two pipes (`--remote-debugging-pipe`), each message ended by a zero byte; nothing but the
standard library is needed. A `Page` keeps what the console said and what was asked of the network.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip

# The browser reads commands at descriptor 3 and answers at 4; a fork of a process that runs JAX is warned of.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)

KEYS = {
    "Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), " ": (32, " "), "ArrowDown": (40, ""),
    "ArrowUp": (38, ""), "ArrowLeft": (37, ""), "ArrowRight": (39, ""), "Backspace": (8, ""),
}  # fmt: skip


def binary() -> str | None:
    """Where a browser is, None without one."""
    return next((found for name in BINARIES if (found := shutil.which(name))), None)


class Browser:
    """One process of the browser; a context."""

    def __init__(self, folder: Path) -> None:
        reading, commands = os.pipe()
        answers, writing = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 30) for end in (reading, writing)]
        command = [sys.executable, "-I", "-S", "-c", START, *map(str, high), str(binary()), *FLAGS]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=high, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (reading, writing, *high):
            os.close(end)
        self.commands, self.answers, self.count, self.rest = commands, answers, 0, b""
        self.pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.send("Browser.close")
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.commands)
            os.close(self.answers)

    def send(self, method: str, session: str = "", **settings: Any) -> dict[str, Any]:
        """Ask something, and wait for the answer; events meanwhile are kept by their pages."""
        self.count += 1
        message: dict[str, Any] = {"id": self.count, "method": method, "params": settings}
        if session:
            message["sessionId"] = session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def read(self, seconds: float = 30.0) -> dict[str, Any]:
        """The next message."""
        end = time.monotonic() + seconds
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self.answers, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("the browser does not answer")
            self.rest += part
        text, _, self.rest = self.rest.partition(b"\0")
        message = dict(json.loads(text))
        if message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].note(message)
        return message

    def open(self, path: Path, width: int = 1280, height: int = 900, *, dark: bool = False) -> Page:
        """A file as a page of a size, when it has loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[colours])
        page.send("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        page.send("Page.navigate", url=path.absolute().as_uri())
        while not page.loaded:
            self.read()
        for frame in page.frames:
            self.send("Emulation.setEmulatedMedia", frame, features=[colours])
        return page


class Page:
    """One page: what it said, what it asked for, and ways to use it."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.said: list[str] = []
        self.asked: list[str] = []
        self.frames: list[str] = []
        self.loaded = False

    def send(self, method: str, **settings: Any) -> dict[str, Any]:
        """Ask something of this page."""
        return self.browser.send(method, self.session, **settings)

    def note(self, message: dict[str, Any]) -> None:
        """Keep an event."""
        method, what = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Target.attachedToTarget":
            self.frames.append(what["sessionId"])
        elif method == "Network.requestWillBeSent":
            self.asked.append(what["request"]["url"][:200])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(f"{what['type']}: {[part.get('value') for part in what['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(what["exceptionDetails"].get("exception", what["exceptionDetails"]))[:500])
        elif method == "Log.entryAdded":
            self.said.append(f"{what['entry']['level']}: {what['entry']['text']}")

    def __call__(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def inside(self, script: str) -> list[Any]:
        """The value of an expression in each frame: a sandboxed one is a page of its own to the browser."""
        answers = [
            self.browser.send("Runtime.evaluate", own, expression=script, returnByValue=True) for own in self.frames
        ]
        return [answer["result"].get("value") for answer in answers]

    def press(self, *keys: str) -> None:
        """Press keys, one after another; a name of `KEYS` (with "Shift+" before it) or letters."""
        for key in keys:
            name = key.removeprefix("Shift+")
            if name not in KEYS:
                self.send("Input.insertText", text=key)
                continue
            code, text = KEYS[name]
            settings = {"key": name, "code": "Space" if name == " " else name, "windowsVirtualKeyCode": code}
            settings["modifiers"] = 8 if name != key else 0
            self.send("Input.dispatchKeyEvent", type="keyDown", **settings, **({"text": text} if text else {}))
            self.send("Input.dispatchKeyEvent", type="keyUp", **settings)

    def move(self, x: float, y: float) -> None:
        """Move the pointer."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def tree(self) -> list[dict[str, Any]]:
        """What a screen reader is told: nodes with a role and a name."""
        return [node for node in self.send("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Save what the page looks like."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close the page."""
        self.browser.send("Target.closeTarget", targetId=self.target)
