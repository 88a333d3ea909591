"""The work of a run, cut into shards: which images are left, and where one shard ends and the next begins.

What is done follows from the records alone. Images that a shard holds completely are not opened again; of the others
the samples that are there are not made again. So neither the size of the shards nor where a run was cut off plays a
part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import ShardRecord
from changen_cli.core.types import Scene, Skip

if TYPE_CHECKING:
    from changen_cli.sources.candidates import Candidate
    from changen_cli.sources.folder import Source
    from changen_cli.sources.stamps import Stamp


@dataclass(frozen=True)
class Opened:
    """An image is about to be read."""

    path: str
    stamp: Stamp


@dataclass(frozen=True)
class Finished:
    """Everything an image gives was read."""

    path: str


@dataclass(frozen=True)
class Border:
    """A shard ends here."""


Item = Scene | Skip | Opened | Finished | Border


class Todo:
    """What is left to do of a dataset.

    Args:
        records: Its shards, by number.
        variants: Samples wanted per scene.

    Attributes:
        made: Ids of the samples that are there.
        changed: What happened to images after samples were made of them.
        done: Images with which nothing is left to do.
    """

    def __init__(self, records: Iterable[ShardRecord] = (), variants: int = 1) -> None:
        from changen_cli.sources.stamps import Stamp

        self.made: set[str] = set()
        self.changed: dict[str, str] = {}
        self._known: dict[str, tuple[Stamp, int, bool]] = {}
        for record in records:
            self.made.update(record.samples)
            for path, image in record.images.items():
                complete = image.complete and record.variants >= variants
                stamp = Stamp(image.size, image.mtime_ns, image.sha256)
                self._known[path] = (stamp, len(image.scenes), complete)
        self.done = sum(complete for _, _, complete in self._known.values())

    def scenes_done(self, candidate: Candidate) -> int | None:
        """Scenes an image gave, where nothing is left to do with it; else None."""
        from changen_cli.sources.stamps import is_same

        stamp, scenes, complete = self._known.pop(candidate.relative, (None, 0, False))
        if stamp is None or (is_same(candidate, stamp) and not complete):
            return None
        if not is_same(candidate, stamp):
            if not scenes:
                return None  # it gave nothing as it was
            self.changed[candidate.relative] = "changed"
        return scenes if complete else None

    def vanished(self) -> None:
        """Note the images that are no longer there, once all that are there were asked for."""
        self.changed |= {path: "vanished" for path, (_, scenes, _) in self._known.items() if scenes}

    def told(self) -> Iterator[str]:
        """Lines for people about the images that are not what samples were made of."""
        for what in ("changed", "vanished"):
            paths = [path for path, how in self.changed.items() if how == what]
            if paths:
                shown = ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
                yield f"{len(paths)} images {what} after samples were made of them: {shown}; the manifest lists them"


def shard_items(source: Source, recipe: Recipe, todo: Todo) -> Iterator[Item]:
    """Read what is left to do, in the source's order, with the borders of shards; nothing after the last scene wanted.

    Args:
        source: The scenes.
        recipe: How large shards are, and how many scenes are wanted in all.
        todo: What is left to do.
    """
    from changen_cli.sources.stamps import look, stamp

    used = opened = 0
    for candidate in source.candidates():
        if isinstance(candidate, Skip):
            yield candidate
            continue
        done = todo.scenes_done(candidate)
        if done is None:
            yield Opened(candidate.relative, look(candidate) if candidate.problem else stamp(candidate))
            opened += 1
            for item in source.scenes_of([candidate]):
                yield item
                used += isinstance(item, Scene)
                if used == recipe.limit:
                    break
            else:
                yield Finished(candidate.relative)
            if opened % recipe.run.shard_size == 0:
                yield Border()
        else:
            used += done
        if recipe.limit is not None and used >= recipe.limit:
            break
    else:
        todo.vanished()
    yield Border()
