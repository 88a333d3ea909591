"""What a stand-in for the Hub remembers: repositories, commits, stored objects, and the faults it is to make.

Strict where the Hub is: objects are kept under their SHA-256 and refused when hash or size are not what was announced;
a commit may only name objects that are stored; deleting what is not there is an error.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LFS_SUFFIXES = (".parquet", ".png", ".jpg", ".tif", ".safetensors", ".bin", ".pt", ".zip")
REGULAR_LIMIT = 10_000_000
COMMIT_LIMIT = 100


class Refusal(Exception):  # noqa: N818 - an answer, not an accident
    """An HTTP error to answer with."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass
class Fault:
    """Something that goes wrong with requests that match ``pattern`` (of ``"METHOD /path"``).

    ``skip`` requests pass first, then ``times`` fail: with ``status``, by cutting the connection after ``cut_after``
    bytes of the body (and setting ``reached``, then waiting for ``go_on`` first), or by never sending the answer.
    """

    pattern: str
    times: int = 1
    skip: int = 0
    status: int | None = None
    cut_after: int | None = None
    answer_lost: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    seen: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event | None = None

    def strikes(self, request: str) -> bool:
        if not re.search(self.pattern, request):
            return False
        self.seen += 1
        return self.skip < self.seen <= self.skip + self.times


@dataclass(frozen=True)
class Entry:
    """One file of a commit; ``sha256`` only for stored objects."""

    oid: str
    size: int
    sha256: str = ""

    def info(self, path: str) -> dict[str, Any]:
        lfs = {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}} if self.sha256 else {}
        return {"type": "file", "path": path, "size": self.size, "oid": self.oid, **lfs}


Tree = dict[str, Entry]


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """A repository: named commits, and which objects were sent to it."""

    kind: str
    id: str
    private: bool
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Tree] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def resolve(self, revision: str) -> str:
        """Commit id of a branch, a pull request or a commit."""
        found = self.refs.get(revision, revision)
        if found not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def tree(self, revision: str = "main") -> Tree:
        return self.commits[self.resolve(revision)]

    def put(self, ref: str, tree: Tree, message: str) -> str:
        facts = [self.id, len(self.commits), message, *sorted((p, e.oid) for p, e in tree.items())]
        commit = hashlib.sha1(json.dumps(facts).encode()).hexdigest()
        self.commits[commit] = tree
        self.refs[ref] = commit
        self.messages.append(message)
        return commit


@dataclass
class User:
    """Who a token belongs to and what it may do."""

    name: str
    writes_to: tuple[str, ...]


class Hub:
    """All state of the server.

    Args:
        folder: Where stored objects lie.
        page: Entries of one page of a file listing.
        part_bytes: Uploads larger than this are asked for in parts of this size.
        keep: Whether to keep what is uploaded; if not, only hash and size are remembered.
    """

    def __init__(self, folder: Path, *, page: int = 40, part_bytes: int = 1 << 40, keep: bool = True) -> None:
        self.folder, self.page, self.part_bytes, self.keep = folder, page, part_bytes, keep
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.users = {"hf_writer": User("ada", ("ada", "org")), "hf_reader": User("rob", ())}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.uploads: Counter[str] = Counter()
        """How often each object was received completely."""
        self.started: Counter[str] = Counter()
        """How often an upload of each object began, whether or not it came through."""
        self.parts: dict[tuple[str, int], str] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.retired: set[str] = set()

    def fault(self, pattern: str, **what: Any) -> Fault:
        """Order a fault; see :class:`Fault`."""
        made = Fault(pattern, **what)
        self.faults.append(made)
        return made

    def strike(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            return next((fault for fault in self.faults if fault.strikes(request)), None)

    def asked(self, pattern: str) -> int:
        """How many requests matched."""
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    # Repositories

    def user(self, token: str | None) -> User | None:
        if token is None:
            return None
        if token in self.retired:
            raise Refusal(401, "User Access Token is expired")
        if token not in self.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.users[token]

    def create(self, kind: str, repo_id: str, *, private: bool = False) -> Repo:
        if (kind, repo_id) in self.repos:
            raise Refusal(409, "You already created this repo")
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, private)
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        repo.put("main", {".gitattributes": self.blob(attributes.encode())}, "initial commit")
        return repo

    def open(self, kind: str, repo_id: str, user: User | None, *, write: bool = False) -> Repo:
        """The repository, if ``user`` may see it; private ones look missing to others."""
        repo = self.repos.get((kind, repo_id))
        owner = user is not None and repo_id.split("/")[0] in user.writes_to
        if repo is None or (repo.private and not owner):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not owner:
            raise Refusal(403, f"Forbidden: you must have write access to {repo_id}")
        return repo

    # Contents

    def blob(self, content: bytes) -> Entry:
        oid = git_oid(content)
        self.blobs[oid] = content
        return Entry(oid, len(content))

    def has(self, sha256: str, size: int) -> bool:
        return self.sizes.get(sha256) == size

    def object_path(self, sha256: str) -> Path:
        return self.folder / sha256

    def store(self, sha256: str, source: Path, digest: str, announced: int) -> None:
        """Take in an object that was received completely; refuse what is not what it was said to be."""
        size = source.stat().st_size
        if digest != sha256 or size != announced:
            source.unlink()
            raise Refusal(400, f"content is {digest} of {size} bytes, not {sha256} of {announced}")
        with self.lock:
            self.uploads[sha256] += 1
            self.sizes[sha256] = size
            if self.keep:
                source.replace(self.object_path(sha256))
            else:
                source.unlink()

    def read(self, entry: Entry) -> bytes:
        return self.object_path(entry.sha256).read_bytes() if entry.sha256 else self.blobs[entry.oid]

    def content(self, repo: Repo, path: str, revision: str = "main") -> bytes:
        return self.read(repo.tree(revision)[path])

    def upload_mode(self, path: str, size: int) -> str:
        return "lfs" if path.endswith(LFS_SUFFIXES) or size > REGULAR_LIMIT else "regular"

    def commit(self, repo: Repo, revision: str, lines: Iterable[dict[str, Any]], *, create_pr: bool) -> dict[str, Any]:
        """Apply an ndjson commit; all of it or nothing."""
        with self.lock:
            base = repo.resolve(revision)
            items = iter(lines)
            header = next(items)
            if header.get("key") != "header" or not header["value"].get("summary"):
                raise Refusal(400, "the first line must be a header with a summary")
            parent = header["value"].get("parentCommit")
            if parent and parent != base:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            tree, count = dict(repo.commits[base]), 0
            for item in items:
                count += 1
                self._apply(tree, item["key"], item["value"])
            if count > COMMIT_LIMIT:
                raise Refusal(413, f"{count} operations in one commit; at most {COMMIT_LIMIT}")
            number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
            ref = f"refs/pr/{number}" if create_pr else revision
            if ref not in repo.refs and not create_pr:
                raise Refusal(400, f"{ref} is no branch")
            done = repo.put(ref, tree, header["value"]["summary"])
            return {"commit": done, "pull_request": number if create_pr else None}

    def _apply(self, tree: Tree, key: str, value: dict[str, Any]) -> None:
        import base64

        path = value["path"]
        if key == "file":
            content = base64.b64decode(value["content"], validate=True)
            if self.upload_mode(path, len(content)) == "lfs":
                raise Refusal(400, f"{path} must be stored as an object")
            tree[path] = self.blob(content)
        elif key == "lfsFile":
            sha256, size = value["oid"], value["size"]
            if not self.has(sha256, size):
                raise Refusal(400, f"{path} points to an object that was never stored: {sha256}, {size} bytes")
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
            tree[path] = Entry(git_oid(pointer.encode()), size, sha256)
        elif key == "deletedFile":
            if tree.pop(path, None) is None:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        else:
            raise Refusal(400, f"unknown operation {key}")


def listing(tree: Tree, folder: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
    """What a file listing shows below ``folder``."""
    prefix = f"{folder}/" if folder else ""
    folders: set[str] = set()
    for path in sorted(tree):
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            name = prefix + "/".join(parts[:depth])
            if name not in folders:
                folders.add(name)
                yield {"type": "directory", "path": name, "size": 0, "oid": git_oid(name.encode())}
        if recursive or len(parts) == 1:
            yield tree[path].info(path)
