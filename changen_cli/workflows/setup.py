"""What every run needs before it starts: device, model, exemplars, output folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from changen_cli.core.checksums import FILE_NAME as CHECKSUMS
from changen_cli.core.errors import OutputError, SceneError, UsageError
from changen_cli.core.links import refuse_links
from changen_cli.core.lock import FILE_NAME as LOCK
from changen_cli.core.manifest import FILE_NAME, ModelRecord, read_manifest
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import ClassSchema, Exemplar, Scene, Skip, Texture
from changen_cli.synthesis.hub import BUNDLED, find_model
from changen_cli.workflows.ahead import read_ahead
from changen_cli.workflows.models import open_model
from changen_cli.workflows.runlog import LOGS

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source
    from changen_cli.sources.pseudo_masks import Proposer
    from changen_cli.synthesis.pipeline import ChangenPipeline
    from changen_cli.synthesis.synthesiser import SynthesisSettings

# Enough roofs to choose from, and the same ones whatever the limit, the order of work, or the size of the folder.
LIBRARY_SCENES = 24
LIBRARY_EXEMPLARS_PER_SCENE = 40
SAMPLE = BUNDLED.parent / "sample"


@dataclass(frozen=True)
class Compute:
    """Where and how the model runs."""

    device: str
    dtype: str
    threads: int


def choose_compute(device: str = "auto", dtype: str = "auto", threads: int | None = None) -> Compute:
    """Resolve ``auto`` and set the number of torch threads.

    One core is left to reading, event simulation and encoding: two threads that fight over a core cost more than
    they bring. float32 is the default on CPUs, because not all of them have bfloat16 and bytes should not depend on it.

    Raises:
        UsageError: For a device torch does not have.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used: {reason}", "Use --device cpu") from None
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    threads = threads or max(1, (os.cpu_count() or 2) - 1)
    torch.set_num_threads(threads)
    return Compute(device, dtype, threads)


def model_path(name: str) -> Path:
    """Find a model's weights by bundled name, path, or Hub id.

    Raises:
        ModelError: Naming the reference, why it cannot be found, and what to do.
    """
    return find_model(name).path


def synthesis_settings(recipe: Recipe) -> SynthesisSettings:
    """The recipe's way of drawing dates."""
    from changen_cli.synthesis.synthesiser import SynthesisSettings

    section = recipe.synthesis
    return SynthesisSettings(
        start=section.start,
        strength=section.strength,
        inference_steps=section.inference_steps,
        guidance_ratio=section.guidance_ratio,
        guidance_scale=section.guidance_scale,
        extent=section.extent,
    )


def load_pipeline(recipe: Recipe, compute: Compute) -> tuple[ChangenPipeline | None, ModelRecord | None]:
    """Load the recipe's model and give it a scheduler; nothing for an exemplar start of strength 0, which needs none.

    Raises:
        ModelError: When there is no such model, or it cannot be read or used.
    """
    import torch

    from changen_cli.synthesis.pipeline import ChangenPipeline
    from changen_cli.synthesis.schedulers import make_scheduler

    if not synthesis_settings(recipe).needs_model:
        return None, None
    opened = open_model(recipe.synthesis.model, recipe.synthesis.vae)
    model, vae = opened.denoiser, opened.autoencoder
    # The plain module's cast: diffusers' own warns of modules kept in float32, of which these models have none.
    torch.nn.Module.to(model, device=compute.device, dtype=getattr(torch, compute.dtype))
    if vae is not None:
        # Half precision would show as grain. On a CPU the autoencoder is most of the cost, so who asks for it gets it.
        precision = getattr(torch, compute.dtype) if compute.device == "cpu" else torch.float32
        torch.nn.Module.to(vae, device=compute.device, dtype=precision)
    return ChangenPipeline(model, make_scheduler(recipe.synthesis.scheduler, model.config), vae), opened.record


def make_proposer(recipe: Recipe) -> Proposer:
    """The recipe's way of finding objects in images without masks.

    Raises:
        ModelError: When it is a model and that cannot be loaded.
    """
    if recipe.source.proposals == "sam":
        from changen_cli.synthesis.segment_anything import SegmentAnything

        compute = choose_compute(recipe.run.device, recipe.run.dtype, recipe.run.threads)
        return SegmentAnything(recipe.source.sam_model, compute.device)
    from changen_cli.sources.pseudo_masks import propose_regions

    return propose_regions


def build_stock(
    source: Source, *, objects: bool, textures: bool, images: dict[str, str] | None = None
) -> tuple[list[Exemplar], list[Texture]]:
    """Collect what new things are made from, out of the first scenes of the source, in one pass.

    Args:
        source: The scenes.
        objects: Whether exemplars are wanted.
        textures: Whether pieces of every class are wanted: those that show most of it.
        images: Path → SHA-256 of the only images to look at. Where it is empty, it is filled with those looked at.

    Raises:
        OutputError: An image is not the one it was.
    """
    from changen_cli.events import collect_exemplars
    from changen_cli.synthesis.textures import best_textures, collect_textures

    library: list[Exemplar] = []
    pieces: list[Texture] = []
    if not objects and not textures:
        return library, pieces
    images = {} if images is None else images
    hashes: dict[str, str] = {}
    found = _stamped(source, images) if images else _stamping(source, hashes)
    scenes = (item for item in found if isinstance(item, Scene) and item.mask is not None)
    used = set()
    for scene in read_ahead(islice(scenes, LIBRARY_SCENES), depth=2):
        used.add(scene.source_path)
        if objects:
            library += collect_exemplars(scene, source.schema, max_per_scene=LIBRARY_EXEMPLARS_PER_SCENE)
        if textures:
            pieces += collect_textures(scene, source.schema)
    if not images:
        images |= {path: digest for path, digest in hashes.items() if path in used}
    return library, best_textures(pieces)


def _stamping(source: Source, hashes: dict[str, str]) -> Iterator[Scene | Skip]:
    """The scenes of a source; notes the hash of every image that was read.

    Raises:
        SceneError: An image changed meanwhile: its pixels may be neither those of before nor those of now.
    """
    from changen_cli.sources.stamps import is_untouched, stamp

    for candidate in source.candidates():
        if isinstance(candidate, Skip) or candidate.problem:
            continue
        before = stamp(candidate)
        for item in source.scenes_of([candidate]):
            if isinstance(item, Scene) and not is_untouched(candidate, before):
                raise SceneError(
                    f"{candidate.path} or its label changed while it was read", "Run again once nobody writes there"
                )
            hashes[candidate.relative] = before.sha256
            yield item


def _hashes(source: Source, wanted: Collection[str]) -> dict[str, str]:
    from changen_cli.sources.stamps import stamp

    found = source.candidates(wanted)
    return {item.relative: stamp(item).sha256 for item in found if not isinstance(item, Skip)}


def _stamped(source: Source, images: Mapping[str, str]) -> Iterator[Scene | Skip]:
    """The scenes of some images, provided that these are what they were."""
    found = _hashes(source, images)
    for path, digest in images.items():
        if found.get(path) != digest:
            raise OutputError(
                f"{source.root / path} {'changed' if path in found else 'is gone'}, and this dataset's new objects and "
                "ground are made of its pixels",
                "Put the file back, or make the dataset again with --mode overwrite",
            )
    return source.scenes_of(source.candidates(images))


def build_library(source: Source) -> list[Exemplar]:
    """Collect exemplars from the first scenes of the source."""
    return build_stock(source, objects=True, textures=False)[0]


def own_exemplars(scene: Scene, schema: ClassSchema, library: list[Exemplar]) -> list[Exemplar]:
    """Exemplars of a scene the library does not cover; empty for one it does."""
    from changen_cli.events import collect_exemplars

    if scene.mask is None or any(exemplar.scene_id == scene.id for exemplar in library):
        return []
    return collect_exemplars(scene, schema, max_per_scene=LIBRARY_EXEMPLARS_PER_SCENE)


def check_output(recipe: Recipe) -> Path:
    """Check that the output folder may be looked into and locked: it is new, empty, or holds a dataset of ours.

    Raises:
        OutputError: When it is none of these, would hold the input, or holds links out of it.
    """
    path = recipe.output_path
    source = Path(recipe.source.input).resolve()
    if path.resolve() == source or source.is_relative_to(path.resolve()):
        raise OutputError(f"{path}: the output folder would hold the input folder", "Choose another --output")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file", "Choose another --output")
    refuse_links(path)
    if holds_something(path):
        if not (path / FILE_NAME).is_file():
            raise OutputError(f"{path} is not empty and was not made by changen", "Choose another --output or empty it")
        read_manifest(path)  # other programs have a manifest.json too: only folders of ours are ever cleared
    return path


def holds_something(path: Path) -> bool:
    """Whether a folder is there and not empty."""
    return path.is_dir() and any(not entry.name.startswith((LOCK, ".partial-")) for entry in path.iterdir())


def clear_output(path: Path) -> None:
    """Remove what an earlier run wrote, and nothing else; the folder too when nothing else lies in it."""
    from changen_cli.writers.base import remove_dataset

    if not path.is_dir():
        return
    remove_dataset(path)
    for partial in path.glob(".partial-*"):
        partial.unlink()
    shutil.rmtree(path / ".probe", ignore_errors=True)
    # The manifest goes last: as long as it is there, an interrupted removal can be taken up again.
    for name in (
        "README.md",
        "classes.json",
        "preview.png",
        "report.html",
        "evaluation.json",
        CHECKSUMS,
        *LOGS,
        FILE_NAME,
    ):
        (path / name).unlink(missing_ok=True)
    if not any(path.iterdir()):
        path.rmdir()  # where a lock lies in it, whoever holds that removes both


def unpack_sample(folder: Path) -> int:
    """Copy the bundled sample to ``folder`` and return its number of scenes.

    Raises:
        OutputError: When the folder exists.
    """
    if folder.exists():
        raise OutputError(f"{folder} exists already", "Name a new folder")
    shutil.copytree(SAMPLE, folder)
    return sum(1 for _ in (folder / "images").iterdir())
