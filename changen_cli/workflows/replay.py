"""Replay: one sample made again from what manifest and records say of it, and compared with what is stored."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changen_cli.core.errors import ModelError, OutputError, SceneError, UsageError
from changen_cli.core.manifest import Manifest, ModelRecord, library_versions, read_manifest
from changen_cli.core.recipe import Recipe
from changen_cli.core.recipe_files import load_recipe
from changen_cli.core.shards import read_shards, rows_path
from changen_cli.core.types import MaskSeries, Scene, Skip, TimeSeries
from changen_cli.exports.compare import Comparison, compare_samples, find_sample
from changen_cli.exports.master import Master, open_master
from changen_cli.workflows.drawing import Drawing, open_drawing
from changen_cli.workflows.inputs import with_unpacked_input
from changen_cli.workflows.ledger import proposals_record
from changen_cli.workflows.plans import gather, known_objects, open_labelled_source, simulate
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.setup import Compute, holds_something

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

_COMPARED_NAMES = 50_000
"""Among so many samples the nearest names are looked for; more would take minutes."""
_ANYWHERE_ELSE = "Give the folder as it was with --input"


@dataclass(frozen=True)
class Origin:
    """What a sample was made of, as its shard says.

    Attributes:
        sample: Its id.
        scene: Id of its scene.
        variant: The k-th sample of the scene.
        image: The source image, below the input folder.
        sha256: Hash of the image with its label.
        digests: SHA-256 of the sample's files as they were written, by path below the dataset.
        rejected: Why the attempts before the one that was kept were rejected.
    """

    sample: str
    scene: str
    variant: int
    image: str
    sha256: str
    digests: dict[str, str]
    rejected: tuple[str, ...] = ()


@dataclass
class Replay:
    """What came of making a sample again.

    Attributes:
        sample: Its id.
        step: The step it was limited to; None for all of it.
        files: Every file and text of it, compared.
        elsewhere: What is not as it was when the dataset was made: device, versions; one line each.
        output: Where the new copy is; None where it was not to be kept.
    """

    sample: str
    step: int | None
    files: list[Comparison]
    elsewhere: list[str] = field(default_factory=list)
    output: Path | None = None

    @property
    def identical(self) -> bool:
        """Whether all bytes are the same."""
        return all(file.state == "identical" for file in self.files)

    @property
    def labels_equal(self) -> bool:
        """Whether all that is no image says the same: masks, events, objects, metadata."""
        return all(file.state in ("identical", "same content") for file in self.files if file.kind != "image")


def replay(
    out: Path,
    sample: str,
    *,
    step: int | None = None,
    source: Path | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Make one sample of a dataset again and compare it with what is stored; the dataset is only read.

    Args:
        out: The dataset.
        sample: Id of the sample.
        step: Compare the step from this date to the next only; later dates are not drawn.
        source: Where the input lies now; None where it always did.
        output: A new folder for the new copy, in the dataset's layout; with ``step`` it ends after that.
        progress: Who wants to know how far it is.

    Raises:
        UsageError: There is no such dataset, sample or step, or its input is gone.
        SceneError: Its image, or one that new objects are made of, is not what it was.
        ModelError: Its model is gone, or is not what it was.
        OutputError: The dataset does not say what its samples were made of, or ``output`` cannot be written to.
    """
    progress = progress or Silent()
    progress.total(1)
    master, manifest = open_master(out), read_manifest(out)
    origin = find_origin(out, sample)
    moved = {"source.input": str(source)} if source else {}
    recipe = load_recipe(out, moved | {"source.layout": manifest.source.get("layout")})
    steps = recipe.events.steps
    if step is not None and not 0 <= step < steps:
        raise UsageError(
            f"{sample} has no step {step}", f"Name one from 0 to {steps - 1}: step t leads from date t to date t+1"
        )
    if not Path(recipe.source.input).exists():
        raise UsageError(f"{recipe.source.input}, of which {out} was made, is gone", _ANYWHERE_ELSE)
    if output is not None:
        _check_output(out, output)
    with tempfile.TemporaryDirectory(prefix=".changen-replay-", dir=output and _parent(output)) as scratch:
        folder = Path(scratch) / "sample"
        # An archive is unpacked beside the output.
        beside = _changed(recipe, "output", {"path": str(folder)})
        series, compute = _make(beside, origin, manifest, steps if step is None else step + 1, progress)
        progress.stage("comparing")
        made = find_sample(_write(series, folder, master), sample)
        stored = find_sample(master, sample)
        if stored is None or made is None:
            raise OutputError(f"{out}: its tables do not list {sample}", "Run the command that made it again")
        files = [_with_history(file, out, origin) for file in compare_samples(stored, made, step)]
        if output is not None:
            folder.replace(output)
    return Replay(sample, step, files, list(_elsewhere(manifest, compute)), output)


def find_origin(out: Path, sample: str) -> Origin:
    """Find out what a sample was made of.

    Raises:
        UsageError: There is no such sample.
        OutputError: The dataset has no records, or they do not fit together.
    """
    found, failed, rejected = None, "", list[str]()
    names: list[str] = []
    for record in read_shards(out):
        if sample in record.samples:
            found = record  # of two shards the later one counts
        failed, rejected = record.failed.get(sample, failed), record.rejected.get(sample, rejected)
        names += islice(record.samples, max(0, _COMPARED_NAMES - len(names)))
    if found is None:
        if not names:
            raise OutputError(
                f"{out} has no records of what its samples were made of (shards/): it was made by an older version, or "
                "they were left behind when it was copied",
                "Make it again to have them",
            )
        if rejected:
            raise UsageError(f"{sample} was rejected by the quality gate: {', '.join(rejected)}")
        if failed:
            raise UsageError(f"{sample} could not be made: {failed}")
        near = ", ".join(get_close_matches(sample, names, n=3) or names[:3])
        raise UsageError(f"{out} has no sample {sample}", f"Nearest: {near}")
    scene, _, variant = sample.rpartition("_v")
    images = {name: image for name, image in found.images.items() if any(s.get("id") == scene for s in image.scenes)}
    if not images or not variant.isdecimal():
        raise OutputError(
            f"{out}: the record of shard {found.number} does not say what {sample} was made of", "Make it again"
        )
    (name, image), *_ = images.items()
    row = _line(rows_path(out, found.number), found.samples.index(sample))
    attempts = tuple(filter(None, str(row.get("rejected") or "").split(", ")))
    return Origin(sample, scene, int(variant), name, image.sha256, row.get("_sha256", {}), attempts)


def _line(path: Path, number: int) -> dict[str, Any]:
    """One line of a shard; empty where it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            row = json.loads(next(islice(file, number, None), ""))
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


@with_unpacked_input
def _make(
    recipe: Recipe, origin: Origin, manifest: Manifest, steps: int, progress: Progress
) -> tuple[TimeSeries, Compute | None]:
    """Make the sample again, up to the end of so many steps; returns it, and where it was drawn."""
    progress.stage("reading")
    source = open_labelled_source(recipe)
    _check_source(source, manifest, origin)
    shorter = _cut_recipe(recipe, steps)
    drawing = _open_drawing(shorter, manifest)
    _check_model(_hash_of(manifest.model), _hash_of(drawing.facts.model), recipe.synthesis.model)
    library, textures = gather(recipe, source, dict(manifest.stock))
    scene = _scene(source, origin)
    known = known_objects(scene, source.schema, recipe, library)
    safe = drawing.facts.label_safe
    plan = simulate(scene, source.schema, recipe, origin.variant, known, textures, safe, origin.rejected)
    draw = drawing.fit(source.schema, library, textures, progress)
    # Whatever the gate finds now: on another machine a figure near its limit may fall on the other side.
    (finish,) = draw([replace(plan, series=_cut_series(plan.series, steps), settled=True)])
    sample = finish().sample
    assert sample is not None  # what is settled is kept
    return sample, drawing.facts.compute


def _open_drawing(recipe: Recipe, manifest: Manifest) -> Drawing:
    """Draw as the dataset was drawn: device type, precision and threads, where this machine has them."""
    threads = min(manifest.threads or 1, os.cpu_count() or 1)
    before = {"device": manifest.device.partition(":")[0], "dtype": manifest.dtype, "threads": threads}
    try:
        return open_drawing(_changed(recipe, "run", before if manifest.images else {}), images=manifest.images)
    except UsageError:
        return open_drawing(_changed(recipe, "run", {"device": "auto", "dtype": "auto"}), images=manifest.images)


def _cut_recipe(recipe: Recipe, steps: int) -> Recipe:
    dates = recipe.events.dates
    return _changed(recipe, "events", {"steps": steps, "dates": dates and dates[: steps + 1]})


def _cut_series(series: MaskSeries, steps: int) -> MaskSeries:
    return replace(
        series,
        masks=series.masks[: steps + 1],
        instances=series.instances[: steps + 1],
        events=tuple(event for event in series.events if event.time_index < steps),
        reports=series.reports[:steps],
    )


def _changed(recipe: Recipe, section: str, values: dict[str, Any]) -> Recipe:
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


def _check_source(source: Source, manifest: Manifest, origin: Origin) -> None:
    """Check that the source is the one the sample was made of, as far as it plays a part in it."""
    from changen_cli.sources.stamps import stamp

    before, now = manifest.source.get("classes"), list(source.schema.names)
    if before != now:
        raise UsageError(f"{source.root} was read with classes {before} before, now it is {now}", _ANYWHERE_ELSE)
    source.meaning_of_255 = manifest.source.get("meaning_of_255", source.meaning_of_255)
    wanted = manifest.stock | {origin.image: origin.sha256}
    found = {item.relative: item for item in source.candidates(wanted) if not isinstance(item, Skip)}
    for name, digest in wanted.items():
        role = "was made of it" if name == origin.image else "has objects and ground made of its pixels"
        if name not in found:
            raise UsageError(f"{source.root / name} is gone, and {origin.sample} {role}", _ANYWHERE_ELSE)
        if (digest_now := stamp(found[name]).sha256) != digest:
            raise SceneError(
                f"{source.root / name} or its label changed (SHA-256 {digest_now[:12]}, was {digest[:12]}), and "
                f"{origin.sample} {role}",
                _ANYWHERE_ELSE,
            )
    proposer = manifest.source.get("proposals_model") or {}
    _check_model(proposer.get("sha256"), _hash_of(proposals_record(source)), str(proposer.get("id", "")))


def _hash_of(model: ModelRecord | None) -> str | None:
    return None if model is None else model.sha256


def _check_model(before: str | None, now: str | None, name: str) -> None:
    if before != now:
        shown = [digest[:12] if digest else "none" for digest in (before, now)]
        raise ModelError(
            f"model {name} is not the one of this dataset (SHA-256 {shown[1]}, was {shown[0]})",
            "Put that one in its place",
        )


def _scene(source: Source, origin: Origin) -> Scene:
    for item in source.scenes_of(source.candidates((origin.image,))):
        if isinstance(item, Scene):
            if item.id == origin.scene:
                return item
        else:
            raise SceneError(f"{source.root / origin.image}: {item.reason}", _ANYWHERE_ELSE)
    raise SceneError(f"{source.root / origin.image} gives no scene {origin.scene}", _ANYWHERE_ELSE)


def _elsewhere(manifest: Manifest, compute: Compute | None) -> Iterator[str]:
    """What is not as it was, one line each."""
    before, now = dict(manifest.versions), library_versions()
    if compute is not None:
        before |= {"device": manifest.device.partition(":")[0], "precision": manifest.dtype}
        now |= {"device": compute.device.partition(":")[0], "precision": compute.dtype}
    for name, value in now.items():
        if before.get(name) != value:
            yield f"{name} was {before.get(name)}, is {value}"
    yield from (f"already while it was made: {line}" for line in manifest.mixed)


def _write(series: TimeSeries, folder: Path, like: Master) -> Master:
    """Write one sample as a dataset of the same layout."""
    from changen_cli.writers import open_writer
    from changen_cli.writers.classes import write_classes

    write_classes(folder, like.schema)
    writer = open_writer(like.layout, folder, like.schema)
    writer.write(series)
    return replace(like, root=folder, tables=tuple(writer.close()))


def _with_history(file: Comparison, out: Path, origin: Origin) -> Comparison:
    """Say of a file that is not what was written that it changed since."""
    from changen_cli.core.files import sha256

    written = next((digest for name, digest in origin.digests.items() if name == file.name), None)
    path = out / file.name
    if file.state == "identical" or written is None or not path.is_file() or sha256(path) == written:
        return file
    return replace(file, note="; ".join(filter(None, (file.note, "the stored file changed after it was written"))))


def _check_output(out: Path, output: Path) -> None:
    inner, outer = output.resolve(), out.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise OutputError(f"{output}: the copy would lie in the dataset, or hold it", "Choose another --output")
    if output.exists() and (not output.is_dir() or holds_something(output)):
        raise OutputError(f"{output} exists already", "Choose a new --output")


def _parent(output: Path) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.parent
