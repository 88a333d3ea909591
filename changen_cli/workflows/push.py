"""``changen push-to-hub``: a dataset becomes Parquet shards on the Hub, in one commit, and can be interrupted anywhere.

Shards are built one at a time, sent by a few threads, and deleted: disk and memory stay bounded whatever the dataset's
size. They are invisible until the commit names them all at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from changen_cli.core.errors import UsageError
from changen_cli.core.licences import dataset_licence
from changen_cli.core.manifest import read_manifest
from changen_cli.exports.master import open_master
from changen_cli.workflows.push_card import config_folder, small_files
from changen_cli.workflows.push_plan import Plan, make_plan
from changen_cli.workflows.push_record import PushRecord
from changen_cli.workflows.push_shards import WORKERS, ShardPush
from changen_cli.workflows.push_target import (
    PushReport,
    SilentUpload,
    Target,
    UploadProgress,
    check,
    compare,
    deliver,
    look,
    prepare,
    report_of,
    see,
)
from changen_cli.workflows.push_verify import verify_rows
from changen_cli.writers.hub import Remote
from changen_cli.writers.hub_client import quiet_client


def push_dataset(
    out: Path,
    target: Target,
    *,
    shares: Sequence[float] = (),
    config: str = "default",
    dry_run: bool = False,
    verify: bool = False,
    shard_bytes: int | None = None,
    workers: int = WORKERS,
    progress: UploadProgress | None = None,
    sleep: Callable[[float], object] | None = None,
) -> PushReport:
    """Push a dataset to the Hugging Face Hub.

    Args:
        out: A dataset made by changen, folder or Parquet.
        target: Where it goes.
        shares: Shares of train, validation and test, by place; empty leaves the splits as they are.
        config: Configuration the dataset becomes; several may share a repository.
        dry_run: Find out what would be sent, and send nothing.
        verify: Load samples back and compare their pixels.
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
    licence = dataset_licence(read_manifest(out), target.licence)
    repo = target.repository("dataset", sleep)
    folder = config_folder(config)
    with quiet_client():
        remote = look(repo, progress, dry_run=dry_run)
        check(target, remote, licence, ours=remote is not None and holds_ours(remote))
        report = report_of(target, repo, remote, licence)
        plan = make_plan(master, shares=shares, shard_bytes=shard_bytes, folder=folder)
        push = ShardPush(master, plan, repo, PushRecord(out), workers, progress)

        def small(remote: Remote | None) -> dict[str, bytes]:
            there = repo.read("README.md") if remote and "README.md" in remote.files else None
            return small_files(
                master, plan, push.built, repo_id=target.repo_id, config=config, licence=target.licence, there=there
            )

        if dry_run:
            held, send = push.compare(ask=remote is not None)
        else:
            prepare(repo, remote, private=target.private)
            large, held, send = push.send()
            remote = see(repo)  # hours may have passed
        files, gone = small(remote), _stale(remote, plan, folder)
        same, differ = compare(files, remote)
        report = replace(report, send=(*send, *differ), held=(*held, *same), delete=tuple(gone), rows=plan.splits)
        if dry_run or remote is None:
            return report
        done = deliver(repo, remote, large, files, gone)
        checked = verify_rows(master, plan, repo, config, done) if verify else 0
    return replace(report, url=done.url, commit=done.oid, verified=checked)


def holds_ours(remote: Remote) -> bool:
    """Whether a dataset of changen is there, at the top or as a configuration."""
    folders = {path.rpartition("manifest.json")[0] for path in remote.files if path.endswith("manifest.json")}
    return any(folder.count("/") < 2 and f"{folder}classes.json" in remote.files for folder in folders)


def _stale(remote: Remote | None, plan: Plan, folder: str) -> list[str]:
    """Shards of an earlier push that this one does not replace."""
    mine = {shard.path for shard in plan.shards}
    shard = re.compile(re.escape(folder) + r"data/[^/]+-\d{5}-of-\d{5}\.parquet")
    return sorted(path for path in (remote.files if remote else ()) if shard.fullmatch(path) and path not in mine)
