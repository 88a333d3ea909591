"""Whether what was pushed comes back as it was: a few samples, loaded the way users will load them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from changen_cli.core.errors import OutputError
from changen_cli.exports.master import Master
from changen_cli.workflows.push_plan import Plan, shard_row
from changen_cli.writers.hub import Committed, Repository

SAMPLES = 3


def verify_rows(master: Master, plan: Plan, repo: Repository, config: str, done: Committed) -> int:
    """Load the first samples of every split from the Hub and compare the hashes of their pixels with those here.

    Returns:
        Samples compared.

    Raises:
        OutputError: One differs, or cannot be loaded.
    """
    checked = 0
    for split in plan.splits:
        mine = (sample for sample in master.samples() if plan.split_of(sample.row) == split)
        theirs = repo.rows(config, split, done.oid, SAMPLES)
        for sample, row in zip(islice(mine, SAMPLES), theirs, strict=True):
            for column, cell in shard_row(sample, split)[0].items():
                if _same(cell, row[column]):
                    continue
                raise OutputError(
                    f"{repo.repo_id}: {column} of {sample.id} differs from {master.root}", "Push again, or report a bug"
                )
            checked += 1
    return checked


def _same(mine: Any, theirs: Any) -> bool:
    """Whether two cells are equal; images by the hash of their pixels."""
    if isinstance(mine, dict) and "bytes" in mine:
        return next(_hashes([mine])) == next(_hashes([theirs]))
    if isinstance(mine, list) and mine and isinstance(mine[0], dict) and "bytes" in mine[0]:
        return list(_hashes(mine)) == list(_hashes(theirs))
    return bool(mine == theirs)


def _hashes(cells: list[Any]) -> Iterator[str]:
    from changen_cli.exports.reading import decode

    for cell in cells:
        _, pixels = decode(cell["bytes"])
        yield hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode() + pixels.tobytes()).hexdigest()
