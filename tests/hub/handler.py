"""One connection of the stand-in Hub: routes, bodies cut short where a fault says so, answers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.state import Fault, Hub, Refusal, Repo

REPO = r"(?P<kind>datasets|models)/(?P<repo>[^/]+/[^/]+)"
GIT = r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)"
_BLOCK = 1 << 16

Route = Callable[["Handler", dict[str, str]], None]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(method: str, pattern: str) -> Callable[[Route], Route]:
    def add(function: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return add


class Cut(Exception):  # noqa: N818 - ordered, no accident
    """The connection is to be cut."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    hub: Hub
    signature: str

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.fault: Fault | None = self.hub.strike(f"{self.command} {unquote(self.path)}")
        self.left = int(self.headers.get("Content-Length") or 0)
        self.answered = False
        try:
            if self.headers.get("Transfer-Encoding"):
                raise Refusal(411, "length required")
            if self.fault and self.fault.status:
                self.drain()
                raise Refusal(self.fault.status, "made to fail")
            for method, pattern, serve in ROUTES:
                found = pattern.fullmatch(url.path)
                if found and method in (self.command, "GET" if self.command == "HEAD" else ""):
                    serve(self, {key: unquote(value or "") for key, value in found.groupdict().items()})
                    return
            self.drain()
            raise Refusal(404, f"no such endpoint: {self.command} {url.path}")
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message, **(self.fault.headers if self.fault else {})}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self.drain()
            self.answer({"error": refusal.message}, refusal.status, headers)
        except (Cut, ConnectionError):
            self.close_connection = True
            # A reset instead of a goodbye.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    # Requests

    def blocks(self) -> Iterator[bytes]:
        """The body, block by block; cut short where a fault says so."""
        limit = self.fault.cut_after if self.fault else None
        taken = 0
        while self.left:
            size = min(_BLOCK, self.left, *(() if limit is None else (max(1, limit - taken),)))
            block = self.rfile.read(size)
            if not block:
                raise Cut
            self.left -= len(block)
            taken += len(block)
            if limit is not None and taken >= limit:
                self._hold()
                raise Cut
            yield block

    def _hold(self) -> None:
        if self.fault:
            self.fault.reached.set()
            if self.fault.go_on:
                self.fault.go_on.wait(60)

    def body(self) -> bytes:
        return b"".join(self.blocks())

    def json(self) -> Any:
        return json.loads(self.body() or b"null")

    def drain(self) -> None:
        for _ in self.blocks():
            pass

    def user(self) -> Any:
        header = self.headers.get("Authorization")
        return self.hub.user(header.removeprefix("Bearer ") if header else None)

    def repo(self, match: dict[str, str], *, write: bool = False) -> Repo:
        kind = (match["kind"] or "models").removesuffix("s")
        user = self.user()
        if write and user is None:
            raise Refusal(401, "Invalid username or password.")
        return self.hub.open(kind, match["repo"], user, write=write)

    # Answers

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = b"" if value is None else json.dumps(value).encode()
        self.send(content, status, {"Content-Type": "application/json", **(headers or {})})

    def send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.fault and self.fault.answer_lost:
            raise Cut
        self.send_response(status)
        for key, text in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, " ".join(text.split()))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()
