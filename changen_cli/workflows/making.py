"""Shards in the making: what a batch of samples goes through once it is drawn, and the record at the end of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from changen_cli.core.errors import SceneError
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import FOLDER, ImageRecord, ShardRecord, SkipRecord
from changen_cli.core.types import ClassSchema, Skip, TimeSeries
from changen_cli.workflows.ledger import reading_notes, sample_note, scene_record
from changen_cli.workflows.plans import Plan, Used
from changen_cli.workflows.rejects import Reject, keep_pictures
from changen_cli.workflows.shards import Finished, Opened
from changen_cli.workflows.storage import Storage


@dataclass(frozen=True, eq=False)
class Outcome:
    """What comes of a sample.

    Attributes:
        sample: The sample; None where every attempt was rejected.
        rejected: Attempts before it that were.
    """

    sample: TimeSeries | None
    rejected: tuple[Reject, ...] = ()


Finish = Callable[[], Outcome]
"""What is left to do for a sample once it is drawn; called on the writing thread."""

logger = logging.getLogger(__name__)


def is_the_samples(error: Exception) -> bool:
    """Whether an error is about one sample, so that the others can do without it: no memory for it, no numbers in it.

    Anything else is a fault of the machine or of this program, which nobody should have to look for among skips.
    """
    if isinstance(error, RuntimeError):  # torch's own class for it is one, and not all devices use that
        return "out of memory" in str(error).lower()
    return isinstance(error, (SceneError, MemoryError, FloatingPointError))


@dataclass
class Shard:
    """The shard that is being made.

    Attributes:
        images: What was gone through so far.
        failed: Sample id → its image, and why it could not be made.
        rejected: Sample id → why each attempt at it was rejected.
    """

    images: dict[str, ImageRecord] = field(default_factory=dict)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    rejected: dict[str, list[str]] = field(default_factory=dict)

    def note(self, item: Used | Skip | Opened | Finished) -> None:
        """Note what reading came upon."""
        if isinstance(item, Opened):
            size, mtime_ns, digest = item.stamp
            self.images[item.path] = ImageRecord(size=size, mtime_ns=mtime_ns, sha256=digest)
        elif isinstance(item, Finished):
            self.images[item.path].complete = True
        elif isinstance(item, Used):
            self.images[item.scene.source_path].scenes.append(scene_record(item.scene))
        else:
            # A folder that cannot be listed is no image that was opened.
            image = self.images.setdefault(item.path, ImageRecord(complete=True))
            image.skipped.append(SkipRecord(reason=item.reason, failed=item.failed))


class ShardMaker:
    """Writes samples and seals shards; every process that makes some has one.

    :meth:`write` and :meth:`seal` are called by the writing thread, everything else by the main one.

    Args:
        recipe: What is made, and where.
        schema: The classes of the masks.
        numbers: Gives every shard its number.
        title: Heading of the contact sheet.
        part: The part of the staging folder that is this process's own, where several write.
        storage: Where shards go to, if not into the folder.

    Attributes:
        shard: The shard that is being made.
        samples: Samples written.
        images: Source images gone through.
        bytes: Size of the samples' files in sealed shards.
    """

    def __init__(
        self,
        recipe: Recipe,
        schema: ClassSchema,
        numbers: Iterator[int],
        title: str = "",
        part: str = "",
        storage: Storage | None = None,
    ) -> None:
        from changen_cli.writers import open_writer
        from changen_cli.writers.contact_sheet import ContactSheet

        self._recipe, self._numbers, self._storage = recipe, numbers, storage
        self.output = recipe.output_path
        self._writer = open_writer(recipe.output.format, self.output, schema, part)
        self._writer.staging.drop()
        self._sheet = ContactSheet(schema, title=title, folder=self.output / FOLDER / ".preview")
        self.shard = Shard()
        self.samples = self.images = self.bytes = 0
        self.sealed: Callable[[ShardRecord], object] = lambda record: None
        self._told: set[str] = set()

    def note(self, item: Used | Skip | Opened | Finished) -> list[str]:
        """Note what reading came upon; returns lines that nobody was told yet."""
        self.shard.note(item)
        if isinstance(item, Opened):
            self.images += 1
        if isinstance(item, Skip):
            return [f"skipped {item.path}: {item.reason}"]
        if not isinstance(item, Used):
            return []
        new = [line for line in reading_notes(item.scene) if line not in self._told]
        self._told.update(new)
        return [f"{line} (first in {item.scene.source_path})" for line in new]

    def next_shard(self) -> Shard:
        """Begin another shard; returns the one before, which is to be sealed."""
        shard, self.shard = self.shard, Shard()
        return shard

    def write(self, plan: Plan, finish: Finish, shard: Shard) -> None:
        """Finish a sample and write it; one that cannot be finished is noted in its shard."""
        try:
            outcome = finish()
        except Exception as error:
            if not is_the_samples(error):
                raise
            self.fail(plan, error, shard)
            return
        keep_pictures(self.output, plan.id, outcome.rejected)
        sample = outcome.sample
        if sample is None:
            shard.rejected[plan.id] = [attempt.reason for attempt in outcome.rejected]
            return
        self._sheet.add(sample)
        self._writer.write(sample, sample_note(sample))
        self.samples += 1

    def fail(self, plan: Plan, error: Exception, shard: Shard) -> None:
        """Note a sample that cannot be made."""
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        shard.failed[plan.id] = (plan.scene.source_path, reason)
        logger.info("sample %s failed", plan.id, exc_info=error)

    def seal(self, shard: Shard) -> ShardRecord | None:
        """Record a shard with all samples written since the last one; None where there is nothing to record."""
        staging = self._writer.staging
        if not shard.images:
            return None
        for path, _ in shard.failed.values():
            if path in shard.images:  # of a shard that was cut off only images with samples are left
                shard.images[path].complete = False
        number = next(self._numbers)
        samples, size, rows = staging.seal(number)
        skipped = sum(len(image.skipped) for image in shard.images.values())
        record = ShardRecord(
            number=number,
            counts={
                "samples": len(samples),
                "failed": len(shard.failed),
                **({"rejected": len(shard.rejected)} if shard.rejected else {}),
                "skipped": skipped,
            },
            variants=self._recipe.variants,
            images=shard.images,
            samples=samples,
            failed={name: reason for name, (_, reason) in shard.failed.items()},
            rejected=dict(sorted(shard.rejected.items())),
            bytes=size,
            rows=rows,
        )
        record.save(self.output)
        self.sealed(record)
        staging.forget(samples)
        if self._storage is not None:
            self._storage.put_shard(record)
        self.bytes += size
        return record

    def seal_unfinished(self) -> None:
        """Record the samples of a shard that was cut off; its images are opened again by the next run."""
        shard, made = self.next_shard(), self._writer.staging.parked()
        scenes = {name.rpartition("_v")[0] for name in (*made, *shard.rejected)}
        for image in shard.images.values():
            image.complete = False
            image.scenes = [scene for scene in image.scenes if scene["id"] in scenes]
        shard.images = {path: image for path, image in shard.images.items() if image.scenes}
        self.seal(shard)

    def drop(self) -> None:
        """Drop the samples that no shard holds."""
        self._writer.staging.drop()
