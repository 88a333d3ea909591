"""What a run would make, how long it would take and how much disk it needs: measured on one scene and one window."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from changen_cli.core.errors import IncompleteError
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import Scene
from changen_cli.workflows.acquisitions import acquire_sample
from changen_cli.workflows.inputs import with_unpacked_input
from changen_cli.workflows.plans import gather, open_labelled_source, simulate
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.setup import (
    check_output,
    choose_compute,
    load_pipeline,
    synthesis_settings,
)

_LOOKED_AT = 64
_LOOKED_AT_PROPOSED = 4
"""Proposals take seconds a scene, and nearly every scene has some."""


@dataclass(frozen=True)
class Estimate:
    """What a run would make.

    Attributes:
        output: The folder it would write to.
        images: Source images.
        samples: Samples, assuming every image gives as many tiles as the first.
        dates: Dates per sample.
        seconds: Wall time.
        bytes: Disk space.
        windows_per_date: Windows denoised for one date, on average, going by the measured scene.
        seconds_per_megapixel: Time to denoise 10^6 pixels, measured on one window.
        device: Where the model would run.
    """

    output: str
    images: int
    samples: int
    dates: int
    seconds: float
    bytes: float
    windows_per_date: float
    seconds_per_megapixel: float
    device: str

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return asdict(self)


def _tiles(scene: Scene) -> int:
    """How many tiles the image of a scene gives."""
    sides = scene.image.shape[:2]
    whole = scene.notes.get("tile", {}).get("of", sides)
    return math.prod(math.ceil(length / side) for length, side in zip(whole, sides, strict=True))


@with_unpacked_input
def estimate(recipe: Recipe, progress: Progress) -> Estimate:
    """Simulate one scene, denoise one of its windows, encode one date; write nothing.

    Raises:
        IncompleteError: When the source holds no usable scene.
        ChangenError: As :func:`~changen_cli.workflows.generate.generate` before it starts.
    """
    from changen_cli.synthesis.synthesiser import DateJob, Synthesiser, knows_damage
    from changen_cli.writers.images import encode_png

    # A dry run writes nothing, so a dataset that is there already is no obstacle; a stranger's folder still is.
    check_output(recipe)
    source = open_labelled_source(recipe)
    progress.note(source.describe())
    compute = choose_compute(recipe.run.device, recipe.run.dtype, recipe.run.threads)
    pipeline, _ = load_pipeline(recipe, compute)
    progress.stage("measuring")
    images = source.count_images()
    started = time.perf_counter()
    looked_at = _LOOKED_AT_PROPOSED if source.schema.class_agnostic else _LOOKED_AT
    scenes = [item for item in islice(source, looked_at) if isinstance(item, Scene)]
    if not scenes:
        raise IncompleteError(f"{recipe.source.input}: none of the first scenes can be used", "Run without --dry-run")
    read_s = (time.perf_counter() - started) / len(scenes)
    tiles = _tiles(scenes[0])
    library, textures = gather(recipe, source)
    synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), source.schema, library, textures)
    # A sample in which nothing changes says nothing about time: take the first one in which something does.
    positive = recipe.model_copy(update={"events": recipe.events.model_copy(update={"negatives": 0.0})})
    safe = not knows_damage(pipeline)
    plans = (simulate(scene, source.schema, positive, 0, library, textures, safe) for scene in scenes)
    plan = next((plan for plan in plans if any(event.time_index == 0 for event in plan.series.events)), None)
    if plan is None:
        raise IncompleteError(f"{recipe.source.input}: nothing can change in the first scenes", "Run without --dry-run")
    scene = plan.scene
    job = DateJob(
        image=scene.image,
        masks=plan.series.masks[:2],
        instances=plan.series.instances[:2],
        events=[event for event in plan.series.events if event.time_index == 0],
        scene_id=scene.id,
        seed=recipe.seed,
        names=(scene.id, 0, 1),
    )
    windows, pixels, denoise_s = synthesiser.measure(job)
    per_pixel = denoise_s / max(1, pixels[0]) if pixels else 0.0
    started = time.perf_counter()
    stack = np.stack([scene.image] * (recipe.events.steps + 1))
    encoded = len(encode_png(acquire_sample(plan, stack, recipe, source.schema)[0][0]))
    other_s = (time.perf_counter() - started) / len(stack)
    samples = min(images * tiles, recipe.limit or 2**62) * recipe.variants
    dates = recipe.events.steps + 1
    # Encoding and writing run beside the denoising, and so does reading, with proposals if there are any: the slowest
    # decides.
    per_step = max(per_pixel * sum(pixels) * (1 - recipe.events.negatives), 2 * other_s)
    return Estimate(
        output=str(recipe.output_path),
        images=images,
        samples=samples,
        dates=dates,
        seconds=samples * max(recipe.events.steps * per_step, read_s / recipe.variants),
        bytes=samples * dates * encoded * 1.03,
        windows_per_date=windows * (1 - recipe.events.negatives),
        seconds_per_megapixel=per_pixel * 1e6,
        device=compute.device,
    )
