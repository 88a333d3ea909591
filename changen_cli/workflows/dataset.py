"""A dataset in the making: its samples, its shards, and in the end its tables, preview, card and manifest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from changen_cli.core.checksums import FILE_NAME as CHECKSUMS
from changen_cli.core.errors import SceneError
from changen_cli.core.files import sha256
from changen_cli.core.licences import dataset_licence
from changen_cli.core.manifest import Closed, Manifest, Status
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import FOLDER, ImageRecord, ShardRecord, SkipRecord, read_shards
from changen_cli.core.types import Skip, TimeSeries
from changen_cli.workflows.ledger import Ledger, reading_notes, sample_note, scene_record
from changen_cli.workflows.plans import Plan, Used
from changen_cli.workflows.resume import Past
from changen_cli.workflows.runlog import RunLog
from changen_cli.workflows.setup import clear_output
from changen_cli.workflows.shards import Finished, Opened

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

Finish = Callable[[], TimeSeries]
"""What is left to do for a sample once it is drawn; called on the writing thread."""

logger = logging.getLogger(__name__)

_QUICK_SAMPLES = 5000
"""Tables of so many samples are written in seconds, also by a run that was told to end."""


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
    """

    images: dict[str, ImageRecord] = field(default_factory=dict)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)

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


class Dataset:
    """The output folder of a run, from its promise to its completion.

    :meth:`write` and :meth:`seal` are called by the writing thread, everything else by the main one.

    Args:
        recipe: What is made.
        source: The scenes.
        manifest: The promise.
        past: What an earlier run left; without one the folder is cleared first.
        log: Where sealed shards are told.

    Attributes:
        shard: The shard that is being made.
        samples: Samples that are there.
        images: Source images gone through.
        bytes: Size of the samples' files in sealed shards.
    """

    def __init__(self, recipe: Recipe, source: Source, manifest: Manifest, past: Past | None, log: RunLog) -> None:
        from changen_cli.writers import open_writer
        from changen_cli.writers.classes import write_classes
        from changen_cli.writers.contact_sheet import ContactSheet

        self._recipe, self._source, self._manifest, self._log = recipe, source, manifest, log
        schema = source.schema
        self.output = recipe.output_path
        if past is None:
            clear_output(self.output)
        manifest.save(self.output)
        write_classes(self.output, schema)
        self._writer = open_writer(recipe.output.format, self.output, schema)
        self._writer.staging.drop()
        drawn_by = manifest.model.id if manifest.model else "exemplars only" if manifest.images else "masks only"
        title = f"{Path(recipe.source.input).resolve().name}: {drawn_by}"
        self._sheet = ContactSheet(schema, title=title, folder=self.output / FOLDER / ".preview")
        records = past.records if past else []
        before = Ledger(records)
        self.samples, self.images, self.bytes = before.samples, before.complete_images, before.bytes
        self._number = max((record.number for record in records), default=-1) + 1
        self.shard = Shard()
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
            sample = finish()
        except Exception as error:
            if not is_the_samples(error):
                raise
            self.fail(plan, error, shard)
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
            shard.images[path].complete = False
        samples, size, rows = staging.seal(self._number)
        skipped = sum(len(image.skipped) for image in shard.images.values())
        record = ShardRecord(
            number=self._number,
            counts={"samples": len(samples), "failed": len(shard.failed), "skipped": skipped},
            variants=self._recipe.variants,
            images=shard.images,
            samples=samples,
            failed={name: reason for name, (_, reason) in shard.failed.items()},
            bytes=size,
            rows=rows,
        )
        record.save(self.output)
        self._log.sealed(record)
        staging.forget(samples)
        self._number += 1
        self.bytes += size
        return record

    def seal_unfinished(self) -> None:
        """Record the samples of a shard that was cut off; its images are opened again by the next run."""
        shard, made = self.next_shard(), self._writer.staging.parked()
        scenes = {name.rpartition("_v")[0] for name in made}
        for image in shard.images.values():
            image.complete = False
            image.scenes = [scene for scene in image.scenes if scene["id"] in scenes]
        shard.images = {path: image for path, image in shard.images.items() if image.scenes}
        self.seal(shard)

    def give_up(self) -> None:
        """Drop the shard that cannot be written, and say so in the manifest."""
        self._writer.staging.drop()
        self._manifest.status = "failed"
        self._manifest.save(self.output)

    def close(self, status: Status, *, tables: bool = True) -> tuple[Ledger, Path | None]:
        """Complete the manifest, with tables, preview and card where they are wanted; nothing is left of no sample.

        Args:
            status: How the run ended.
            tables: Whether tables are wanted at any cost. Else they are written where that takes seconds.

        Returns:
            The account of the dataset, and the contact sheet.
        """
        manifest, records = self._manifest, list(read_shards(self.output))
        if not any(record.samples for record in records):
            self._writer.abandon()
            clear_output(self.output)
            return Ledger(records), None
        # First of all: whoever is told to end may be given little time.
        manifest.status = "failed" if status == "complete" else status
        ledger = Ledger(records)
        manifest.counts = ledger.counts()
        manifest.save(self.output)
        unwise = self._recipe.output.format == "parquet" and status != "complete"  # it would copy every pixel
        if unwise or not (tables or ledger.samples <= _QUICK_SAMPLES):
            return ledger, None
        ledger = Ledger(records, self._writer.staging.notes())
        ledger.complete(manifest)
        preview = self._tables(records)
        manifest.status = status
        manifest.save(self.output)
        self._writer.staging.clear()
        return ledger, preview

    def _tables(self, records: list[ShardRecord]) -> Path:
        from changen_cli.exports.master import Master
        from changen_cli.workflows.describe import describe_master
        from changen_cli.writers.card import write_card

        manifest, layout = self._manifest, self._recipe.output.format
        order, kept = None, {}
        if layout == "parquet" and manifest.closed is not None:
            first, kept = manifest.closed.shards, manifest.closed.tables
            old = {name for record in records if record.number < first for name in record.samples}
            order = sorted(self._writer.finished() - old)
        tables = self._writer.tables(order, kept)
        splits = [path.name.partition("-")[0] for path in tables] if layout == "parquet" else []
        manifest.closed = Closed(shards=self._number, tables={name: splits.count(name) for name in sorted({*splits})})
        manifest.checksums = sha256(self.output / CHECKSUMS)
        self._sheet.keep(self._writer.finished())
        preview = self._sheet.save(self.output / "preview.png")
        master = Master(self.output, layout, self._source.schema, {}, tuple(tables))
        write_card(self.output, describe_master(master, manifest, dataset_licence(manifest)))
        return preview
