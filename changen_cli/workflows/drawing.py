"""What turns plans into samples: images drawn date by date by a model, or masks only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from changen_cli.core.errors import BrokenImageError
from changen_cli.core.manifest import ModelRecord
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import ClassSchema, Exemplar, Texture, TimeSeries, UInt8Array
from changen_cli.workflows.acquisitions import acquire_sample, unchanged_note
from changen_cli.workflows.gate import AREA, BROKEN, Gate, as_asked, open_gate
from changen_cli.workflows.loop import Draw
from changen_cli.workflows.making import Finish, Outcome
from changen_cli.workflows.plans import Plan, as_sample, attempt_seed, known_objects, simulate
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.rejects import Reject, reject
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
    return [partial(_without_images, plan, recipe) for plan in plans]


def _without_images(plan: Plan, recipe: Recipe) -> Outcome:
    return Outcome(as_sample(plan, recipe))


def _images(recipe: Recipe) -> Drawing:
    from changen_cli.synthesis.synthesiser import Synthesiser, knows_damage

    compute = choose_compute(recipe.run.device, recipe.run.dtype, recipe.run.threads)
    pipeline, model = load_pipeline(recipe, compute)

    def fit(schema: ClassSchema, library: list[Exemplar], textures: list[Texture], progress: Progress) -> Draw:
        synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), schema, library, textures)

        def draw(plans: list[Plan]) -> list[Finish]:
            stacks = synthesise_batch(plans, synthesiser, recipe, progress)
            return [
                partial(finish_drawn, plan, stack, recipe, schema) for plan, stack in zip(plans, stacks, strict=True)
            ]

        if not recipe.gate.enabled:
            return draw
        gate = open_gate(recipe, schema, compute.device)

        def again(plan: Plan, reason: str) -> Plan:
            known = known_objects(plan.scene, schema, recipe, library)
            rejected = (*plan.rejected, reason)
            return simulate(plan.scene, schema, recipe, plan.variant, known, textures, facts.label_safe, rejected)

        images = partial(synthesise_each, synthesiser=synthesiser, recipe=recipe, progress=progress)
        return partial(draw_gated, images=images, gate=gate, again=again, recipe=recipe, schema=schema)

    facts = Facts(model, unchanged_note(recipe), compute, label_safe=not knows_damage(pipeline))
    return Drawing(facts, fit)


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
                seed=attempt_seed(recipe, plan.scene, plan.variant, plan.attempt),
                names=(plan.scene.id, plan.variant, time_index + 1),
            )
            for plan, dates in zip(plans, images, strict=True)
        ]
        for dates, image in zip(images, synthesiser.next_dates(jobs, progress.windows), strict=True):
            dates.append(image)
    return [np.stack(dates) for dates in images]


def synthesise_each(
    plans: list[Plan], synthesiser: Synthesiser, recipe: Recipe, progress: Progress
) -> list[UInt8Array | None]:
    """Draw a batch as :func:`synthesise_batch` does; None for samples of which the model makes no image."""
    try:
        return [*synthesise_batch(plans, synthesiser, recipe, progress)]
    except BrokenImageError:
        if len(plans) == 1:
            return [None]
    return [image for plan in plans for image in synthesise_each([plan], synthesiser, recipe, progress)]


def draw_gated(
    plans: list[Plan],
    images: Callable[[list[Plan]], list[UInt8Array | None]],
    gate: Gate,
    again: Callable[[Plan, str], Plan],
    recipe: Recipe,
    schema: ClassSchema,
) -> list[Finish]:
    """Draw a batch, look at it, and draw what is rejected again, until it is kept or there are no attempts left.

    What becomes of a sample depends on nothing but its plan, whatever else is in the batch.

    Args:
        plans: First attempts.
        images: Draws a batch.
        gate: Judges.
        again: Makes the next attempt at a rejected sample.
        recipe: How often.
        schema: Classes of the masks.
    """
    rejects: list[tuple[Reject, ...]] = [() for _ in plans]
    finished: dict[int, Finish] = {}
    left = dict(enumerate(plans))
    while left:
        drawn = {place: plan for place, plan in left.items() if plan.settled or as_asked(plan, recipe)}
        stacks = dict(zip(drawn, images([*drawn.values()]), strict=True)) if drawn else {}
        following: dict[int, Plan] = {}
        for place, plan in left.items():
            stack = stacks.get(place)
            verdict = None if stack is None else gate.judge(plan, stack)
            if verdict is not None and stack is not None and (plan.settled or not verdict.reason):
                kept = replace(plan, series=verdict.series)
                finished[place] = partial(
                    finish_drawn, kept, stack, recipe, schema, verdict.info, rejected=rejects[place]
                )
                continue
            if plan.settled:
                raise BrokenImageError(f"{plan.id}: the model gives values that are no numbers")
            reason = verdict.reason if verdict is not None else BROKEN if place in drawn else AREA
            rejects[place] += (reject(plan, reason, stack, verdict),)
            if plan.attempt < recipe.gate.retries:
                following[place] = again(plan, reason)
            else:
                finished[place] = partial(Outcome, None, rejects[place])
        left = following
    return [finished[place] for place in range(len(plans))]


def finish_drawn(
    plan: Plan,
    images: UInt8Array,
    recipe: Recipe,
    schema: ClassSchema,
    info: Mapping[str, Any] | None = None,
    rejected: tuple[Reject, ...] = (),
) -> Outcome:
    """What comes of a sample that was drawn and is kept."""
    return Outcome(finish_sample(plan, images, recipe, schema, info), rejected)


def finish_sample(
    plan: Plan, images: UInt8Array, recipe: Recipe, schema: ClassSchema, info: Mapping[str, Any] | None = None
) -> TimeSeries:
    """Let the dates differ as acquisitions do, and assemble the sample; ``info`` are further columns for its row."""
    images, series, acquired = acquire_sample(plan, images, recipe, schema)
    return as_sample(replace(plan, series=series), recipe, images, {**(info or {}), **acquired})
