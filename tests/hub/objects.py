"""The stand-in Hub's large files: Git LFS, in one piece or in parts, checked by hash and size."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

from tests.hub.handler import GIT, Handler, route
from tests.hub.state import Refusal


@route("POST", f"{GIT}\\.git/info/lfs/objects/batch")
def batch(http: Handler, match: dict[str, str]) -> None:
    asked = http.json()
    http.repo(match, write="ref" in asked)
    hub = http.hub
    objects = []
    for item in asked["objects"]:
        sha256, size = item["oid"], item["size"]
        if hub.has(sha256, size):
            objects.append({"oid": sha256, "size": size})
            continue
        href = f"{http.server.url}/lfs/{sha256}?size={size}&signature={http.signature}"
        upload: dict[str, Any] = {"href": href}
        if size > hub.part_bytes:
            count = -(-size // hub.part_bytes)
            header = {f"{i + 1:05d}": f"{href}&part={i + 1}" for i in range(count)}
            upload["header"] = {"chunk_size": str(hub.part_bytes), **header}
        verify = {"href": f"{http.server.url}/lfs/verify"}
        objects.append({"oid": sha256, "size": size, "actions": {"upload": upload, "verify": verify}})
    http.answer({"transfer": "multipart" if hub.part_bytes < 1 << 40 else "basic", "objects": objects})


def signed(http: Handler) -> None:
    if http.query.get("signature") != http.signature:
        raise Refusal(403, "Request has expired")
    if http.headers.get("Authorization"):
        raise Refusal(400, "Only one auth mechanism allowed: a signed address takes no token")


def receive(http: Handler, key: str) -> tuple[Path, str]:
    digest = hashlib.sha256()
    path = http.hub.folder / f".{key}-{secrets.token_hex(4)}"
    try:
        with path.open("wb") as file:
            for block in http.blocks():
                digest.update(block)
                file.write(block)
    except BaseException:
        path.unlink()
        raise
    return path, digest.hexdigest()


@route("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})")
def put(http: Handler, match: dict[str, str]) -> None:
    signed(http)
    sha256, part = match["oid"], http.query.get("part")
    with http.hub.lock:
        http.hub.started[sha256] += part in (None, "1")
    path, digest = receive(http, sha256)
    if part:
        path.replace(http.hub.folder / f"{sha256}.part{int(part):05d}")
        http.hub.parts[sha256, int(part)] = digest
        http.answer(None, headers={"ETag": f'"{digest}"'})
        return
    http.hub.store(sha256, path, digest, int(http.query["size"]))
    http.answer(None, headers={"ETag": f'"{digest}"'})


@route("POST", r"/lfs/(?P<oid>[0-9a-f]{64})")
def complete(http: Handler, match: dict[str, str]) -> None:
    signed(http)
    sha256, named = match["oid"], http.json()["parts"]
    whole = http.hub.folder / f".{sha256}-whole"
    digest = hashlib.sha256()
    with whole.open("wb") as file:
        for number, part in enumerate(named, 1):
            if part["etag"].strip('"') != http.hub.parts.get((sha256, number)):
                raise Refusal(400, f"part {number} is not what was received")
            path = http.hub.folder / f"{sha256}.part{number:05d}"
            content = path.read_bytes()
            path.unlink()
            digest.update(content)
            file.write(content)
    http.hub.store(sha256, whole, digest.hexdigest(), int(http.query["size"]))
    http.answer({})


@route("POST", "/lfs/verify")
def verify(http: Handler, match: dict[str, str]) -> None:
    asked = http.json()
    if http.user() is None:
        raise Refusal(401, "Invalid username or password.")
    if not http.hub.has(asked["oid"], asked["size"]):
        raise Refusal(404, "object not found")
    http.answer({})
