"""``changen push-to-hub``: a dataset becomes Parquet shards on the Hub, in one commit, and can be interrupted anywhere.

Shards are built one at a time, sent by a few threads, and deleted: disk and memory stay bounded whatever the dataset's
size. They are invisible until the commit names them all at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from changen_cli import __version__
from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.licences import Licence, dataset_licence
from changen_cli.core.manifest import read_manifest
from changen_cli.exports.master import open_master
from changen_cli.workflows.push_card import config_folder, small_files
from changen_cli.workflows.push_plan import Plan, make_plan
from changen_cli.workflows.push_record import PushRecord
from changen_cli.workflows.push_shards import WORKERS, ShardPush, SilentUpload, Sized, UploadProgress
from changen_cli.workflows.push_verify import verify_rows
from changen_cli.writers.hub import Remote, Repository
from changen_cli.writers.hub_client import quiet_client

_NEUTRAL = re.compile(r"\.gitattributes|README\.md|LICENSE[^/]*")
"""What a repository holds before anybody put data into it."""


@dataclass(frozen=True)
class PushReport:
    """What a push did, or with ``dry_run`` would do.

    Attributes:
        url: Address for people: the repository, or the pull request.
        created: Whether the repository is new.
        private: Whether only some may see it.
        licence: What it is published under.
        send: (path, bytes) of the files that were sent.
        held: (path, bytes) of those the Hub had already.
        delete: Files of an earlier push that were removed.
        rows: Split → samples.
        commit: Commit on the Hub; empty with ``dry_run``.
        verified: Samples that were loaded back and compared.
    """

    url: str
    created: bool
    private: bool
    licence: Licence
    send: tuple[Sized, ...]
    held: tuple[Sized, ...]
    delete: tuple[str, ...]
    rows: dict[str, int]
    commit: str = ""
    verified: int = 0


def push_dataset(
    out: Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    shares: Sequence[float] = (),
    config: str = "default",
    create_pr: bool = False,
    licence: str | None = None,
    dry_run: bool = False,
    verify: bool = False,
    token: str | None = None,
    shard_bytes: int | None = None,
    workers: int = WORKERS,
    progress: UploadProgress | None = None,
    sleep: Callable[[float], object] | None = None,
) -> PushReport:
    """Push a dataset to the Hugging Face Hub.

    Args:
        out: A dataset made by changen, folder or Parquet.
        repo_id: ``org/name``; created when missing.
        private: Create it so that only its owners see it.
        revision: Branch; created when missing.
        shares: Shares of train, validation and test, by place; empty leaves the splits as they are.
        config: Configuration the dataset becomes; several may share a repository.
        create_pr: Propose the files in a pull request.
        licence: The Hub's identifier of the licence; None: computed from source and model.
        dry_run: Find out what would be sent, and send nothing.
        verify: Load rows back and compare their pixels.
        token: Access token; None takes HF_TOKEN or the stored login.
        shard_bytes: Size a shard does not exceed; None: 500 MB.
        workers: Shards sent at a time, which is also how many lie on disk.
        progress: Told what happens.
        sleep: Waits that many seconds between two tries; None: the clock.

    Raises:
        UsageError: The request makes no sense: no such dataset, impossible id, unknown licence, too few places.
        OutputError: The Hub or the repository does not take it. Nothing is visible there then; what was sent is not
            sent again.
    """
    progress = progress or SilentUpload()
    if not re.fullmatch(r"[\w-][\w.-]*", config) or config == "data":
        raise UsageError(f"--config-name {config!r} cannot be a folder's name", "Use letters, digits, '-' and '_'")
    master = open_master(out)
    found = dataset_licence(read_manifest(out), licence)
    repo = Repository(repo_id, revision=revision, create_pr=create_pr, token=token, sleep=sleep)
    with quiet_client():
        remote = _look(repo, dry_run, progress)
        _check(repo, remote, found, private=private)
        folder = config_folder(config)
        plan = make_plan(master, shares=shares, shard_bytes=shard_bytes, folder=folder)
        push = ShardPush(master, plan, repo, PushRecord(out), workers, progress)
        gone = _stale(remote, plan, folder)
        report = PushReport(
            repo.address, remote is None, remote.private if remote else private, found, (), (), tuple(gone), plan.splits
        )
        if dry_run:
            held, send = push.compare(ask=remote is not None)
            there = repo.read("README.md") if remote and "README.md" in remote.files else None
            small = small_files(master, plan, found, repo_id=repo_id, config=config, folder=folder, there=there)
            send += [(path, len(content)) for path, content in small.items()]
            return replace(report, send=tuple(send), held=tuple(held))
        remote = _prepare(repo, remote, private=private)
        additions, held, send = push.send()
        there = repo.read("README.md") if "README.md" in remote.files else None
        small = small_files(master, plan, found, repo_id=repo_id, config=config, folder=folder, there=there)
        additions += [repo.send(path, content) for path, content in small.items()]
        send += [(path, len(content)) for path, content in small.items()]
        done = repo.commit(additions, gone, f"Push with changen {__version__}", remote)
        checked = verify_rows(master, plan, repo, config, done) if verify else 0
    return replace(
        report, url=done.url, commit=done.oid, send=tuple(send), held=tuple(held), verified=checked,
    )  # fmt: skip


def _look(repo: Repository, dry_run: bool, progress: UploadProgress) -> Remote | None:
    try:
        repo.login()
        remote = repo.look()
        if remote is not None:
            repo.check_rights()
        return remote
    except OutputError as error:
        if not dry_run:
            raise
        progress.note(f"The Hub could not be asked, so the repository is taken to be new: {error}")
        return None


def _check(repo: Repository, remote: Remote | None, licence: Licence, *, private: bool) -> None:
    """Refuse before anything is sent."""
    if remote is None and repo.create_pr:
        raise OutputError(f"{repo.repo_id} does not exist", "Leave out --create-pr to create it")
    if remote and private and not remote.private:
        raise OutputError(
            f"{repo.repo_id} is public, --private asks for a private one",
            "Change its visibility in its settings, or choose another name",
        )
    if not licence.known and not (remote.private if remote else private):
        raise OutputError(
            f"{repo.repo_id} would be public, but under which licence is not known. {licence.reason}",
            "State it with --license, or push with --private",
        )
    files = remote.files if remote else {}
    ours = any(f"{path.removesuffix('manifest.json')}classes.json" in files for path in files if _is_manifest(path))
    if not ours and not repo.create_pr and any(not _NEUTRAL.fullmatch(path) for path in files):
        raise OutputError(
            f"{repo.repo_id} exists already and holds other files than a dataset of changen",
            "Choose another name, or propose the files with --create-pr",
        )


def _is_manifest(path: str) -> bool:
    return re.fullmatch(r"([^/]+/)?manifest\.json", path) is not None


def _prepare(repo: Repository, remote: Remote | None, *, private: bool) -> Remote:
    """Create what is missing, and look again."""
    if remote is None:
        repo.create(private=private)
        remote = repo.look()
    if remote is not None and not remote.branch:
        repo.create_branch()
        remote = repo.look()
    if remote is None:
        raise OutputError(f"{repo.repo_id} was created but cannot be seen", "Check the token's rights")
    return remote


def _stale(remote: Remote | None, plan: Plan, folder: str) -> list[str]:
    """Shards of an earlier push that this one does not replace."""
    mine = {shard.path for shard in plan.shards}
    shard = re.compile(re.escape(folder) + r"data/[^/]+-\d{5}-of-\d{5}\.parquet")
    return sorted(path for path in (remote.files if remote else ()) if shard.fullmatch(path) and path not in mine)
