"""A terminal with a person at it, and a line to the service that can be cut."""

from __future__ import annotations

import os
import pty
import select
import socket
import ssl
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from service.tests.serving import until

WAIT_S = 60.0
CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"
_SHAPE = (50, 200)


class Terminal:
    """A command on a terminal of its own, which is its controlling one: Ctrl-C is a key, not a signal."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, _SHAPE)
        self._process = subprocess.Popen(
            # As a terminal hands it over, even where the tests run in the background, whose Ctrl-C is ignored.
            ["env", "--default-signal=INT", "setsid", "--ctty", *command],
            env={**environ, "TERM": "xterm", "NO_COLOR": ""},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.shown = ""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def press(self, key: str) -> None:
        """Press a key that is a signal, once the command waits for one.

        One that comes in the moment between a key that readline has shown and its wait for the next is noticed with
        that next one, in every program that uses Python's `input`.
        """
        until(self._waits, "the command waits")
        self.type(key)

    def say(self, line: str) -> None:
        """Type a line, and see it there."""
        self.type(line)
        self.see(line)
        self.type("\r")

    def see(self, text: str) -> str:
        """Wait until `text` is shown after what was seen before; return what stands between."""
        end = time.monotonic() + WAIT_S
        while (place := self.shown.find(text, self._seen)) < 0:
            assert self._read(end - time.monotonic()), f"{text!r} is not shown:\n{self.shown}"
        between, self._seen = self.shown[self._seen : place], place + len(text)
        return between

    def left(self) -> int:
        """Wait for the end of the command and return its exit status."""
        end = time.monotonic() + WAIT_S
        while self._read(end - time.monotonic()):
            pass
        return self._process.wait(WAIT_S)

    def _waits(self) -> bool:
        return Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(") ")[2].startswith("S")

    def _read(self, within_s: float) -> bool:
        if not select.select([self._ours], [], [], max(0.0, within_s))[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux says so when the last one on the other side has gone
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


class Relay:
    """Passes bytes on to a port of the loopback, until a test cuts the line."""

    def __init__(self, port: int, certificate: str = "") -> None:
        """Listen.

        Args:
            port: where to.
            certificate: PEM file with a key; with it the near side speaks TLS.
        """
        self._to = port
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._sockets: list[socket.socket] = []
        self._silent_after = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.cut()

    def mute_after(self, mark: bytes) -> None:
        """Pass nothing more back on a connection once `mark` has been passed."""
        self._silent_after = mark

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self._silent_after = b""
        _close(self._listener)
        while self._sockets:
            _close(self._sockets.pop())

    def mend(self) -> None:
        """Accept connections again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                near = listener.accept()[0]
                near = self._tls.wrap_socket(near, server_side=True) if self._tls else near
                far = socket.create_connection(("127.0.0.1", self._to))
            except ssl.SSLError:
                continue
            except OSError:
                return
            self._sockets += [near, far]
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        silent = False
        try:
            while data := source.recv(65_536):
                if not silent:
                    target.sendall(data)
                silent = silent or bool(back and self._silent_after and self._silent_after in data)
        except OSError:
            pass
        _close(source)
        _close(target)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
