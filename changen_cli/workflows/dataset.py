"""A dataset as a whole: the promise it begins with, and in the end its tables, preview, card and manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from changen_cli.core.checksums import FILE_NAME as CHECKSUMS
from changen_cli.core.files import sha256
from changen_cli.core.licences import dataset_licence
from changen_cli.core.manifest import Closed, Manifest, Status
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import FOLDER, ShardRecord, read_shards
from changen_cli.core.types import ClassSchema
from changen_cli.workflows.ledger import Account, Ledger
from changen_cli.workflows.resume import Past
from changen_cli.workflows.setup import clear_output
from changen_cli.workflows.storage import Storage

if TYPE_CHECKING:
    from changen_cli.writers import SampleWriter

_QUICK_SAMPLES = 5000
"""Tables of so many samples are written in seconds, also by a run that was told to end."""


class Dataset:
    """The output folder of a run. Samples and shards are written by :class:`~changen_cli.workflows.making.ShardMaker`.

    Args:
        recipe: What is made.
        schema: The classes of the masks.
        manifest: The promise.
        past: What an earlier run left; without one the folder is cleared first.
        alone: Whether nobody else is writing to it; else what is there is left alone.
        storage: Where it goes to, if not into the folder.

    Attributes:
        before: The account of what was there when it was opened.
        next_number: The first number no shard has.
        title: Heading of the contact sheet.
        changed: Once it is closed: images that changed after objects and ground were taken from them.
    """

    def __init__(
        self,
        recipe: Recipe,
        schema: ClassSchema,
        manifest: Manifest,
        past: Past | None,
        *,
        alone: bool = True,
        storage: Storage | None = None,
    ) -> None:
        from changen_cli.writers.classes import write_classes
        from changen_cli.writers.staging import drop_all

        self._recipe, self._schema, self._manifest, self._storage = recipe, schema, manifest, storage
        self.output = recipe.output_path
        self.changed: dict[str, str] = {}
        if alone:
            if past is None:
                self._clear()
            manifest.save(self.output)
            drop_all(self.output)
        write_classes(self.output, schema)
        if storage is not None and alone:
            storage.put_rest()
        drawn_by = manifest.model.id if manifest.model else "exemplars only" if manifest.images else "masks only"
        self.title = f"{Path(recipe.source.input).resolve().name}: {drawn_by}"
        records = past.records if past else []
        self.before = past.account if past else Account(0, 0, 0)
        self.next_number = max((record.number for record in records), default=-1) + 1

    def give_up(self) -> None:
        """Drop what cannot be written, and say so in the manifest."""
        from changen_cli.writers.staging import drop_all

        drop_all(self.output)
        self._manifest.status = "failed"
        self._save()

    def close(self, status: Status, *, tables: bool = True) -> tuple[Ledger, Path | None]:
        """Complete the manifest, with tables, preview and card where they are wanted; nothing is left of no sample.

        Args:
            status: How the run ended.
            tables: Whether tables are wanted at any cost. Else they are written where that takes seconds.

        Returns:
            The account of the dataset, and the contact sheet.
        """
        from changen_cli.writers import open_writer

        manifest, records = self._manifest, list(read_shards(self.output))
        self.changed = {path: "changed" for record in records for path in record.unlike(manifest.stock)}
        manifest.changed |= self.changed
        writer = open_writer(self._recipe.output.format, self.output, self._schema)
        if not any(record.samples for record in records):
            writer.abandon()
            ledger = Ledger(records)
            if not ledger.rejected:
                self._clear()
                return ledger, None
            # Pictures tell what is wrong, and records that the same need not be tried again.
            manifest.status = "failed" if status == "complete" else status
            ledger.complete(manifest)
            self._save(everything=True)
            return ledger, None
        # First of all: whoever is told to end may be given little time.
        manifest.status = "failed" if status == "complete" else status
        ledger = Ledger(records)
        manifest.counts = ledger.counts()
        self._save()
        unwise = self._recipe.output.format == "parquet" and status != "complete"  # it would copy every pixel
        if unwise or not (tables or ledger.samples <= _QUICK_SAMPLES):
            return ledger, None
        ledger = Ledger(records, writer.staging.notes())
        ledger.complete(manifest)
        if self._storage is not None:  # the card tells of all events and objects
            self._storage.fetch(name for name, _ in writer.staging.digests(None) if name.endswith((".json", ".jsonl")))
        preview = self._tables(records, writer)
        manifest.status = status
        self._save(everything=True)
        writer.staging.clear()
        return ledger, preview

    def _save(self, *, everything: bool = False) -> None:
        """Write the manifest, and send it, with the tables perhaps, where the dataset lies."""
        self._manifest.save(self.output)
        if self._storage is not None:
            self._storage.put_rest() if everything else self._storage.put_manifest()

    def _clear(self) -> None:
        """Remove what an earlier run wrote."""
        clear_output(self.output)
        if self._storage is not None:
            from changen_cli.writers.base import OUR_FILES

            self._storage.clear(OUR_FILES)
            self.output.mkdir(parents=True, exist_ok=True)

    def _tables(self, records: list[ShardRecord], writer: SampleWriter) -> Path:
        from changen_cli.exports.master import Master
        from changen_cli.workflows.describe import describe_master
        from changen_cli.writers.card import write_card
        from changen_cli.writers.contact_sheet import ContactSheet

        manifest, layout = self._manifest, self._recipe.output.format
        order, kept = None, {}
        if layout == "parquet" and manifest.closed is not None:
            first, kept = manifest.closed.shards, manifest.closed.tables
            old = {name for record in records if record.number < first for name in record.samples}
            order = sorted(writer.finished() - old)
        tables = writer.tables(order, kept)
        splits = [path.name.partition("-")[0] for path in tables] if layout == "parquet" else []
        counts = {name: splits.count(name) for name in sorted({*splits})}
        manifest.closed = Closed(shards=max(record.number for record in records) + 1, tables=counts)
        manifest.checksums = sha256(self.output / CHECKSUMS)
        sheet = ContactSheet(self._schema, title=self.title, folder=self.output / FOLDER / ".preview")
        sheet.keep(writer.finished())
        preview = sheet.save(self.output / "preview.png")
        master = Master(self.output, layout, self._schema, {}, tuple(tables))
        write_card(self.output, describe_master(master, manifest, dataset_licence(manifest)))
        return preview
