"""Job arrays: processes that share a dataset and never talk. Shard i belongs to rank i mod world size.

Each rank locks its own share, so all of them may write to one folder. Whoever finds every shard recorded when it is
done completes the dataset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from changen_cli.core.archives import is_archive
from changen_cli.core.errors import LockedError, UsageError
from changen_cli.core.lock import FILE_NAME, OutputLock, read_holder
from changen_cli.core.recipe import Recipe
from changen_cli.workflows.storage import Storage

CLOSING = f"{FILE_NAME}-closing"
_OURS = re.compile(re.escape(FILE_NAME) + r"-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Share:
    """What of a dataset a process makes.

    Attributes:
        rank: Which one it is.
        world_size: Of how many.
        said_by: Who says so, for people.
        device: The device that is its own; empty where nobody says.
    """

    rank: int = 0
    world_size: int = 1
    said_by: str = ""
    device: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it is everything."""
        return self.world_size == 1

    @property
    def name(self) -> str:
        """A name for its files; empty for everything."""
        return "" if self.is_whole else f"{self.rank:05d}-of-{self.world_size:05d}"

    def numbers(self, first: int) -> Iterator[int]:
        """Numbers from ``first`` on that no other rank takes."""
        return count(first + (self.rank - first) % self.world_size, self.world_size)

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world_size}"


def share_of(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> Share:
    """The share a recipe names, else that of a Slurm array task or of a process torchrun started, else everything.

    Raises:
        UsageError: Rank and world size do not go together, or with what else is asked for.
    """
    section = recipe.run
    share = Share()
    if section.world_size is not None:
        if section.rank is None and section.world_size > 1:
            raise UsageError("--world-size says how many, --rank which one", "Give both")
        share = Share(section.rank or 0, section.world_size, "--rank")
    elif section.rank is not None:
        raise UsageError("--rank says which one, --world-size of how many", "Give both")
    elif section.executor == "local":
        share = _surroundings(environment)
    if share.rank >= share.world_size:
        raise UsageError(f"there is no {share}", "Ranks are counted from 0")
    if share.is_whole:
        return share
    if section.executor != "local":
        raise UsageError("a Ray cluster shares out the work itself", "Drop --rank and --world-size, or --executor ray")
    if is_archive(Path(recipe.source.input).name):
        raise UsageError(f"{share} would unpack {recipe.source.input} beside the others", "Unpack it, give the folder")
    if recipe.output.mode not in ("resume", "extend"):
        raise UsageError(
            f"{share} ({share.said_by}) cannot know whether others have begun, so --mode {recipe.output.mode} is not "
            "for job arrays",
            "Remove the output folder before the array starts, and leave --mode out",
        )
    return share


def _surroundings(environment: Mapping[str, str]) -> Share:
    def number(name: str, default: int) -> int:
        text = environment.get(name, "")
        return int(text) if text.isdecimal() else default

    if "SLURM_ARRAY_TASK_ID" in environment:
        first, step = number("SLURM_ARRAY_TASK_MIN", 0), number("SLURM_ARRAY_TASK_STEP", 1)
        last = number("SLURM_ARRAY_TASK_MAX", number("SLURM_ARRAY_TASK_COUNT", 1) + first - 1)
        rank = (number("SLURM_ARRAY_TASK_ID", 0) - first) // max(1, step)
        return Share(rank, (last - first) // max(1, step) + 1, "SLURM_ARRAY_TASK_ID")
    if "RANK" in environment and "WORLD_SIZE" in environment:
        local = environment.get("LOCAL_RANK", "")
        device = f"cuda:{local}" if local.isdecimal() else ""
        return Share(number("RANK", 0), number("WORLD_SIZE", 1), "RANK", device)
    return Share()


@contextmanager
def locked(folder: Path, share: Share, storage: Storage | None = None) -> Iterator[None]:
    """Lock a dataset, or a share of it: shares of one array go together, nothing else does.

    Raises:
        LockedError: Another run, or the same rank of this one, is writing.
        OutputError: The folder cannot be made.
    """
    name = f"{FILE_NAME}-{share.name}" if share.name else FILE_NAME
    with storage.locked(name) if storage else OutputLock(folder, name):
        # Looked at once the own lock is held: of two that begin at the same moment both may end, never none.
        there = storage.locks() if storage else [path.name for path in folder.iterdir()]
        strangers = [other for other in there if (found := _OURS.fullmatch(other)) and not _goes_with(share, found)]
        for other in strangers if share.is_whole else [FILE_NAME, *strangers]:
            holder = storage.holder(other) if storage else read_holder(folder, other)
            if holder is not None:
                raise LockedError(
                    f"{storage.address if storage else folder} is being written by {holder}",
                    "Wait for it, end it, or choose another --output",
                )
        yield


def _goes_with(share: Share, other: re.Match[str]) -> bool:
    return not share.is_whole and int(other[2]) == share.world_size


@contextmanager
def closing(folder: Path, share: Share, storage: Storage | None = None) -> Iterator[bool]:
    """Whether this rank may complete the dataset; within the block no other does."""
    with ExitStack() as stack:
        try:
            if not share.is_whole:
                stack.enter_context(storage.locked(CLOSING) if storage else OutputLock(folder, CLOSING))
        except LockedError:
            yield False
            return
        yield True
