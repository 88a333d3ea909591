"""Variation without change: every date of a sample acquired anew, and its labels kept true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from changen_cli.core.nuisance import load_nuisance
from changen_cli.core.recipe import Recipe
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import (
    IGNORE,
    BoolArray,
    ChangeEvent,
    ClassSchema,
    Int32Array,
    MaskSeries,
    UInt8Array,
)
from changen_cli.workflows.plans import Plan

_HEIGHT_M, _HEIGHT_SPREAD = 5.0, 0.35
"""Median height of a building and its log spread: one to three storeys."""


def unchanged_note(recipe: Recipe) -> str:
    """How the unchanged pixels of a recipe are treated, for manifest and card."""
    section = recipe.synthesis
    if section.nuisance == "none":
        return "bit-identical to date 0 outside the redrawn areas; |A-B| gives the change away"
    kept = "every later date" if section.keep_date0 else "every date, date 0 too,"
    note = f"{kept} went through an acquisition of its own: season, light, view, atmosphere, sensor and compression"
    return note + ("; date 0 is the source as it came, and so the clean one" if section.keep_date0 else "")


def acquire_sample(
    plan: Plan, images: UInt8Array, recipe: Recipe, schema: ClassSchema
) -> tuple[UInt8Array, MaskSeries, dict[str, Any]]:
    """Let every date of a sample differ as acquisitions do.

    Content may move, labels do not: they stay in the frame of the source. Where content moved by more than two pixels
    across the edge of a class, the label is no longer that of what is shown; such rims are unknown at all dates,
    because 255 never changes.

    Args:
        plan: The sample.
        images: uint8 ``[T, H, W, 3]``, unchanged pixels as in the source.
        recipe: What was asked for.
        schema: The classes; only what is a building, and stands, leans.

    Returns:
        The images, the series with its rims, and columns for the metadata: what was drawn, per date.
    """
    from changen_cli.synthesis.nuisance import Acquisition, acquire, draw_acquisition, lean_offsets, spoilt_labels

    section, series = recipe.synthesis, plan.series
    if section.nuisance == "none":
        return images, series, {"nuisance": "none"}
    table, names = load_nuisance(section.nuisance), (plan.scene.id, plan.variant)
    spread = derive_rng(recipe.seed, *names, "heights").standard_normal(int(series.instances.max(initial=0)) + 1)
    heights_m = _HEIGHT_M * np.exp(_HEIGHT_SPREAD * spread)
    made, drawn = [], []
    rims = np.zeros(images.shape[1:3], dtype=np.bool_)
    for date, image in enumerate(images):
        rng = derive_rng(recipe.seed, *names, date, "acquisition")
        keep = date == 0 and section.keep_date0
        one = Acquisition() if keep else draw_acquisition(table, image.shape[:2], plan.scene.gsd_m, rng)
        standing = _standing(series.masks[date], series.instances[date], schema)
        offsets = lean_offsets(standing, heights_m, one)
        made.append(acquire(image, one, offsets, standing > 0))
        rims |= spoilt_labels(series.masks[date], offsets, one)
        drawn.append(one.record())
    rims &= series.masks[0] != IGNORE
    info = {"nuisance": table.name, "rim_px": int(rims.sum()), "acquisition": drawn}
    return np.stack(made), with_unknown(series, rims), info


def _standing(mask: UInt8Array, instances: Int32Array, schema: ClassSchema) -> Int32Array:
    """Object numbers of what is tall, int32 ``[H, W]``; proposals may be anything."""
    if schema.class_agnostic:
        return np.zeros_like(instances)
    tall = np.zeros(256, dtype=np.bool_)
    tall[list(schema.standing_ids)] = True
    return np.where(tall[mask], instances, np.int32(0))


def with_unknown(series: MaskSeries, unknown: BoolArray) -> MaskSeries:
    """A series with more unknown pixels, at all of its dates; its events lose those pixels, and vanish with the last.

    Args:
        series: The series.
        unknown: bool ``[H, W]``.
    """
    if not unknown.any():
        return series
    masks, instances = series.masks.copy(), series.instances.copy()
    masks[:, unknown], instances[:, unknown] = IGNORE, 0
    events = [_without(event, series.masks[event.time_index], unknown) for event in series.events]
    reports = [
        replace(report, reached=float((masks[report.time_index] != masks[report.time_index + 1]).mean()))
        for report in series.reports
    ]
    kept = tuple(event for event in events if event is not None)
    return replace(series, masks=masks, instances=instances, events=kept, reports=tuple(reports))


def _without(event: ChangeEvent, before: UInt8Array, unknown: BoolArray) -> ChangeEvent | None:
    """An event without its unknown pixels; None where none is left."""
    from changen_cli.events.regions import crop, polygon_wkt, tighten
    from changen_cli.exports.polygons import fill_polygon

    shape, box = fill_polygon(event.polygon)
    left = shape & ~unknown[crop(box)]
    if left.sum() == event.area_px:
        return event
    if not left.any():
        return None
    left, box = tighten(left, box)
    counts = np.bincount(before[crop(box)][left], minlength=256)
    return replace(
        event,
        bbox=box,
        area_px=int(left.sum()),
        polygon=polygon_wkt(left, (box[0], box[1])),
        from_class=int(counts.argmax()),
        from_areas_px={int(index): int(counts[index]) for index in np.flatnonzero(counts)},
    )
