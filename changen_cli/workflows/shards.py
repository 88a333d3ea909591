"""The work of a run, cut into shards: which images are left, and where one shard ends and the next begins.

What is done follows from the records alone. Images that a shard holds completely are not opened again; of the others
the samples that are there are not made again. So neither the size of the shards nor where a run was cut off plays a
part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import ShardRecord, keeping_all
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


@dataclass(frozen=True)
class Task:
    """A shard to be made by whoever is free.

    Attributes:
        index: Which one it is of all shards of the source, whatever is left of them.
        images: Images that are left to do; skips among them are passed on.
        made: Ids of their samples that are there.
        scenes: Scenes wanted of them; None for all.
    """

    index: int
    images: tuple[Candidate | Skip, ...]
    made: frozenset[str]
    scenes: int | None = None


class Todo:
    """What is left to do of a dataset.

    Args:
        records: Its shards, by number.
        variants: Samples wanted per scene.

    Attributes:
        made: Ids of the samples that are there or were rejected for good, of images that are not complete.
        changed: What happened to images after something was made of them.
        done: Images with which nothing is left to do.
    """

    def __init__(self, records: Iterable[ShardRecord] = (), variants: int = 1) -> None:
        self.changed: dict[str, str] = {}
        self._known: dict[str, tuple[Stamp, int, bool]] = {}
        self._made: dict[str, set[str]] = {}
        with keeping_all():
            for record in records:
                self._take(record, variants)
        self.done = sum(complete for _, _, complete in self._known.values())
        self.made = {name for names in self._made.values() for name in names}

    def _take(self, record: ShardRecord, variants: int) -> None:
        from changen_cli.sources.stamps import Stamp

        enough, by_scene = record.variants >= variants, dict[str, set[str]]()
        if not enough or not all(image.complete for image in record.images.values()):
            for name in (*record.samples, *record.rejected):
                by_scene.setdefault(name.rpartition("_v")[0], set()).add(name)
        for path, image in record.images.items():
            stamp = Stamp(image.size, image.mtime_ns, image.sha256)
            complete = image.complete and enough
            self._known[path] = (stamp, len(image.scenes), complete)
            if complete:
                self._made.pop(path, None)
            else:
                made = self._made.setdefault(path, set())
                made.update(*(by_scene.get(str(scene.get("id")), ()) for scene in image.scenes))

    def made_of(self, paths: Collection[str]) -> frozenset[str]:
        """Ids of the samples that are there of some images that are not complete."""
        return frozenset().union(*(self._made.get(path, ()) for path in paths))

    def scenes_done(self, candidate: Candidate) -> int | None:
        """Scenes an image gave, where nothing is left to do with it; else None."""
        from changen_cli.sources.stamps import is_same

        stamp, scenes, complete = self._known.pop(candidate.relative, (None, 0, False))
        if stamp is None:
            return None
        same = is_same(candidate, stamp)
        if same and not complete:
            return None
        if not same:
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
                yield f"{len(paths)} images {what} after something was made of them: {shown}; the manifest lists them"


def shard_items(source: Source, recipe: Recipe, todo: Todo) -> Iterator[Item]:
    """Read what is left to do, in the source's order, with the borders of shards; nothing after the last scene wanted.

    Args:
        source: The scenes.
        recipe: How large shards are, and how many scenes are wanted in all.
        todo: What is left to do.
    """
    used = opened = 0
    for candidate in source.candidates():
        if isinstance(candidate, Skip):
            yield candidate
            continue
        done = todo.scenes_done(candidate)
        if done is None:
            for item in _read(source, candidate, None if recipe.limit is None else recipe.limit - used):
                yield item
                used += isinstance(item, Scene)
            opened += 1
            if opened % recipe.run.shard_size == 0:
                yield Border()
        else:
            used += done
        if recipe.limit is not None and used >= recipe.limit:
            break
    else:
        todo.vanished()
    yield Border()


def plan_tasks(source: Source, recipe: Recipe, todo: Todo, rank: int = 0, world_size: int = 1) -> Iterator[Task]:
    """Cut what is left to do into shards that can be made in any order, anywhere.

    Where only so many scenes are wanted, images are read here too: nobody else knows how many those before gave.

    Args:
        source: The scenes.
        recipe: How large shards are, and how many scenes are wanted in all.
        todo: What is left to do.
        rank: Whose shards are wanted: shard i belongs to rank i mod ``world_size``.
        world_size: How many ranks there are.
    """
    plain = copy(source)
    plain.propose = None  # proposals take seconds, and change nothing about the number of scenes
    size, seen, used, index = recipe.run.shard_size, 0, 0, 0
    images: list[Candidate | Skip] = []
    wanted = 0  # scenes of the images of this shard

    def task(last: bool) -> Iterator[Task]:
        if images and index % world_size == rank:
            paths = [item.relative for item in images if not isinstance(item, Skip)]
            yield Task(index, tuple(images), todo.made_of(paths), wanted if last else None)
        images.clear()

    for candidate in source.candidates():
        if isinstance(candidate, Skip):
            images.append(candidate)
            continue
        if seen and seen % size == 0:
            yield from task(last=False)
            index, wanted = index + 1, 0
        seen += 1
        done = todo.scenes_done(candidate)
        if done is None:
            images.append(candidate)
            if recipe.limit is not None:
                there = sum(isinstance(item, Scene) for item in plain.scenes_of([candidate]))
                wanted += min(there, recipe.limit - used)
                used += there
        else:
            used += done
        if recipe.limit is not None and used >= recipe.limit:
            yield from task(last=True)
            return
    todo.vanished()
    yield from task(last=False)


def unrecorded(source: Source, recipe: Recipe, records: Iterable[ShardRecord]) -> bool:
    """Whether an image is left that no shard holds; what failed counts as held."""
    records = list(records)
    held = {path for record in records for path in record.images}
    tasks = plan_tasks(source, recipe, Todo(records, recipe.variants))
    images = (image for task in tasks for image in task.images)
    return any(not isinstance(image, Skip) and image.relative not in held for image in images)


def task_items(task: Task, source: Source) -> Iterator[Item]:
    """Read a shard: what :func:`shard_items` gives of it."""
    used = 0
    for image in task.images:
        if isinstance(image, Skip):
            yield image
            continue
        for item in _read(source, image, None if task.scenes is None else task.scenes - used):
            yield item
            used += isinstance(item, Scene)
    yield Border()


def _read(source: Source, candidate: Candidate, limit: int | None) -> Iterator[Item]:
    """Read an image; where it gives more scenes than wanted, it is not finished."""
    from changen_cli.sources.stamps import is_untouched, look, stamp

    before = look(candidate) if candidate.problem else stamp(candidate)
    yield Opened(candidate.relative, before)
    used = 0
    for item in source.scenes_of([candidate]):
        # All of an image is read before its first scene is there.
        if not used and not is_untouched(candidate, before):
            yield Skip(candidate.relative, "it or its label changed or vanished while it was read")
            return  # not finished: the next run looks again
        yield item
        used += isinstance(item, Scene)
        if used == limit:
            return
    yield Finished(candidate.relative)
