"""Alterations: buildings that stand are extended, and parts of them torn down; they may merge and split."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box, Placement
from changen_cli.events.budget import creation_size
from changen_cli.events.laying import lay_any
from changen_cli.events.objects import ground_below, removable
from changen_cli.events.regions import FloatArray, crop, dilate, oriented_extent, pad_box, tighten
from changen_cli.events.step import AIM, TOLERANCE, Step

_MAX_MISSES = 24
_TORN = (0.25, 0.5)  # share of a building's length that goes
_FROM_MIDDLE = 0.3  # share of the cases in which it goes from the middle, which may leave two buildings
_ANNEX = (0.2, 0.9)  # of the building's area
_OVERLAP_PX = 1.0
_HALVES = np.array([0.5, 0.4, 0.65, 0.8])  # distances from the wall tried, in sides of the annex


def alter(step: Step) -> None:
    """Extend buildings, or tear parts of them down, until the target is spent or nothing more fits."""
    if not step.objects_can_change():
        named = step.building >= 0
        step.shortages.append("no class is free ground" if named else "no class is named like a building")
        return
    misses, rows = 0, removable(step).tolist()
    open_rows = {int(step.state.objects.numbers[row]): row for row in rows}
    # Roads, shores, changed ground: most annexes fail there, and it is quick to see.
    blocked = ~(step.ground | step.built)[step.state.mask] | step.closed
    while step.owes() and misses < _MAX_MISSES and open_rows:
        row = rows[int(step.rng.integers(len(rows)))]
        if int(step.state.objects.numbers[row]) not in open_rows:
            misses += 1
            continue
        extends = bool(step.stock.exemplars) and step.rng.random() < 0.5
        known = len(step.altered)
        changed = _extend(step, row, open_rows, blocked) if extends else _tear(step, row)
        misses = 0 if changed else misses + 1
        for gone in step.altered[known:]:
            open_rows.pop(int(step.state.objects.numbers[gone]), None)
    if step.owes():
        step.shortages.append(f"no {step.rules.schema.building_name} left to extend or to tear parts of")


def _along(angle_rad: float, footprint: BoolArray, *, reverse: bool) -> FloatArray:
    """Where a building's pixels lie along its longer side: float64 ``[n]`` in [0, 1], in the order of nonzero."""
    rows, cols = np.nonzero(footprint)
    sides = (cols * math.cos(a) - rows * math.sin(a) for a in (angle_rad, angle_rad + math.pi / 2))
    side = max(sides, key=np.ptp)
    along = (side - side.min()) / max(float(np.ptp(side)), 1.0)
    return np.asarray(1 - along if reverse else along)


def _tear(step: Step, row: int) -> int:
    """Tear down a part across a building's length; returns its pixels, 0 where too little would be left or torn."""
    objects, rng, least_px = step.state.objects, step.rng, step.rules.min_area_px
    box, (whole, footprint) = objects.box(row), step.object(row)
    if objects.areas_px[row] < 3 * least_px or not footprint.any():
        return 0
    along = _along(float(objects.orientations_rad[row]), footprint, reverse=bool(rng.integers(2)))
    share = rng.uniform(*_TORN)
    begin = (1 - share) / 2 if rng.random() < _FROM_MIDDLE else 0.0
    part = np.zeros_like(footprint)
    part[footprint] = (along >= begin) & (along <= begin + share)
    pieces, count = ndimage.label(footprint & ~part)
    sizes = np.bincount(pieces.ravel())[1:]
    fits = least_px <= part.sum() <= step.left_px + TOLERANCE * step.target_px
    if not count or sizes.min() < least_px or not fits:
        return 0
    target, number, name = ground_below(step, row), int(objects.numbers[row]), objects.ids[row]
    numbers = step.instances[crop(box)]
    numbers[whole & ~footprint] = 0  # what trees hid of it belongs to no piece
    numbers[part] = 0
    step.altered.append(row)
    step.replaced.append(row)
    names = []
    for rank, piece in enumerate(np.argsort(-sizes, kind="stable") + 1):
        own = pieces == piece
        if rank:
            names.append(f"{name}/{step.state.time_index}-{rank}")
        _enter(step, number if not rank else step.next_number(), names[-1] if rank else name, box, own)
    return step.change("alter", name, number, box, part, target, stage="torn", split_into=tuple(names))


def _enter(step: Step, number: int, name: str, box: Box, footprint: BoolArray) -> None:
    """Enter what became of a building in the instance map and the table."""
    footprint, box = tighten(footprint, box)
    step.instances[crop(box)][footprint] = number
    step.enter(number, name, box, int(footprint.sum()), oriented_extent(footprint)[0])


def _extend(step: Step, row: int, open_rows: dict[int, int], blocked: BoolArray) -> int:
    """Build an annex onto one side of a building; returns its pixels, 0 where none fits.

    Args:
        step: The step.
        row: The building.
        open_rows: Rows of the buildings that may still change, by number.
        blocked: bool ``[H, W]``, ground no annex may cover; what stands there is judged by itself.
    """
    objects, rng, rules = step.state.objects, step.rng, step.rules
    area_px = float(objects.areas_px[row])
    wanted_px = min(rng.uniform(*_ANNEX) * area_px, step.left_px + AIM * step.target_px)
    choice = creation_size(step.stock, wanted_px, wanted_px * (1 + AIM), rules.min_area_px, rng)
    if choice is None:
        return 0
    exemplar, scale = choice
    box, (whole, _) = objects.box(row), step.object(row)
    angle = float(objects.orientations_rad[row]) + math.pi / 2 * int(rng.integers(4))
    direction = np.array([-math.sin(angle), math.cos(angle)])
    points = np.argwhere(whole) + np.array(box[:2])
    centre = points.mean(axis=0)
    reach = float(((points - centre) @ direction).max())
    side = scale * math.sqrt(exemplar.area_px)
    mirrored = bool(rng.random() < 0.5)
    places = np.rint(centre + direction * (reach + _HALVES[:, None] * side - _OVERLAP_PX)).astype(np.int64)
    directions = [float(objects.orientations_rad[row])] * len(places)
    for laid in lay_any(places, exemplar, scale, mirrored, blocked, directions):
        if (changed := _annex(step, row, laid.box, laid.footprint, open_rows)) is not None:
            annex, merged = changed
            return _join(step, row, laid.box, annex, merged, laid.placement)
    return 0


def _annex(
    step: Step, row: int, box: Box, footprint: BoolArray, open_rows: dict[int, int]
) -> tuple[BoolArray, list[int]] | None:
    """What of a laid footprint may become part of a building, and the rows of those it joins; None where it may not.

    It touches its building, lies on free ground, and keeps its distance to all others, or touches one of them, too.
    """
    objects, least_px = step.state.objects, step.rules.min_area_px
    wide = pad_box(box, step.rules.min_gap_px, step.mask.shape)
    where = np.s_[box[0] - wide[0] : box[2] - wide[0], box[1] - wide[1] : box[3] - wide[1]]
    numbers = np.maximum(step.instances[crop(wide)], step.state.instances[crop(wide)])
    own = numbers == objects.numbers[row]
    free = step.ground[step.state.mask[crop(box)]] & ~step.closed[crop(box)] & (numbers[where] == 0)
    annex = footprint & ~own[where]
    if annex.sum() < least_px or not free[annex].all() or ndimage.label(annex)[1] != 1:
        return None
    grown = np.zeros(numbers.shape, dtype=bool)
    grown[where] = annex
    touched = np.unique(numbers[dilate(grown, 1)])
    near = np.unique(numbers[dilate(grown, step.rules.min_gap_px)])
    others = touched[(touched > 0) & (touched != objects.numbers[row])]
    fits = annex.sum() <= step.left_px + TOLERANCE * step.target_px
    if objects.numbers[row] not in touched or len(near[near > 0]) != len(others) + 1 or not fits:
        return None
    if any(int(number) not in open_rows for number in others):
        return None
    return annex, [open_rows[int(number)] for number in others]


def _join(step: Step, row: int, box: Box, annex: BoolArray, merged: list[int], placement: Placement) -> int:
    """Write an annex; buildings it joins become one with the first, and lose their ids."""
    objects = step.state.objects
    number, name = int(objects.numbers[row]), objects.ids[row]
    annex, box = tighten(annex, box)
    boxes = np.concatenate([objects.boxes[[row, *merged]], [box]])
    row0, col0, row1, col1 = (int(v) for v in (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)))
    hull = (row0, col0, row1, col1)
    step.instances[crop(box)][annex] = number
    for index in merged:
        where = crop(objects.box(index))
        step.instances[where][step.instances[where] == objects.numbers[index]] = number
    step.altered += [row, *merged]
    step.replaced += [row, *merged]
    outline = step.instances[crop(hull)] == number
    area_px = int(annex.sum()) + int(objects.areas_px[[row, *merged]].sum())
    step.enter(number, name, hull, area_px, oriented_extent(outline)[0])
    names = tuple(objects.ids[index] for index in merged)
    return step.change("alter", name, number, box, annex, step.building, placement, "extended", merged_from=names)
