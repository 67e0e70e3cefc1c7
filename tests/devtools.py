"""A page in headless Chromium, driven by the devtools protocol over a pipe."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

EXECUTABLE = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Browser:
    """One tab. What the page prints, throws or requests is kept in `events`.

    Args:
        profile: an empty folder for the browser.
        url: the page.
        width, height: of the window, in CSS pixels.
        dark: whether the reader prefers a dark page.
        scripts: whether scripts run.
    """

    def __init__(self, profile: Path, url: str, width=1280, height=800, dark=False, scripts=True):
        self.events: list[dict] = []
        self._number = 0
        read_in, self._send = os.pipe()
        self._receive, write_out = os.pipe()
        # Chromium itself cannot have a sandbox as root.
        flags = [*FLAGS, f"--user-data-dir={profile}", *["--no-sandbox"] * (os.geteuid() == 0)]
        command = f"exec {shlex.join([EXECUTABLE, *flags])} 3<&{read_in} 4>&{write_out}"
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(read_in, write_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_in)
        os.close(write_out)
        self._replies = self._messages()
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.open(url)

    def close(self) -> None:
        """End the browser."""
        os.close(self._send)
        self._process.terminate()
        self._process.wait(30)
        os.close(self._receive)

    def _messages(self):
        rest = b""
        while chunk := os.read(self._receive, 1 << 20):
            *whole, rest = (rest + chunk).split(b"\0")
            yield from map(json.loads, whole)
        raise RuntimeError(f"{EXECUTABLE} ended")

    def call(self, method: str, **parameters) -> dict:
        """The result of a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        for reply in self._replies:
            if reply.get("id") == self._number:
                assert "error" not in reply, f"{method}: {reply['error']}"
                return reply["result"]
            self.events.append(reply)

    def open(self, url: str) -> None:
        """Go to an address and wait until all of the page is there."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(next(self._replies))

    def ask(self, expression: str):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as on a keyboard."""
        number, text = {"Enter": (13, "\r"), " ": (32, " "), "Tab": (9, "")}[key]
        common = {"key": key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def seen(self, method: str) -> list[dict]:
        """The parameters of every event of a kind since the page was opened."""
        self.ask("0")  # whatever was on its way has come
        return [event["params"] for event in self.events if event.get("method") == method]

    def complaints(self) -> list[dict]:
        """Everything the page printed to the console or threw, and what the browser refused."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [found for kind in kinds for found in self.seen(kind)]
