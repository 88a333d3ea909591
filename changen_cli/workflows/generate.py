"""The main job: image time series, drawn date by date on the masks of simulated change."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from changen_cli.core.recipe import Recipe
from changen_cli.core.types import ClassSchema, TimeSeries, UInt8Array
from changen_cli.workflows.acquisitions import acquire_sample, unchanged_note
from changen_cli.workflows.dataset import Finish
from changen_cli.workflows.inputs import with_unpacked_input
from changen_cli.workflows.plans import Plan, as_sample
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.results import RunResult
from changen_cli.workflows.run import Run
from changen_cli.workflows.setup import choose_compute, load_pipeline, synthesis_settings

if TYPE_CHECKING:
    from changen_cli.synthesis.synthesiser import Synthesiser


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


@with_unpacked_input
def generate(recipe: Recipe, progress: Progress | None = None) -> RunResult:
    """Make a dataset as the recipe says.

    Args:
        recipe: What to make.
        progress: Who wants to know how far it is.

    Returns:
        What was made, and what was not.

    Raises:
        UsageError: When the input cannot be used as asked; nothing is written.
        OutputError: When the output folder may not be written to; nothing is touched.
        LockedError: When another run writes to it.
        ModelError: When the model cannot be loaded; nothing is written.
        IncompleteError: When no sample could be made, and nothing is left behind; or when more scenes failed than
            allowed, and what was made is kept.
        KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
    """
    from changen_cli.synthesis.synthesiser import Synthesiser, knows_damage

    progress = progress or Silent()
    with Run(recipe, progress) as run:
        if run.done:
            return run.done
        # Device and model before anything slow: a typo should not cost a minute of reading.
        compute = choose_compute(recipe.run.device, recipe.run.dtype, recipe.run.threads)
        pipeline, model = load_pipeline(recipe, compute)
        run.collect()
        synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), run.source.schema, run.library, run.textures)

        def draw(plans: list[Plan]) -> list[Finish]:
            images = synthesise_batch(plans, synthesiser, recipe, progress)
            schema = run.source.schema
            return [
                partial(finish_sample, plan, stack, recipe, schema) for plan, stack in zip(plans, images, strict=True)
            ]

        return run.go(
            draw,
            model=model,
            unchanged=unchanged_note(recipe),
            compute=compute,
            label_safe=not knows_damage(pipeline),
        )
