"""The report of a dataset that is too large for one file: page, samples and pictures on demand, on this machine."""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from changen_cli.core.errors import ChangenError, OutputError
from changen_cli.exports.lookup import Lookup
from changen_cli.exports.master import Sample, open_master
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.report_index import Index
from changen_cli.workflows.report_page import content_policy, overview, page, script_json
from changen_cli.workflows.report_sample import Look, describe_sample, painted, photograph

LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost")
_SAMPLE = re.compile(r"/samples/([0-9]{1,9})\.json")
_PICTURE = re.compile(r"/pictures/([0-9]{1,9})/(image|mask)/([0-9]{1,2})/(small|large)")
_SMALL, _LARGE = Look(384, 72), Look(2048, 90)
_KEPT_SAMPLES, _KEPT_PICTURES = 16, 64


class Exhibit:
    """What the server shows of one dataset; every address is made of numbers, so none leads out of it.

    Args:
        out: The dataset, in either layout.
        progress: Told how far reading is.

    Raises:
        UsageError: There is no dataset, or its run has not ended.
        OutputError: A table or a log cannot be read.
    """

    def __init__(self, out: Path, progress: Progress | None = None) -> None:
        self._master = open_master(out)
        (progress or Silent()).stage("reading")
        index = Index(self._master.logs())
        self._lookup = Lookup(self._master)
        self._lock = threading.Lock()  # numbers of one sample ask for it several times at once
        self._sample = lru_cache(_KEPT_SAMPLES)(self._lookup.__getitem__)
        self._picture = lru_cache(_KEPT_PICTURES)(self._draw)
        self._page = "".join(page(overview(self._master, index, index.entries, served=True), (), served=True)).encode()

    def answer(self, path: str) -> tuple[str, bytes]:
        """The content type and the content at an address.

        Raises:
            LookupError: There is nothing.
            OutputError: A file of the dataset cannot be read.
        """
        if path == "/":
            return "text/html; charset=utf-8", self._page
        if match := _SAMPLE.fullmatch(path):
            return "application/json", self._describe(int(match[1]))
        if match := _PICTURE.fullmatch(path):
            number, date = int(match[1]), int(match[3])
            form = "webp" if match[2] == "image" else "png"
            return f"image/{form}", self._picture(number, match[2], date, match[4])
        raise LookupError(path)

    def _find(self, number: int) -> Sample:
        with self._lock:
            return self._sample(number)

    def _describe(self, number: int) -> bytes:
        sample = self._find(number)
        images, masks = (
            [f"pictures/{number}/{kind}/{date}" for date in range(len(files))]
            for kind, files in (("image", sample.images), ("mask", sample.masks))
        )
        return script_json(describe_sample(sample, images, masks)).encode()

    def _draw(self, number: int, kind: str, date: int, size: str) -> bytes:
        sample = self._find(number)
        look = _SMALL if size == "small" else _LARGE
        if kind == "image":
            return photograph(sample.images[date], look)
        return painted(sample.masks[date], self._master.schema, look.side_px)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, from pages of this server only."""

    server: ReportServer
    server_version = "changen"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Send what is at the address."""
        # A page elsewhere can point a name of its own to this machine; its requests then bear that name.
        if self.headers.get("Host", "").lower() not in self.server.names:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"This server answers to its own address only.\n")
            return
        try:
            kind, content = self.server.exhibit.answer(self.path.partition("?")[0])
        except LookupError:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"Nothing here.\n")
        except (ChangenError, OSError, ValueError) as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{error}\n".encode("utf-8", "replace"))
        else:
            self._send(HTTPStatus.OK, kind, content)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": f"{content_policy(served=True)}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "private, max-age=600" if kind.startswith("image/") else "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Tell nobody: a line per picture would hide what matters."""


class ReportServer(ThreadingHTTPServer):
    """Serves a report on the loopback interface, to browsers on this machine.

    Args:
        exhibit: What is shown.
        port: 0 takes a free one.

    Raises:
        OutputError: The port cannot be had.
    """

    daemon_threads = True

    def __init__(self, exhibit: Exhibit, port: int = 0) -> None:
        self.exhibit = exhibit
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise OutputError(f"port {port} cannot be used: {error.strerror}", "Give another --port, or 0") from None
        self.names = {f"{name}:{self.server_port}" for name in _NAMES}

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell nobody that a browser went away in the middle of an answer."""
