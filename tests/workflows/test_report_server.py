"""The served report: pages of one dataset to this machine's browsers, and nothing else to anybody."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import OutputError
from changen_cli.exports.master import open_master
from changen_cli.workflows.report_server import Exhibit, ReportServer
from tests.hub.datasets import write_dataset


@pytest.fixture(params=["folder", "parquet"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReportServer]:
    (tmp_path / "secret.txt").write_text("secret")
    out = write_dataset(tmp_path / "out", layout=request.param, dates=3)
    with ReportServer(Exhibit(out)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: ReportServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    link = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    link.putrequest(method, path, skip_host="host" in headers)
    for name, value in headers.items():
        link.putheader(name, value)
    link.endheaders()
    answer = link.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    link.close()
    return found


def test_page_samples_and_pictures(server, tmp_path) -> None:
    status, headers, content = ask(server, "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    assert b'"served":true' in content and b"sample-0" not in content and b"data:image" not in content
    for number, original in enumerate(open_master(tmp_path / "out").samples()):
        status, headers, content = ask(server, f"/samples/{number}.json")
        sample = json.loads(content)
        assert status == 200 and sample["row"] == original.row and len(sample["images"]) == 3
        for address, mask in zip(sample["masks"], original.mask_arrays, strict=True):
            _, headers, content = ask(server, f"/{address}/large")
            assert headers["content-type"] == "image/png"
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(content), formats=["PNG"])), mask)
        status, headers, content = ask(server, f"/{sample['images'][2]}/small?again")
        assert headers["content-type"] == "image/webp" and Image.open(io.BytesIO(content), formats=["WEBP"]).size == (
            64,
            64,
        )


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/..%2fsecret.txt", "//etc/passwd", "/manifest.json", "/train/metadata.jsonl", "/samples/99.json",
     "/samples/-1.json", "/samples/0.json/x", "/pictures/0/image/3/small", "/pictures/0/image/0/huge", "/favicon.ico",
     "/pictures/0/../0/image/0/small", "*"],
)  # fmt: skip
def test_nothing_else_is_there(server, path) -> None:
    status, _, content = ask(server, path)
    assert (status, content) == (404, b"Nothing here.\n")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""])
def test_only_requests_under_its_own_name_are_answered(server, host) -> None:
    status, _, content = ask(server, "/", host=host.format(port=server.server_port))
    assert status == 421 and b"sample" not in content


def test_its_own_names(server) -> None:
    assert server.server_address[0] == "127.0.0.1" and server.url == f"http://127.0.0.1:{server.server_port}/"
    assert ask(server, "/", host=f"LocalHost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_reading_is_all_one_can_do(server, method) -> None:
    assert ask(server, "/", method)[0] == 501


def test_headers_say_what_a_browser_may_do_with_it(server) -> None:
    status, headers, content = ask(server, "/", "HEAD")
    assert status == 200 and not content and int(headers["content-length"]) > 10_000
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "connect-src 'self'", "img-src data: 'self'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "unsafe" not in policy and "http" not in policy


def test_a_broken_picture_is_told_and_the_next_one_shown(server, tmp_path) -> None:
    images = sorted((tmp_path / "out").glob("train/images/*"))
    if not images:
        pytest.skip("pictures in Parquet are part of their table")
    images[0].write_bytes(b"no image")
    status, _, content = ask(server, "/pictures/0/image/0/small")
    assert status == 500 and b"cannot be read" in content
    assert ask(server, "/pictures/0/image/1/small")[0] == 200


def test_a_port_in_use_is_one_clear_error(server, tmp_path) -> None:
    with pytest.raises(OutputError, match=rf"port {server.server_port} cannot be used: .*Give another --port"):
        ReportServer(server.exhibit, server.server_port)
