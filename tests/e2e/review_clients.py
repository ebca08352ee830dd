"""What the review page is tried with: a server of its own, a wire that keeps what it sends, a page in the browser."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """`alignvec data review` in a process of its own."""

    rows: Path
    out: Path
    port: int
    process: subprocess.Popen[str] | None = None
    more: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        command = [sys.executable, "-m", "alignvec.cli.app", "data", "review", str(self.rows), "--out", str(self.out)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--no-browser", *self.more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.rows.parent,
            preexec_fn=_heeds_ctrl_c,
        )
        assert self.process.stderr
        line = self.process.stderr.readline()
        assert self.address in line, line + self.process.stderr.read()

    def end(self, how: signal.Signals) -> tuple[int, str]:
        assert self.process
        self.process.send_signal(how)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


def _heeds_ctrl_c() -> None:
    """What runs in the background passes on to its children that they ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Wire:
    """Stands between browser and server, and keeps every byte that the server sent."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._received = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def received(self) -> str:
        return self._received.decode("utf-8", errors="replace")

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:  # the server is down
                browser.close()
                continue
            threading.Thread(target=self._pass_on, args=(browser, server), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, browser, self._received), daemon=True).start()

    def _pass_on(self, giver: socket.socket, taker: socket.socket, record: bytearray | None = None) -> None:
        try:
            while data := giver.recv(1 << 16):
                if record is not None:
                    record += data
                # so that what comes back is plain text
                taker.sendall(data.replace(b"Accept-Encoding:", b"X-ccept-Encoding:"))
        except OSError:
            pass
        for end in (giver, taker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # a close alone would not wake the thread that reads it


@dataclass
class Reader:
    """A page in the browser."""

    page: Any
    asked: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    @property
    def reply(self) -> str:
        return str(self.page.inner_text("#card .reply"))

    @property
    def progress(self) -> str:
        return str(self.page.inner_text("#progress span"))

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.wait()

    def reload(self) -> None:
        self.page.reload()
        self.wait()

    def wait(self) -> None:
        self.page.wait_for_selector("#card .reply")
        self.page.wait_for_timeout(300)  # the page takes no keys for a reply that nobody can have read yet

    @property
    def notice(self) -> str:
        return " ".join(self.page.locator("#card .notice").all_inner_texts())

    def press(self, *keys: str) -> str:
        """Press keys, the last of which brings something else on the card; returns the reply that was there."""
        text = "document.querySelector('#card .prose').innerText"
        before, reply = self.page.evaluate(text), self.page.locator("#card .reply").all_inner_texts()
        for key in keys:
            self.page.keyboard.press(key)
        self.page.wait_for_function(f"before => {text} !== before", arg=before)
        self.page.wait_for_timeout(300)
        return str(reply[0]) if reply else ""


def written_for(rows: Path, reply: str) -> tuple[str, str]:
    """Row id and level of a reply that stands on the page."""
    found = [
        (row["id"], level)
        for row in map(json.loads, rows.read_text().splitlines())
        for level, text in row["responses"].items()
        if text == reply
    ]
    assert len(found) == 1
    return str(found[0][0]), str(found[0][1])
