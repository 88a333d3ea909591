"""Where a push goes, what is checked before anything is sent, and what it tells afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from changen_cli import __version__
from changen_cli.core.errors import OutputError
from changen_cli.core.licences import Licence
from changen_cli.writers.hub import Committed, Remote, Repository
from changen_cli.writers.hub_files import Addition, Kind, is_there

Sized = tuple[str, int]
"""A path in the repository and the bytes of its file."""

_NEUTRAL = re.compile(r"\.gitattributes|README\.md|LICENSE[^/]*")
"""What a repository holds before anybody put data into it."""


@dataclass(frozen=True)
class Target:
    """Where a push goes.

    Attributes:
        repo_id: ``org/name``; created when missing.
        private: Create it so that only its owners see it.
        revision: Branch; created when missing. None: the main one.
        create_pr: Propose the files in a pull request.
        licence: The Hub's identifier of the licence to publish under; None: computed.
        token: Access token; None takes HF_TOKEN or the stored login.
    """

    repo_id: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    licence: str | None = None
    token: str | None = field(default=None, repr=False)

    def repository(self, kind: Kind, sleep: Callable[[float], object] | None) -> Repository:
        """Return the repository; nothing is asked of the Hub yet."""
        return Repository(
            self.repo_id, kind, revision=self.revision, create_pr=self.create_pr, token=self.token, sleep=sleep
        )


@dataclass(frozen=True)
class PushReport:
    """What a push did, or with ``dry_run`` would do.

    Attributes:
        url: Address for people: the repository, or the pull request.
        created: Whether the repository is new.
        private: Whether only some may see it.
        licence: What it is published under.
        send: Files that were sent.
        held: Files that were there already.
        delete: Files of an earlier push that were removed.
        rows: Split → samples, of a dataset.
        branch: A branch that is new; empty without.
        commit: Commit on the Hub; empty with ``dry_run``.
        verified: Samples that were loaded back and compared.
    """

    url: str
    created: bool
    private: bool
    licence: Licence
    send: tuple[Sized, ...] = ()
    held: tuple[Sized, ...] = ()
    delete: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    branch: str = ""
    commit: str = ""
    verified: int = 0


def report_of(target: Target, repo: Repository, remote: Remote | None, licence: Licence) -> PushReport:
    """What is known of a push before anything is sent."""
    branch = "" if target.revision is None or (remote and remote.branch) else target.revision
    private = remote.private if remote else target.private
    return PushReport(repo.address, remote is None, private, licence, branch=branch)


class UploadProgress(Protocol):
    """Receives the events of a push. :meth:`sent` is called from several threads."""

    def note(self, text: str) -> None:
        """One line worth reading."""

    def sent(self, done: int, total: int) -> None:
        """Bytes sent so far, and how many there are to send as far as known."""


class SilentUpload:
    """An :class:`UploadProgress` that tells nobody."""

    def note(self, text: str) -> None:
        """Ignore."""

    def sent(self, done: int, total: int) -> None:
        """Ignore."""


def look(repo: Repository, progress: UploadProgress, *, dry_run: bool) -> Remote | None:
    """Look at the repository; None where there is none, or a dry run cannot ask.

    Raises:
        OutputError: The Hub cannot be reached, or does not accept the token, or the token may not write there.
    """
    try:
        repo.login()
        remote = repo.look()
        if remote is not None:
            repo.check_rights()
        return remote
    except OutputError as error:
        if not dry_run:
            raise
        progress.note(f"The Hub could not be asked, so the repository is taken to be new. {error}")
        return None


def check(target: Target, remote: Remote | None, licence: Licence, *, ours: bool) -> None:
    """Refuse what must not be done.

    Args:
        target: Where it goes.
        remote: What is there.
        licence: What it would be published under.
        ours: Whether changen put there what is there.

    Raises:
        OutputError: A public repository where a private one or a known licence is asked for, or somebody else's files.
    """
    name = target.repo_id
    if remote is None and target.create_pr:
        raise OutputError(f"{name} does not exist", "Leave out --create-pr to create it")
    if remote and target.private and not remote.private:
        raise OutputError(
            f"{name} is public, --private asks for a private one",
            "Change its visibility in its settings, or choose another name",
        )
    if not licence.known and not (remote.private if remote else target.private):
        raise OutputError(
            f"{name} would be public, but its licence is not known. {licence.reason.rstrip('.')}",
            "State it with --license, or push with --private",
        )
    strangers = any(not _NEUTRAL.fullmatch(path) for path in (remote.files if remote else ()))
    if strangers and not ours and not target.create_pr:
        raise OutputError(
            f"{name} exists already and holds files that changen did not put there",
            "Choose another name, or propose the files with --create-pr",
        )


def prepare(repo: Repository, remote: Remote | None, *, private: bool) -> Remote:
    """Create the repository or the branch where it is missing."""
    if remote is None:
        repo.create(private=private)
        remote = see(repo)
    if not remote.branch:
        repo.create_branch()
    return see(repo)


def see(repo: Repository) -> Remote:
    """Look at a repository that must be there."""
    remote = repo.look()
    if remote is None:
        raise OutputError(f"{repo.repo_id} cannot be seen any more", "Check the token's rights")
    return remote


def compare(files: Mapping[str, bytes], remote: Remote | None) -> tuple[list[Sized], list[Sized]]:
    """Tell small files that are there already from those to send."""
    there = {path for path, content in files.items() if remote and is_there(remote.files.get(path), content)}
    sizes = [(path, len(content)) for path, content in files.items()]
    return [row for row in sizes if row[0] in there], [row for row in sizes if row[0] not in there]


def deliver(
    repo: Repository, remote: Remote, large: Iterable[Addition], small: Mapping[str, bytes], gone: Iterable[str]
) -> Committed:
    """Commit everything: large files that were sent, small ones, and what is to be deleted.

    Args:
        repo: The repository.
        remote: What is there now.
        large: From :meth:`~changen_cli.writers.hub.Repository.send`.
        small: Path → content.
        gone: Paths to delete.
    """
    _, missing = compare(small, remote)
    additions = [*large, *(repo.send(path, small[path]) for path, _ in missing)]
    return repo.commit(additions, gone, f"Push with changen {__version__}", remote)
