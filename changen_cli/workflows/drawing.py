"""What turns plans into samples: images drawn date by date by a model, or masks only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from changen_cli.core.manifest import ModelRecord
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import ClassSchema, Exemplar, Texture, TimeSeries, UInt8Array
from changen_cli.workflows.acquisitions import acquire_sample, unchanged_note
from changen_cli.workflows.loop import Draw
from changen_cli.workflows.making import Finish
from changen_cli.workflows.plans import Plan, as_sample
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.setup import Compute, choose_compute, load_pipeline, synthesis_settings

if TYPE_CHECKING:
    from changen_cli.synthesis.synthesiser import Synthesiser


@dataclass(frozen=True)
class Facts:
    """How samples are drawn, as the manifest tells it.

    Attributes:
        model: What draws them; None where none is needed.
        unchanged: How unchanged pixels are treated; empty where only masks are made.
        compute: Where and how images are drawn; None where only masks are made.
        label_safe: Of the states of damage only destroyed can be drawn.
    """

    model: ModelRecord | None = None
    unchanged: str = ""
    compute: Compute | None = None
    label_safe: bool = False


@dataclass(frozen=True)
class Drawing:
    """A way of drawing samples.

    Attributes:
        facts: What the manifest tells of it.
        fit: Makes it draw scenes of given classes with given exemplars and textures, and tell how far it is.
    """

    facts: Facts
    fit: Callable[[ClassSchema, list[Exemplar], list[Texture], Progress], Draw]


def open_drawing(recipe: Recipe, *, images: bool) -> Drawing:
    """Load what a recipe draws with.

    Args:
        recipe: The recipe.
        images: Whether images are wanted, or masks only.

    Raises:
        UsageError: For a device torch does not have.
        ModelError: When the model cannot be loaded.
    """
    return _images(recipe) if images else Drawing(Facts(), lambda *_: partial(_masks, recipe=recipe))


def _masks(plans: list[Plan], recipe: Recipe) -> list[Finish]:
    return [partial(as_sample, plan, recipe) for plan in plans]


def _images(recipe: Recipe) -> Drawing:
    from changen_cli.synthesis.synthesiser import Synthesiser, knows_damage

    compute = choose_compute(recipe.run.device, recipe.run.dtype, recipe.run.threads)
    pipeline, model = load_pipeline(recipe, compute)

    def fit(schema: ClassSchema, library: list[Exemplar], textures: list[Texture], progress: Progress) -> Draw:
        synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), schema, library, textures)

        def draw(plans: list[Plan]) -> list[Finish]:
            images = synthesise_batch(plans, synthesiser, recipe, progress)
            return [
                partial(finish_sample, plan, stack, recipe, schema) for plan, stack in zip(plans, images, strict=True)
            ]

        return draw

    return Drawing(Facts(model, unchanged_note(recipe), compute, label_safe=not knows_damage(pipeline)), fit)


def synthesise_batch(
    plans: list[Plan], synthesiser: Synthesiser, recipe: Recipe, progress: Progress
) -> list[UInt8Array]:
    """Draw all dates of a batch of samples, date by date; uint8 ``[T, H, W, 3]`` each."""
    from changen_cli.synthesis.synthesiser import DateJob

    images = [[plan.scene.image] for plan in plans]
    for time_index in range(recipe.events.steps):
        progress.stage(f"denoising t{time_index + 1}")
        jobs = [
            DateJob(
                image=dates[-1],
                masks=plan.series.masks[time_index : time_index + 2],
                instances=plan.series.instances[time_index : time_index + 2],
                events=[event for event in plan.series.events if event.time_index == time_index],
                scene_id=plan.scene.id,
                seed=recipe.seed,
                names=(plan.scene.id, plan.variant, time_index + 1),
            )
            for plan, dates in zip(plans, images, strict=True)
        ]
        for dates, image in zip(images, synthesiser.next_dates(jobs, progress.windows), strict=True):
            dates.append(image)
    return [np.stack(dates) for dates in images]


def finish_sample(plan: Plan, images: UInt8Array, recipe: Recipe, schema: ClassSchema) -> TimeSeries:
    """Let the dates differ as acquisitions do, and assemble the sample."""
    images, series, info = acquire_sample(plan, images, recipe, schema)
    return as_sample(replace(plan, series=series), recipe, images, info)
