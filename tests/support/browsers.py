"""Browsers with one face: Chromium, Firefox and WebKit open tabs, run a script in one, close it, and are closed.

Rules of residence: processes and wire protocols of browsers; knows nothing of sessions. Chromium is driven by
playwright, Firefox over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), WebKit over classic WebDriver
(https://www.w3.org/TR/webdriver2/) with the MiniBrowser of WebKitGTK, for both are the engines as Debian ships them.

    with Firefox(profile) as browser:
        tab = browser.open("http://localhost:8000/")
        browser.run(tab, "return await (await fetch('/session')).json()")
        browser.shut(tab)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx
from playwright.sync_api import Page, sync_playwright
from serving import DEADLINE, free_port, until
from websockets.sync.client import connect

MINIBROWSER = "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser"


class Browser:
    """A browser from its start to its end. `profile`: the folder in which it keeps what outlives it."""

    def __init__(self, profile: Path) -> None:
        self.profile, self.closing = profile, contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            self.closing = started
            self.start()
            self.closing = started.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it as its user would."""
        self.closing.close()

    def start(self) -> None:
        raise NotImplementedError

    def open(self, url: str) -> Any:
        """Load a page in a new tab; returns the tab."""
        raise NotImplementedError

    def run(self, tab: Any, body: str) -> Any:
        """Run the body of an async function in the page of a tab; returns what it returns, of JSON's types."""
        raise NotImplementedError

    def shut(self, tab: Any) -> None:
        """Close a tab, whatever its page is doing."""
        raise NotImplementedError

    @classmethod
    def live(cls, profile: Path, page: str, paths: list[str]) -> list[str]:
        """Be opened on a page, fetch some paths, be closed; returns what they answered."""
        with cls(profile) as browser:
            tab = browser.open(page)
            return [browser.run(tab, f"return await (await fetch({path!r})).text()") for path in paths]

    def spawn(self, *argv: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process that leads a group of its own, all of which ends with the browser."""
        with (self.profile / "output.log").open("ab") as log:
            process = subprocess.Popen(
                argv, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            )
        self.closing.callback(end, process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(DEADLINE)


class Chromium(Browser):
    def start(self) -> None:
        playwright = self.closing.enter_context(sync_playwright())
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        self.context = playwright.chromium.launch_persistent_context(
            self.profile, executable_path="/usr/bin/chromium", args=arguments
        )
        self.closing.callback(self.context.close)

    def open(self, url: str) -> Page:
        page = self.context.new_page()
        page.goto(url)
        return page

    def run(self, tab: Page, body: str) -> Any:
        return tab.evaluate(f"async () => {{ {body} }}")

    def shut(self, tab: Page) -> None:
        tab.close()


class Firefox(Browser):
    def start(self) -> None:
        self.sent = 0
        port = free_port()
        # To ask nobody but the server of the test.
        quiet = {"app.normandy.enabled": "false", "network.captive-portal-service.enabled": "false"}
        lines = [f"user_pref({json.dumps(name)}, {value});\n" for name, value in quiet.items()]
        (self.profile / "user.js").write_text("".join(lines))
        command = ["firefox-esr", "--headless", "--no-remote", "--profile", str(self.profile)]
        process = self.spawn(*command, "--remote-debugging-port", str(port), HOME=str(self.profile))
        log = self.profile / "output.log"
        until(lambda: f"BiDi listening on ws://127.0.0.1:{port}" in log.read_text(), "Firefox")
        self.socket = self.closing.enter_context(connect(f"ws://127.0.0.1:{port}/session", max_size=None))
        self.call("session.new", capabilities={})
        # Its cookies reach the disk when it ends in order.
        self.closing.callback(lambda: (self.call("browser.close"), process.wait(DEADLINE)))

    def call(self, method: str, **params: Any) -> Any:
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(DEADLINE))).get("id") != self.sent:
            pass  # an event
        assert answer["type"] == "success", answer
        return answer["result"]

    def open(self, url: str) -> str:
        tab: str = self.call("browsingContext.create", type="tab")["context"]
        self.call("browsingContext.navigate", context=tab, url=url, wait="complete")
        return tab

    def run(self, tab: str, body: str) -> Any:
        function = f"async () => JSON.stringify(await (async () => {{ {body} }})())"
        said = self.call(
            "script.callFunction", functionDeclaration=function, awaitPromise=True, target={"context": tab}
        )
        assert said["type"] == "success", said
        return json.loads(said["result"].get("value", "null"))

    def shut(self, tab: str) -> None:
        self.call("browsingContext.close", context=tab)


class WebKit(Browser):
    def start(self) -> None:
        port, home = free_port(), {"HOME": str(self.profile), "DISPLAY": self.display(), "GDK_BACKEND": "x11"}
        self.spawn("WebKitWebDriver", f"--port={port}", **home)
        self.driver = self.closing.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE))
        until(self.listens, "WebKitWebDriver")
        options = {"webkitgtk:browserOptions": {"binary": MINIBROWSER, "args": ["--automation"]}}
        session = self.call("POST", "/session", capabilities={"alwaysMatch": options})["sessionId"]
        self.driver.base_url = self.driver.base_url.join(f"/session/{session}")
        self.closing.callback(self.call, "DELETE", "")

    def display(self) -> str:
        """Start a screen that nobody looks at; returns its name."""
        name = self.profile / "display"
        name.touch()
        with name.open("wb") as written:
            command = ["Xvfb", "-displayfd", str(written.fileno()), "-nolisten", "tcp"]
            screen = subprocess.Popen(
                command, pass_fds=[written.fileno()], stderr=subprocess.DEVNULL, start_new_session=True
            )
        self.closing.callback(end, screen)
        until(lambda: name.read_text().endswith("\n"), "Xvfb")
        return f":{name.read_text().strip()}"

    def listens(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.driver.get("/status").status_code == 200
        return False

    def call(self, method: str, path: str, **body: Any) -> Any:
        answer = self.driver.request(method, path, json=body if method == "POST" else None)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def open(self, url: str) -> str:
        tab: str = self.call("POST", "/window/new", type="tab")["handle"]
        self.call("POST", "/window", handle=tab)
        self.call("POST", "/url", url=url)
        return tab

    def run(self, tab: str, body: str) -> Any:
        self.call("POST", "/window", handle=tab)
        script = f"(async () => {{ {body} }})().then(arguments[0])"
        return self.call("POST", "/execute/async", script=script, args=[])

    def shut(self, tab: str) -> None:
        self.call("POST", "/window", handle=tab)
        self.call("DELETE", "/window")

    @classmethod
    def live(cls, profile: Path, page: str, paths: list[str]) -> list[str]:
        """As above. Driven over WebDriver MiniBrowser keeps nothing; so it is the page that drives: see `alone`."""
        browser = cls(profile)
        with browser.closing:
            home = {"HOME": str(profile), "DISPLAY": browser.display(), "GDK_BACKEND": "x11"}
            browser.spawn(MINIBROWSER, f"--cookies-file={profile}/cookies.txt", f"{page}#{json.dumps(paths)}", **home)
            with httpx.Client(timeout=DEADLINE) as client:
                until(lambda: client.get(f"{page}/heard").json(), "the page to tell what it was answered")
                answers: list[str] = client.get(f"{page}/heard").json()
                client.get(f"{page}/told?[]")
        return answers


KINDS = [Chromium, Firefox, WebKit]
