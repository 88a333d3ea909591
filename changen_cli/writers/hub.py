"""A repository on the Hugging Face Hub: what is in it, sending large files, one commit for all of them.

Large files go first, each under its SHA-256 (``preupload_lfs_files``): nobody sees them. A commit then gives all of
them their names at once. Sending a file again that the Hub holds costs one question and no bytes, and a file that is
held can be committed by its hash alone, without being there.

By which way bytes travel is asked of the Hub: by Xet where it offers that and ``hf_xet`` is installed, else as Git LFS.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from changen_cli.core.errors import OutputError
from changen_cli.writers.hub_client import can_use_xet, check_repo_id, find_token
from changen_cli.writers.hub_errors import explain, is_transient, is_unreachable, retry_after
from changen_cli.writers.hub_files import Addition, Counted, Kind, RemoteFile, Stored, Told, batches, differences

T = TypeVar("T")

ATTEMPTS = 6
_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 300.0
_BATCH = 256


@dataclass(frozen=True)
class Remote:
    """A repository that exists.

    Attributes:
        private: Whether only some may see it.
        branch: Whether the revision asked for exists; if not, the files are those of the main branch.
        head: The commit the revision points to.
        files: Everything in it.
    """

    private: bool
    branch: bool
    head: str
    files: dict[str, RemoteFile] = field(repr=False)


@dataclass(frozen=True)
class Committed:
    """Where a push went: address for people, commit, and the revision that holds it."""

    url: str
    oid: str
    revision: str


class Repository:
    """One repository on the Hub, and a token to use it with.

    Args:
        repo_id: ``org/name``.
        kind: Dataset or model.
        revision: Branch; None for the main one.
        create_pr: Whether to propose changes instead of making them.
        token: Access token; None takes HF_TOKEN or the stored login.
        sleep: Waits that many seconds; None: until :attr:`stop` is set, at most.

    Raises:
        UsageError: ``repo_id`` cannot be one, or the token cannot.
    """

    def __init__(
        self,
        repo_id: str,
        kind: Kind = "dataset",
        *,
        revision: str | None = None,
        create_pr: bool = False,
        token: str | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        from huggingface_hub import HfApi

        check_repo_id(repo_id)
        self.repo_id, self.kind, self.revision, self.create_pr = repo_id, kind, revision or "main", create_pr
        self._token = find_token(token)
        self._api = HfApi(token=self._token or False)
        self._xet = False
        self.stop = threading.Event()
        """Set to break off what is being sent."""
        self._sleep = sleep or self.stop.wait

    @property
    def endpoint(self) -> str:
        """Address of the Hub."""
        return str(self._api.endpoint)

    @property
    def address(self) -> str:
        """The repository's page."""
        return f"{self.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo_id}"

    def login(self) -> str:
        """Name of the token's owner.

        Raises:
            OutputError: There is no token, it is not accepted, or the Hub cannot be reached.
        """
        if not self._token:
            raise OutputError("there is no access token for the Hub", "Log in with `hf auth login`, or set HF_TOKEN")
        return str(self._first(self._api.whoami)["name"])

    def look(self) -> Remote | None:
        """What is there; None where there is no such repository, or none that the token may see."""
        from huggingface_hub import RepoFile, errors

        def info(revision: str | None) -> Any:
            return self._api.repo_info(self.repo_id, repo_type=self.kind, revision=revision)

        def read() -> Remote | None:
            try:
                found, branch = info(self.revision), True
            except errors.RevisionNotFoundError:
                found, branch = info(None), False
            except errors.RepositoryNotFoundError as error:
                if error.response.status_code != 404:
                    raise
                return None
            rows = self._api.list_repo_tree(self.repo_id, repo_type=self.kind, revision=found.sha, recursive=True)
            files = {
                row.path: RemoteFile(row.blob_id, row.lfs.sha256 if row.lfs else None)
                for row in rows
                if isinstance(row, RepoFile)
            }
            return Remote(bool(found.private), branch, str(found.sha), files)

        return self._first(read)

    def check_rights(self) -> None:
        """Ask whether the token may do what is asked of it.

        Raises:
            OutputError: It may not.
        """
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def ask() -> None:
            url = f"{self.endpoint}/api/{self.kind}s/{self.repo_id}/auth-check{'' if self.create_pr else '/write'}"
            hf_raise_for_status(get_session().get(url, headers=build_hf_headers(token=self._token or False)))

        self._first(ask)

    def rows(self, config: str, split: str, commit: str, count: int) -> list[dict[str, Any]]:
        """The first rows of a split as ``datasets`` loads them, images as they are stored (``bytes`` and ``path``).

        Raises:
            OutputError: They cannot be loaded.
        """
        from datasets import Image, List, load_dataset

        def load() -> list[dict[str, Any]]:
            loaded = load_dataset(self.repo_id, config, split=split, revision=commit, streaming=True, token=self._token)
            for name, feature in loaded.features.items():
                if isinstance(feature, Image):
                    loaded = loaded.cast_column(name, Image(decode=False))
                elif isinstance(feature, List) and isinstance(feature.feature, Image):
                    loaded = loaded.cast_column(name, List(Image(decode=False)))
            return list(loaded.take(count))

        return self._retry(load)

    def read(self, path: str) -> bytes:
        """Content of one small file of the revision."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def fetch() -> bytes:
            url = f"{self.address}/resolve/{quote(self.revision, safe='')}/{quote(path)}"
            answer = get_session().get(url, headers=build_hf_headers(token=self._token or False), follow_redirects=True)
            hf_raise_for_status(answer)
            return bytes(answer.content)

        return self._retry(fetch)

    def create(self, *, private: bool) -> None:
        """Create the repository, or the branch, where it is missing."""
        self._retry(
            lambda: self._api.create_repo(self.repo_id, repo_type=self.kind, private=private or None, exist_ok=True)
        )

    def create_branch(self) -> None:
        """Create the revision as a branch of the main one."""
        self._retry(
            lambda: self._api.create_branch(self.repo_id, branch=self.revision, repo_type=self.kind, exist_ok=True)
        )

    def held(self, files: Iterable[Stored]) -> set[Stored]:
        """Those of ``files`` that the Hub holds already; also learns by which way it takes others."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = f"{self.address}.git/info/lfs/objects/batch"
        kind = "application/vnd.git-lfs+json"
        wanted, found = list(dict.fromkeys(files)), set()
        for start in range(0, len(wanted), _BATCH):
            part = wanted[start : start + _BATCH]
            body: dict[str, Any] = {
                "operation": "upload",
                "transfers": ["basic", "multipart", *(["xet"] if can_use_xet() else [])],
                "objects": [{"oid": item.sha256, "size": item.size} for item in part],
                "hash_algo": "sha256",
            }
            if not self.create_pr:
                # Who may only propose may not write to the branch.
                body["ref"] = {"name": self.revision}

            def ask(body: dict[str, Any] = body) -> Any:
                headers = build_hf_headers(token=self._token or False) | {"Accept": kind, "Content-Type": kind}
                answer = get_session().post(url, headers=headers, json=body)
                hf_raise_for_status(answer)
                return answer.json()

            told = self._retry(ask)
            self._xet = told.get("transfer") == "xet"
            there = {o["oid"] for o in told["objects"] if not o.get("actions") and "error" not in o}
            found |= {item for item in part if item.sha256 in there}
        return found

    def send(self, path: str, source: Path | bytes, stored: Stored | None = None, told: Told | None = None) -> Addition:
        """Send one file as far as it is a large one; nobody sees it before :meth:`commit`.

        Args:
            path: Where it is to lie in the repository.
            source: The file, or its content.
            stored: Its hash and size, where they are known.
            told: Told how far it is.

        Returns:
            What :meth:`commit` takes. A large file is not needed any more.
        """
        from huggingface_hub import CommitOperationAdd

        addition = CommitOperationAdd(path, source if isinstance(source, bytes) else str(source))
        if stored:
            addition.upload_info.sha256 = bytes.fromhex(stored.sha256)
        size = addition.upload_info.size
        stored = Stored(addition.upload_info.sha256.hex(), size)
        # Asked for bytes as well: the answer says by which way the Hub takes files.
        if stored in self.held([stored]) and not isinstance(source, bytes):
            addition = self.addition(path, stored)
        else:
            self._retry(lambda: self._upload(addition, source, told))
        if told:
            told(size)
        return addition

    def addition(self, path: str, stored: Stored) -> Addition:
        """What :meth:`commit` takes for a large file that the Hub holds, and that need not be here."""
        from huggingface_hub import CommitOperationAdd
        from huggingface_hub.lfs import UploadInfo

        addition = CommitOperationAdd(path, b"")
        # The state in which preupload_lfs_files leaves an operation whose content it has sent and freed.
        addition.upload_info = UploadInfo(size=stored.size, sample=b"", sha256=bytes.fromhex(stored.sha256))
        addition._upload_mode, addition._is_uploaded, addition._should_ignore = "lfs", True, False
        return addition

    def commit(
        self, additions: Sequence[Addition], deletions: Iterable[str], message: str, remote: Remote
    ) -> Committed:
        """Give everything its name: in one commit where at most :data:`MAX_OPERATIONS` files differ from what is there.

        Above that, large files go first and small ones (card, manifest) in the last commit that adds, so that the old
        card is in place while files appear.

        Args:
            additions: From :meth:`send` and :meth:`addition`.
            deletions: Files to remove, as far as they are there.
            message: Summary of the commit.
            remote: What is there now.

        Raises:
            OutputError: The Hub does not take it. Nothing of that commit is visible then.
        """
        done = Committed(self.address, remote.head, self.revision)
        for batch in batches(*differences(additions, deletions, remote.files)):
            done = self._commit(batch, message, done)
        return done

    def _commit(self, operations: Sequence[Any], message: str, last: Committed) -> Committed:
        propose = self.create_pr and last.revision == self.revision

        def make() -> Committed:
            info = self._api.create_commit(
                self.repo_id, operations, commit_message=message, repo_type=self.kind, revision=last.revision,
                create_pr=propose, parent_commit=None if propose else last.oid,
            )  # fmt: skip
            revision = str(info.pr_revision) if propose else last.revision
            return Committed(str(info.pr_url) if propose else last.url, info.oid, revision)

        def made(error: Exception) -> Committed | None:
            """Whether the commit was made although its answer was lost: a second one would fail, or say the same."""
            remote = None if propose or not is_unreachable(error) else self.look()
            if remote is None:
                return None
            paths = [item.path_in_repo for item in operations if not hasattr(item, "upload_info")]
            added = [item for item in operations if hasattr(item, "upload_info")]
            left = differences(added, paths, remote.files)
            return None if any(left) else Committed(last.url, remote.head, last.revision)

        return self._retry(make, made, unanswered=not propose)

    def _upload(self, addition: Addition, source: Path | bytes, told: Told | None) -> None:
        """Send one large file; a small one is left for the commit to carry."""
        if isinstance(source, bytes):
            reader: io.BufferedIOBase = io.BytesIO(source)
        else:
            reader = Counted(source, told or (lambda position: None), self.stop)
        with reader:
            # The client takes Xet for paths and bytes, Git LFS for open files.
            addition.path_or_fileobj = (source if isinstance(source, bytes) else str(source)) if self._xet else reader
            self._api.preupload_lfs_files(
                self.repo_id, [addition], repo_type=self.kind, revision=self.revision, create_pr=self.create_pr
            )
        if addition.path_or_fileobj != b"":
            addition.path_or_fileobj = source if isinstance(source, bytes) else source.read_bytes()

    def _first(self, call: Callable[[], T]) -> T:
        """A first question: no network is told at once instead of after minutes of waiting."""
        return self._retry(call, unanswered=False)

    def _retry(
        self,
        call: Callable[[], T],
        made: Callable[[Exception], T | None] = lambda error: None,
        *,
        unanswered: bool = True,
    ) -> T:
        """Call until it succeeds, with waits that double and never fall below what the Hub asks for.

        The client tries five times on its own, for half a minute; this is for what lasts longer.

        Args:
            call: What to do.
            made: Says after a failure whether it was done all the same: then what ``call`` would return.
            unanswered: Whether to try again where no answer came.
        """
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except Exception as error:
                if self.stop.is_set():
                    raise
                if (result := made(error)) is not None:
                    return result
                hopeless = not is_transient(error) or (is_unreachable(error) and not unanswered)
                if hopeless or attempt == ATTEMPTS - 1:
                    raise explain(error, self.repo_id, self.endpoint, self._token) from error
                self._sleep(min(max(retry_after(error), _FIRST_WAIT_S * 2**attempt), _LONGEST_WAIT_S))
        raise AssertionError("unreachable")
