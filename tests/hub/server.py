"""The stand-in Hub on a loopback port, speaking what huggingface_hub speaks.

By hand: ``python -m tests.hub.server [PORT] [FOLDER]``, then ``HF_ENDPOINT=http://127.0.0.1:PORT HF_TOKEN=hf_writer``.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import tests.hub.objects  # noqa: F401 - for its routes
from tests.hub.handler import GIT, REPO, Handler, route
from tests.hub.state import Entry, Hub, Refusal, Repo, listing

_DATE = "2026-01-01T00:00:00.000Z"


@route("GET", "/api/whoami-v2")
def whoami(http: Handler, match: dict[str, str]) -> None:
    user = http.user()
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    role = "write" if user.writes_to else "read"
    orgs = [{"name": name} for name in user.writes_to if name != user.name]
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
    http.answer({"type": "user", "name": user.name, "orgs": orgs, "auth": token})


@route("POST", "/api/repos/create")
def create(http: Handler, match: dict[str, str]) -> None:
    asked, user = http.json(), http.user()
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    owner = asked.get("organization") or user.name
    if owner not in user.writes_to:
        raise Refusal(403, f"You don't have the rights to create a {asked['type']} under the namespace {owner!r}")
    repo_id = f"{owner}/{asked['name']}"
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    kind = "datasets/" if asked.get("type") == "dataset" else ""
    made = {"url": f"{http.server.url}/{kind}{repo_id}", "name": repo_id, "id": repo_id}
    try:
        with http.hub.lock:
            http.hub.create(asked.get("type") or "model", repo_id, private=private)
    except Refusal as refusal:
        http.answer(made | {"error": refusal.message}, refusal.status)
        return
    http.answer(made)


@route("POST", "/api/validate-yaml")
def validate_yaml(http: Handler, match: dict[str, str]) -> None:
    import yaml

    parts = http.json()["content"].split("---\n")
    try:
        front = yaml.safe_load(parts[1]) if len(parts) > 2 else None
    except yaml.YAMLError as error:
        http.answer({"errors": [{"message": str(error)}]}, 400)
        return
    if isinstance(front, dict) and not isinstance(front.get("license", ""), (str, list)):
        http.answer({"errors": [{"message": "license must be a string"}]}, 400)
        return
    http.answer({"errors": [], "warnings": []})


def describe(repo: Repo, revision: str) -> dict[str, Any]:
    tree = repo.tree(revision)
    return {
        "_id": "1", "id": repo.id, "modelId": repo.id, "author": repo.id.split("/")[0], "sha": repo.resolve(revision),
        "lastModified": _DATE, "createdAt": _DATE, "private": repo.private, "gated": False, "disabled": False,
        "tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in sorted(tree)],
    }  # fmt: skip


@route("GET", f"/api/{REPO}(?:/revision/(?P<rev>[^/]+))?")
def info(http: Handler, match: dict[str, str]) -> None:
    http.answer(describe(http.repo(match), match["rev"] or "main"))


@route("GET", f"/api/{REPO}/tree/(?P<rev>[^/]+)(?:/(?P<folder>.+))?")
def tree(http: Handler, match: dict[str, str]) -> None:
    rows = listing(
        http.repo(match).tree(match["rev"]), match["folder"], recursive=http.query.get("recursive") == "true"
    )
    found = list(rows)
    if match["folder"] and not found:
        raise Refusal(404, f"{match['folder']} does not exist", "EntryNotFound")
    at, page = int(http.query.get("cursor", 0)), http.hub.page
    headers = {}
    if at + page < len(found):
        path = urlsplit(http.path).path
        more = f"{http.server.url}{path}?recursive={http.query.get('recursive', 'false')}&cursor={at + page}"
        headers["Link"] = f'<{more}>; rel="next"'
    http.answer(found[at : at + page], headers=headers)


@route("GET", f"/api/{REPO}/auth-check(?P<write>/write)?")
def auth_check(http: Handler, match: dict[str, str]) -> None:
    http.repo(match, write=bool(match["write"]))
    http.answer(None)


@route("POST", f"/api/{REPO}/paths-info/(?P<rev>[^/]+)")
def paths_info(http: Handler, match: dict[str, str]) -> None:
    text = http.body().decode()
    paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    files = http.repo(match).tree(match["rev"])
    rows = {row["path"]: row for row in listing(files, "", recursive=True)}
    http.answer([rows[path] for path in paths if path in rows])


@route("GET", f"/api/{REPO}/refs")
def refs(http: Handler, match: dict[str, str]) -> None:
    rows = http.repo(match).refs.items()
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in rows if not n.startswith("refs/")]
    asked = [{"name": n, "ref": n, "targetCommit": c} for n, c in rows if n.startswith("refs/")]
    http.answer({"branches": branches, "converts": [], "tags": [], "pullRequests": asked})


@route("POST", f"/api/{REPO}/branch/(?P<rev>[^/]+)")
def branch(http: Handler, match: dict[str, str]) -> None:
    asked = http.json() or {}
    repo = http.repo(match, write=True)
    if match["rev"].startswith("refs/"):
        raise Refusal(400, "Invalid reference for a branch")
    if match["rev"] in repo.refs:
        raise Refusal(409, "Reference already exists")
    repo.refs[match["rev"]] = repo.resolve(asked.get("startingPoint", "main"))
    http.answer(None)


@route("POST", f"/api/{REPO}/preupload/(?P<rev>[^/]+)")
def preupload(http: Handler, match: dict[str, str]) -> None:
    asked = http.json()
    repo = http.repo(match, write=not http.query.get("create_pr"))
    files = repo.tree(match["rev"])
    rows = []
    for file in asked["files"]:
        known = files.get(file["path"])
        mode = http.hub.upload_mode(file["path"], file["size"])
        oid = {"oid": known.sha256 or known.oid} if known else {}
        rows.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    http.answer({"files": rows})


@route("POST", f"/api/{REPO}/commit/(?P<rev>[^/]+)")
def commit(http: Handler, match: dict[str, str]) -> None:
    lines = [json.loads(line) for line in http.body().splitlines()]
    create_pr = bool(http.query.get("create_pr"))
    repo = http.repo(match, write=not create_pr)
    if create_pr and http.user() is None:
        raise Refusal(401, "Invalid username or password.")
    done = http.hub.commit(repo, match["rev"], lines, create_pr=create_pr)
    base = f"{http.server.url}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}"
    number = done["pull_request"]
    asked = {"pullRequestUrl": f"{base}/discussions/{number}"} if number else {}
    http.answer({"success": True, "commitOid": done["commit"], "commitUrl": f"{base}/commit/{done['commit']}", **asked})


@route("GET", f"{GIT}/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
def resolve(http: Handler, match: dict[str, str]) -> None:
    repo = http.repo(match)
    commit_id = repo.resolve(match["rev"])
    entry: Entry | None = repo.commits[commit_id].get(match["path"])
    if entry is None:
        raise Refusal(404, f"{match['path']} does not exist", "EntryNotFound")
    content = http.hub.read(entry)
    etag = f'"{entry.sha256 or entry.oid}"'
    headers = {"ETag": etag, "X-Repo-Commit": commit_id, "Accept-Ranges": "bytes"}
    if entry.sha256:
        headers |= {"X-Linked-Size": str(entry.size), "X-Linked-Etag": etag}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", http.headers.get("Range", ""))
    if asked is None:
        http.send(content, headers=headers)
        return
    first, last = int(asked[1]), min(int(asked[2] or entry.size), entry.size - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
    http.send(content[first : last + 1], 206, headers)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | ValueError):
            super().handle_error(request, client_address)


@contextmanager
def serve(folder: Path, port: int = 0, **settings: Any) -> Iterator[tuple[str, Hub]]:
    """Run a Hub on a loopback port; yield its address and its state."""
    hub = Hub(folder, **settings)
    handler = type("BoundHandler", (Handler,), {"hub": hub, "signature": secrets.token_hex(8)})
    server = Server(("127.0.0.1", port), handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.url, hub
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serve(Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()), int((sys.argv[1:] or ["8765"])[0])) as (
        url,
        state,
    ):
        print(f"{url}, tokens {', '.join(state.users)}", flush=True)
        threading.Event().wait()
