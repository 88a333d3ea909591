"""Runs that are taken up again: what an earlier one left, and whether what is asked for now fits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changen_cli.core.errors import OutputError
from changen_cli.core.manifest import FILE_NAME, Manifest, ModelRecord, read_manifest
from changen_cli.core.recipe import Recipe, content_of
from changen_cli.core.shards import FOLDER, ShardRecord, keeping_all, read_shards, remove_others
from changen_cli.workflows.ledger import Account, Ledger, account
from changen_cli.workflows.setup import holds_something

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

_SCENE: dict[str, Any] = {}
_ANOTHER = "Pass --mode overwrite to replace it, or choose another --output"


@dataclass
class Past:
    """What an earlier run left.

    Attributes:
        manifest: What it promised.
        records: Its shards, by number, without what the manifest lists of scenes.
        notes: What people should know of it.
    """

    manifest: Manifest
    records: list[ShardRecord]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def account(self) -> Account:
        """How much there is."""
        return account(self.records)

    def nothing_left(self, recipe: Recipe) -> bool:
        """Whether everything asked for is there."""
        if self.manifest.status != "complete" or recipe.output.mode == "extend":
            return False
        if self.manifest.counts.get("failed"):  # too many of them, and the run did not count as done
            ledger = Ledger(self.records)
            if ledger.failed_images > recipe.source.max_skipped * ledger.images:
                return False
        before, now = self.manifest.recipe.get("limit"), recipe.limit
        more = before is not None and (now is None or now > before)
        return not more and not self.manifest.counts.get("failed_samples")

    def check_source(self, source: Source) -> None:
        """Read the source as before.

        Raises:
            OutputError: When it is another one.
        """
        told, root = self.manifest.source, source.root.resolve()
        for name, now in (("layout", source.layout), ("classes", list(source.schema.names))):
            if told.get(name) != now:
                raise OutputError(f"{root} was read with {name} {told.get(name)} before, now it is {now}", _ANOTHER)
        source.meaning_of_255 = told.get("meaning_of_255", source.meaning_of_255)
        first = next((path for record in self.records for path, image in record.images.items() if image.scenes), None)
        before = Path(self.manifest.recipe["source"]["input"]).resolve()
        if first is not None and before != root and not (root / first).is_file():
            raise OutputError(
                f"the samples there were made of {before}, which holds {first}; {root} does not", _ANOTHER
            )

    def check_model(self, model: ModelRecord | None) -> None:
        """Raise OutputError when images would be drawn by another model than before."""
        before = self.manifest.model
        if (before and before.sha256) != (model and model.sha256):
            names = [f"{m.id} ({m.sha256[:12]})" if m else "no model" for m in (before, model)]
            raise OutputError(f"its images were drawn by {names[0]}, these would be by {names[1]}", _ANOTHER)

    def carry_over(self, manifest: Manifest) -> None:
        """Put into the manifest of the run that goes on what holds for the whole dataset."""
        before = self.manifest
        manifest.stock, manifest.changed, manifest.closed = before.stock, dict(before.changed), before.closed
        manifest.mixed, manifest.counts = list(before.mixed), before.counts
        pairs = {name: (getattr(before, name), getattr(manifest, name)) for name in ("device", "dtype")}
        pairs |= {name: (before.versions.get(name), version) for name, version in manifest.versions.items()}
        for name, (then, now) in pairs.items():
            line = f"{name}: {then} at first, then {now}"
            if then != now and line not in manifest.mixed:
                manifest.mixed.append(line)
                self.notes.append(f"{line}; bytes of new samples may differ from those of an unbroken run")
        manifest.device, manifest.dtype, manifest.versions = before.device, before.dtype, before.versions


def find_past(recipe: Recipe, *, alone: bool = True) -> Past | None:
    """Return what an earlier run left, to go on with it; None where the dataset is to be made from the start.

    Args:
        recipe: What is asked for.
        alone: Whether nobody else is writing. Then records that cannot be read are removed, and what they held is made
            again.

    Raises:
        OutputError: When the mode does not allow to go on, or what is asked for is another dataset.
    """
    out = recipe.output_path
    if not holds_something(out) or not (out / FILE_NAME).is_file() or recipe.output.mode == "overwrite":
        return None
    if recipe.output.mode == "fail":
        raise OutputError(f"{out} already holds a dataset", _ANOTHER)
    manifest = read_manifest(out)
    _check_recipe(manifest.recipe, out)
    if changed := list(differences(manifest.recipe, recipe)):
        raise OutputError(f"{out} holds a dataset of another recipe: {'; '.join(changed)}", _ANOTHER)
    with keeping_all():
        past = Past(manifest, [_slim(record, recipe.variants) for record in read_shards(out)])
    if manifest.closed is None and manifest.counts and not past.records and not past.nothing_left(recipe):
        raise OutputError(f"{out} was made by a version of changen whose runs cannot be taken up again", _ANOTHER)
    if not alone:
        return past
    folders = [out / FOLDER / ".preview", *(path for path in (out, *out.iterdir()) if not path.is_symlink())]
    for partial in (partial for folder in folders for partial in folder.glob(".partial-*")):
        partial.unlink()  # of a run that was killed
    broken = remove_others(out, {record.number for record in past.records})
    if broken:
        past.notes.append(f"{len(broken)} records of shards cannot be read, e.g. {broken[0]:05d}: made again")
    return past


def _slim(record: ShardRecord, variants: int) -> ShardRecord:
    """Leave of the scenes of a record what going on needs: how many there are, and the ids of those not complete."""
    for image in record.images.values():
        done = image.complete and record.variants >= variants
        image.scenes = [_SCENE if done else {"id": scene.get("id")} for scene in image.scenes]
    return record


def _check_recipe(recipe: Mapping[str, Any], out: Path) -> None:
    """Raise OutputError unless what a manifest holds may be compared with a recipe."""
    sections = ("source", "events", "synthesis", "output", "run")
    fits = all(isinstance(recipe.get(name), dict) for name in sections)
    counts = all(isinstance(recipe.get(name), int | None) for name in ("limit", "variants"))
    if not fits or not counts or not isinstance(recipe["source"].get("input"), str):
        raise OutputError(f"{out / FILE_NAME} holds no recipe", _ANOTHER)


def differences(before: Mapping[str, Any], recipe: Recipe) -> Iterator[str]:
    """Yield what decides the content and is not as before, ``key: before, now``.

    Args:
        before: The recipe of the earlier run, as its manifest has it. Keys it lacks had their default.
        recipe: The recipe now; with the mode ``extend``, more variants are no difference.
    """
    now = dict(_flat(recipe.content()))
    then = dict(_flat(Recipe.model_validate({"source": {"input": ""}}).content())) | dict(_flat(content_of(before)))
    for key in sorted({*now, *then}):
        old, new = then.get(key), now.get(key)
        if key.startswith("gate.") and key != "gate.enabled" and not (then["gate.enabled"] and now["gate.enabled"]):
            continue
        if key == "variants" and recipe.output.mode == "extend" and (new or 0) >= (old or 0):
            continue
        if old != new:
            yield f"{key} was {_short(old)}, is {_short(new)}"


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings as ``section.key``; a matrix is one setting."""
    for section, value in content.items():
        if isinstance(value, dict):
            yield from ((f"{section}.{key}", inner) for key, inner in value.items())
        else:
            yield section, value


def _short(value: Any) -> str:
    text = str(value.get("name", "a matrix") if isinstance(value, dict) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
